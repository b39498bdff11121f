"""The torch engine of RowTable: the same maths on any device, in bounded memory."""

import torch
from torch.nn import functional as F

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
    weight, rows, indices = table.weight, row_of_entry(batch.indptr), batch.indices.long()
    out = torch.empty(indices.shape[0], dtype=torch.float32, device=weight.device)
    for start in range(0, indices.shape[0], _CHUNK):
        part = slice(start, start + _CHUNK)
        vectors = weight[indices[part]]
        out[part] = (queries[rows[part]].to(vectors.dtype) * vectors).sum(dim=1)
    return out + table.bias[indices]


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


def dot_backward(table, batch, queries, lr):
    """Return the gradient of `dot` in its queries, and update the rows."""
    gradient = bag(table, batch)
    update(table, batch, queries, lr)
    return gradient


def row_of_entry(indptr):
    """Row number of each entry of a CSR pattern."""
    lengths = indptr[1:] - indptr[:-1]
    return torch.repeat_interleave(torch.arange(lengths.shape[0], device=indptr.device), lengths)


def update_rows(table, touched, gradient, bias_gradient, lr):
    """Update distinct rows by a gradient given as a dense matrix, one line a row."""
    squares = table.state("squares", table.weight.shape[0], fill=table.initial_square)
    total = gradient.square().sum(dim=1)
    if table.has_bias:  # one more entry: where all queries are zero its steps would have no bound
        total = total + bias_gradient.square()
    squares[touched] += total / gradient.shape[1]
    rate = lr / (squares[touched].sqrt() + 1e-8)
    kept = table.weight[touched] * (1 - lr * table.weight_decay)
    moved = kept - rate[:, None] * gradient
    table.weight[touched] = F.normalize(moved) if table.unit_rows else moved
    if table.has_bias:
        table.bias[touched] -= rate * bias_gradient
