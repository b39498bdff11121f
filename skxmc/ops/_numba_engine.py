"""The CPU engine of RowTable: torch tensors handed to Numba kernels without copies."""

import numpy as np
import torch

from skxmc.ops import _kernels


def bag(weight, batch):
    """Sum table rows as `RowTable.bag` says."""
    out = torch.empty(batch.indptr.shape[0] - 1, weight.shape[1])
    _kernels.bag(*_csr(batch), weight.numpy(), out.numpy())
    return out


def dot(weight, bias, queries, batch):
    """Take dot products at the pattern as `RowTable.dot` says."""
    out = torch.empty(batch.indices.shape[0])
    arrays = (queries.detach().numpy(), weight.numpy(), bias.numpy(), out.numpy())
    _kernels.sampled_dot(batch.indptr.numpy(), batch.indices.numpy(), *arrays)
    return out


def update(table, batch, vectors, lr):
    """Update the rows that the batch touches."""
    n_rows, width = table.weight.shape
    slot = table.state("slot", n_rows, fill=-1, dtype=torch.int64).numpy()
    groups = _kernels.group_by_column(batch.indptr.numpy(), batch.indices.numpy(), slot)
    gradient = (batch.data.numpy(), vectors.detach().numpy())
    rates = (np.float32(lr), np.float32(table.weight_decay))
    weight, bias = table.weight.numpy(), table.bias.numpy()
    if table.optimizer == "adam":
        moments = [table.state(name, n_rows, width).numpy() for name in ("mean", "squares")]
        counts = table.state("counts", n_rows, dtype=torch.int64).numpy()
        _kernels.adam_rows(*groups, *gradient, weight, *moments, counts, *rates)
    else:
        squares = table.state("squares", n_rows, fill=table.initial_square).numpy()
        flags = (table.has_bias, table.unit_rows)
        _kernels.adagrad_rows(*groups, *gradient, weight, bias, squares, *rates, *flags)


def _csr(batch):
    return batch.indptr.numpy(), batch.indices.numpy(), batch.data.numpy()
