"""The torch engine of RowTable: the same maths on any device, in bounded memory."""

import torch
from torch.nn import functional as F

# Entries whose table rows are gathered at once in `dot`: 65,536 rows of 512 floats are 128 MiB.
_CHUNK = 65_536


def bag(weight, batch):
    """Sum table rows as `RowTable.bag` says."""
    indices, indptr = batch.indices.long(), batch.indptr.long()
    return F.embedding_bag(
        indices,
        weight,
        indptr,
        mode="sum",
        per_sample_weights=batch.data.to(weight.dtype),
        include_last_offset=True,
    )


def dot(weight, bias, queries, batch):
    """Take dot products at the pattern as `RowTable.dot` says, a chunk of entries at a time."""
    rows, indices = row_of_entry(batch.indptr), batch.indices.long()
    out = torch.empty(indices.shape[0], dtype=torch.float32, device=weight.device)
    for start in range(0, indices.shape[0], _CHUNK):
        part = slice(start, start + _CHUNK)
        vectors = weight[indices[part]]
        out[part] = (queries[rows[part]].to(vectors.dtype) * vectors).sum(dim=1)
    return out + bias[indices]


def update(table, batch, vectors, lr):
    """Update the rows that the batch touches."""
    touched, place = torch.unique(batch.indices.long(), return_inverse=True)
    pattern = torch.stack((place, row_of_entry(batch.indptr)))
    shape = (touched.shape[0], vectors.shape[0])
    gradient = torch.sparse.mm(
        torch.sparse_coo_tensor(pattern, batch.data.float(), shape, check_invariants=False),
        vectors.float(),
    )
    bias_gradient = torch.zeros(touched.shape[0], device=gradient.device)
    bias_gradient.index_add_(0, place, batch.data.float())
    update_rows(table, touched, gradient, bias_gradient, lr)


def update_rows(table, rows, gradient, bias_gradient, lr):
    """Update distinct rows by a gradient given as a dense matrix, one line a row."""
    if table.optimizer == "adam":
        _adam(table, rows, gradient, lr)
    else:
        _adagrad(table, rows, gradient, bias_gradient, lr)


def row_of_entry(indptr):
    """Row number of each entry of a CSR pattern."""
    lengths = indptr[1:] - indptr[:-1]
    return torch.repeat_interleave(torch.arange(lengths.shape[0], device=indptr.device), lengths)


def _adagrad(table, touched, gradient, bias_gradient, lr):
    squares = table.state("squares", table.weight.shape[0], fill=table.initial_square)
    squares[touched] += gradient.square().mean(dim=1)
    rate = lr / (squares[touched].sqrt() + 1e-8)
    kept = table.weight[touched] * (1 - lr * table.weight_decay)
    moved = kept - rate[:, None] * gradient
    table.weight[touched] = F.normalize(moved) if table.unit_rows else moved
    if table.has_bias:
        table.bias[touched] -= rate * bias_gradient


def _adam(table, touched, gradient, lr):
    shape = table.weight.shape
    mean, squares = table.state("mean", *shape), table.state("squares", *shape)
    counts = table.state("counts", shape[0], dtype=torch.int64)
    counts[touched] += 1
    steps = counts[touched][:, None].float()
    mean[touched] = 0.9 * mean[touched] + 0.1 * gradient
    squares[touched] = 0.999 * squares[touched] + 0.001 * gradient.square()
    direction = mean[touched] / (1 - 0.9**steps)
    scale = (squares[touched] / (1 - 0.999**steps)).sqrt() + 1e-8
    kept = table.weight[touched] * (1 - lr * table.weight_decay)
    table.weight[touched] = kept - lr * direction / scale
