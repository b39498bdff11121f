"""The torch engine of RowTable: the same maths on any device, in bounded memory."""

import torch
from torch.nn import functional as F

from skxmc.ops._kernels import BIAS_BOUND

# Entries whose table rows are gathered at once in `dot`: 65,536 rows of 512 floats are 128 MiB.
_CHUNK = 65_536


def bag(table, batch):
    """Sum table rows as `RowTable.bag` says."""
    indices, indptr = batch.indices.long(), batch.indptr.long()
    return F.embedding_bag(
        indices,
        table.weight,
        indptr,
        mode="sum",
        per_sample_weights=batch.data.to(table.weight.dtype),
        include_last_offset=True,
    )


def dot(table, queries, batch):
    """Take dot products at the pattern as `RowTable.dot` says, a chunk of entries at a time."""
    weight, rows, indices = table.weight, batch.rows(), batch.indices.long()
    out = torch.empty(indices.shape[0], dtype=torch.float32, device=weight.device)
    for start in range(0, indices.shape[0], _CHUNK):
        part = slice(start, start + _CHUNK)
        vectors = weight[indices[part]]
        out[part] = (queries[rows[part]].to(vectors.dtype) * vectors).sum(dim=1)
    return out + table.bias[indices]


def update(table, batch, vectors, lr):
    """Update the rows that the batch touches, without asking the device how many there are."""
    n_entries = batch.indices.shape[0]
    columns, order = batch.indices.long().sort(stable=True)
    first = torch.ones_like(columns, dtype=torch.bool)
    first[1:] = columns[1:] != columns[:-1]
    group = torch.cumsum(first, 0) - 1
    # as many groups as there are entries: those beyond the last touched row are empty
    starts = torch.searchsorted(group, torch.arange(n_entries, device=group.device))
    real = starts < n_entries
    touched = columns[starts.masked_fill(~real, 0)]
    data = batch.data.float()[order]
    gradient = F.embedding_bag(
        batch.rows()[order], vectors.float(), starts, mode="sum", per_sample_weights=data
    )
    bias_gradient = torch.zeros_like(data).index_add_(0, group, data)
    update_rows(table, touched, gradient, bias_gradient, lr, real)


def dot_backward(table, batch, queries, lr):
    """Return the gradient of `dot` in its queries, and update the rows."""
    gradient = bag(table, batch)
    update(table, batch, queries, lr)
    return gradient


def update_rows(table, touched, gradient, bias_gradient, lr, real=None):
    """Update distinct rows by a gradient given as a dense matrix, one line a row.

    Lines that are not `real` stand for the first one again.
    """
    squares = table.state("squares", table.weight.shape[0], fill=table.initial_square)
    seen = squares[touched] + gradient.square().mean(dim=1)
    _write(squares, touched, seen, real)
    rate = lr / (seen.sqrt() + 1e-8)
    kept = table.weight[touched] * (1 - lr * table.weight_decay)
    moved = kept - rate[:, None] * gradient
    _write(table.weight, touched, F.normalize(moved) if table.unit_rows else moved, real)
    if table.has_bias:
        # the rate of the row is huge where all queries are zero
        bound = min(float(BIAS_BOUND) * lr, torch.finfo(rate.dtype).max)
        step = (rate * bias_gradient).clamp(-bound, bound)
        _write(table.bias, touched, table.bias[touched] - step, real)


def _write(target, rows, values, real):
    """Put values at distinct rows."""
    if real is not None:  # whoever writes twice writes the same
        mask = real if values.ndim == 1 else real[:, None]
        values = torch.where(mask, values, values[:1])
    target[rows] = values
