"""Numba kernels over CSR rows and a table of vectors: the CPU engine of `RowTable`.

Each output row (or table row) is owned by one thread and summed in a fixed order, so results do
not depend on the number of threads. Signatures are lazy: read-only (memory-mapped) arrays work.
"""

import numpy as np
from numba import njit, prange

# Reassociation lets the compiler use vector instructions for sums; NaN and inf keep their meaning.
_FAST = {"reassoc", "contract", "nsz"}


@njit(cache=True, parallel=True, fastmath=_FAST)
def bag(indptr, indices, data, table, out):
    """out[i] = sum over the entries p of row i of data[p] * table[indices[p]]."""
    width = table.shape[1]
    for i in prange(indptr.shape[0] - 1):
        row = out[i]
        row[:] = 0
        for p in range(indptr[i], indptr[i + 1]):
            vector, value = table[indices[p]], data[p]
            for j in range(width):
                row[j] += value * vector[j]


@njit(cache=True, parallel=True, fastmath=_FAST)
def sampled_dot(indptr, indices, queries, table, bias, out):
    """out[p] = <queries[i], table[indices[p]]> + bias[indices[p]] for the entries p of row i."""
    width = table.shape[1]
    for i in prange(indptr.shape[0] - 1):
        query = queries[i]
        for p in range(indptr[i], indptr[i + 1]):
            vector = table[indices[p]]
            total = np.float32(0.0)
            for j in range(width):
                total += query[j] * vector[j]
            out[p] = total + bias[indices[p]]


@njit(cache=True)
def group_by_column(indptr, indices, slot):
    """Group the entries of a CSR pattern by column, in the order columns first appear.

    `slot` is scratch of one int64 a column, all -1, and is handed back all -1. Returns the touched
    columns, the start of each one's group, and for each grouped entry its row and its position.
    """
    nnz = indices.shape[0]
    touched = np.empty(nnz, dtype=indices.dtype)
    counts = np.zeros(nnz + 1, dtype=np.int64)
    n_touched = 0
    for p in range(nnz):
        column = indices[p]
        if slot[column] < 0:
            slot[column] = n_touched
            touched[n_touched] = column
            n_touched += 1
        counts[slot[column] + 1] += 1
    starts = np.cumsum(counts[: n_touched + 1])
    cursor = starts.copy()
    rows = np.empty(nnz, dtype=np.int64)
    positions = np.empty(nnz, dtype=np.int64)
    for i in range(indptr.shape[0] - 1):
        for p in range(indptr[i], indptr[i + 1]):
            target = cursor[slot[indices[p]]]
            cursor[slot[indices[p]]] += 1
            rows[target], positions[target] = i, p
    for t in range(n_touched):
        slot[touched[t]] = -1
    return touched[:n_touched], starts, rows, positions


@njit(cache=True, parallel=True, fastmath=_FAST)
def adagrad_rows(
    touched, starts, rows, positions, data, queries, table, bias, squares, lr, decay, learn_bias,
    unit_rows,
):  # fmt: skip
    """Update each touched table row by row-wise Adagrad, without storing its gradient.

    The gradient of row c is the sum of data[p] * queries[row of p] over the entries p of column c;
    `squares` holds one accumulated mean square a row. With `unit_rows` the row is then brought
    back to length 1.
    """
    width = table.shape[1]
    for t in prange(touched.shape[0]):
        c = touched[t]
        gradient = np.zeros(width, dtype=np.float32)
        bias_gradient = np.float32(0.0)
        for q in range(starts[t], starts[t + 1]):
            value, query = data[positions[q]], queries[rows[q]]
            bias_gradient += value
            for j in range(width):
                gradient[j] += value * query[j]
        total = np.float32(0.0)
        for j in range(width):
            total += gradient[j] * gradient[j]
        squares[c] += total / np.float32(width)
        rate = lr / (np.sqrt(squares[c]) + np.float32(1e-8))
        shrink = np.float32(1.0) - lr * decay
        for j in range(width):
            table[c, j] = shrink * table[c, j] - rate * gradient[j]
        if learn_bias:
            bias[c] -= rate * bias_gradient
        if unit_rows:
            length = np.float32(0.0)
            for j in range(width):
                length += table[c, j] * table[c, j]
            length = max(np.sqrt(length), np.float32(1e-12))
            for j in range(width):
                table[c, j] /= length


@njit(cache=True, parallel=True, fastmath=_FAST)
def adam_rows(
    touched, starts, rows, positions, data, queries, table, mean, squares, counts, lr, decay
):
    """Update each touched table row by Adam; untouched rows and their moments wait (lazy Adam).

    `counts` holds the number of updates of each row, for the correction of the moments' bias.
    """
    width = table.shape[1]
    beta1, beta2 = np.float32(0.9), np.float32(0.999)
    one = np.float32(1.0)
    for t in prange(touched.shape[0]):
        c = touched[t]
        gradient = np.zeros(width, dtype=np.float32)
        for q in range(starts[t], starts[t + 1]):
            value, query = data[positions[q]], queries[rows[q]]
            for j in range(width):
                gradient[j] += value * query[j]
        counts[c] += 1
        first = one / (one - beta1 ** np.float32(counts[c]))
        second = one / (one - beta2 ** np.float32(counts[c]))
        shrink = one - lr * decay
        for j in range(width):
            g = gradient[j]
            mean[c, j] = beta1 * mean[c, j] + (one - beta1) * g
            squares[c, j] = beta2 * squares[c, j] + (one - beta2) * g * g
            denominator = np.sqrt(squares[c, j] * second) + np.float32(1e-8)
            table[c, j] = shrink * table[c, j] - lr * mean[c, j] * first / denominator
