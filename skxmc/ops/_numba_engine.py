"""The CPU engine of RowTable: torch tensors handed to Numba kernels without copies."""

import numba
import numpy as np
import torch

from skxmc.ops import _kernels


def bag(table, batch):
    """Sum table rows as `RowTable.bag` says."""
    out = torch.empty(batch.indptr.shape[0] - 1, table.weight.shape[1])
    csr = (batch.indptr.numpy(), batch.indices.numpy(), batch.data.numpy())
    _kernels.bag(*csr, table.weight.numpy(), out.numpy())
    return out


def dot(table, queries, batch):
    """Take dot products at the pattern as `RowTable.dot` says."""
    out = torch.empty(batch.indices.shape[0])
    arrays = (queries.detach().numpy(), table.weight.numpy(), table.bias.numpy(), out.numpy())
    _kernels.grouped_dot(*_groups(table, batch), *arrays)
    return out


def update(table, batch, vectors, lr):
    """Update the rows that the batch touches."""
    _kernels.adagrad_rows(*_update_arguments(table, batch, vectors, lr))


def dot_backward(table, batch, queries, lr):
    """Return the gradient of `dot` in its queries, and update the rows in the same sweep."""
    n_parts = numba.get_num_threads()
    out = torch.empty(n_parts, *queries.shape)
    _kernels.dot_backward(*_update_arguments(table, batch, queries, lr), out.numpy())
    return out[0] if n_parts == 1 else out.sum(dim=0)


def _update_arguments(table, batch, vectors, lr):
    squares = table.state("squares", table.weight.shape[0], fill=table.initial_square)
    return (
        *_groups(table, batch),
        batch.data.numpy(),
        vectors.detach().numpy(),
        table.weight.numpy(),
        table.bias.numpy(),
        squares.numpy(),
        np.float32(lr),
        np.float32(table.weight_decay),
        table.has_bias,
        table.unit_rows,
        numba.get_num_threads(),
    )


def _groups(table, batch):
    """Entries grouped by column; forward, backward and update of one pattern share the work."""
    if table.grouped is None or table.grouped[0] is not batch.indices:
        pattern = (batch.indptr.numpy(), batch.indices.numpy())
        groups = _kernels.group_by_column(*pattern, table.weight.shape[0])
        table.grouped = (batch.indices, groups)
    return table.grouped[1]
