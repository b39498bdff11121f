"""Numba kernels over CSR rows and a table of vectors: the CPU engine of `RowTable`.

Each output row (or table row) is owned by one thread and summed in a fixed order, so results do
not depend on the number of threads. Signatures are lazy: read-only (memory-mapped) arrays work.
"""

import numpy as np
from numba import njit, prange, types
from numba.extending import intrinsic

from skxmc._numba_cache import CACHE

# Reassociation lets the compiler use vector instructions for sums; NaN and inf keep their meaning.
_FAST = {"reassoc", "contract", "nsz"}
# Learning rates that a bias moves by in one step at most.
BIAS_BOUND = np.float32(30.0)
# Digits of the radix sort.
_BITS = 11
_BUCKETS = 1 << _BITS


@intrinsic
def next_turn(typingctx, counter):
    """Take a number: counter[0] before it is raised by 1, which no other thread gets as well.

    Threads that take their work in turns are all done at about the same time, however unequal it
    is. What a turn does must not depend on who takes it. The counter is to come from outside of the
    parallel function, which does not know that it changes.
    """

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        one = context.get_constant(types.int64, 1)
        return builder.atomic_rmw("add", array.data, one, "seq_cst")

    return types.int64(counter), generate


@njit(cache=CACHE, parallel=True, fastmath=_FAST)
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


@njit(cache=CACHE, parallel=True, fastmath=_FAST)
def grouped_dot(touched, starts, rows, positions, queries, table, bias, out):
    """out[p] = <queries[row of p], table[column of p]> + bias[column of p], column by column.

    A column's vector is fetched once for all its entries, and read once for each four of them; the
    queries of a batch stay in cache.
    """
    width = table.shape[1]
    for t in prange(touched.shape[0]):
        vector, offset = table[touched[t]], bias[touched[t]]
        q, stop = starts[t], starts[t + 1]
        while q + 4 <= stop:
            q0, q1 = queries[rows[q]], queries[rows[q + 1]]
            q2, q3 = queries[rows[q + 2]], queries[rows[q + 3]]
            s0, s1, s2, s3 = np.float32(0.0), np.float32(0.0), np.float32(0.0), np.float32(0.0)
            for j in range(width):
                value = vector[j]
                s0 += q0[j] * value
                s1 += q1[j] * value
                s2 += q2[j] * value
                s3 += q3[j] * value
            out[positions[q]], out[positions[q + 1]] = s0 + offset, s1 + offset
            out[positions[q + 2]], out[positions[q + 3]] = s2 + offset, s3 + offset
            q += 4
        while q < stop:
            query = queries[rows[q]]
            total = np.float32(0.0)
            for j in range(width):
                total += query[j] * vector[j]
            out[positions[q]] = total + offset
            q += 1


@njit(cache=CACHE)
def cut_rows(indptr, indices, data, rows):
    """Take rows of CSR as indptr, indices and data, without the checks that SciPy makes."""
    starts = np.zeros(rows.shape[0] + 1, dtype=indptr.dtype)
    for r in range(rows.shape[0]):
        starts[r + 1] = starts[r] + indptr[rows[r] + 1] - indptr[rows[r]]
    cut, values = np.empty(starts[-1], indices.dtype), np.empty(starts[-1], data.dtype)
    for r in range(rows.shape[0]):
        first, last = indptr[rows[r]], indptr[rows[r] + 1]
        cut[starts[r] : starts[r + 1]] = indices[first:last]
        values[starts[r] : starts[r + 1]] = data[first:last]
    return starts, cut, values


@njit(cache=CACHE)
def group_by_column(indptr, indices, n_columns):
    """Group the entries of a CSR pattern by column, columns ascending, entries in their order.

    Ascending, so that the rows of a large table are met in the order they have in memory: by radix
    sort, whose work does not grow with the table. Returns the touched columns, the start of each
    one's group, and for each grouped entry its row and its position.
    """
    nnz = indices.shape[0]
    positions = np.arange(nnz).astype(np.int32)
    other = np.empty(nnz, dtype=np.int32)
    shift = 0
    while (n_columns - 1) >> shift > 0:
        cursor = np.zeros(_BUCKETS + 1, dtype=np.int64)
        for p in range(nnz):
            cursor[((indices[p] >> shift) & (_BUCKETS - 1)) + 1] += 1
        for bucket in range(_BUCKETS):
            cursor[bucket + 1] += cursor[bucket]
        for q in range(nnz):
            p = positions[q]
            bucket = (indices[p] >> shift) & (_BUCKETS - 1)
            other[cursor[bucket]] = p
            cursor[bucket] += 1
        positions, other = other, positions
        shift += _BITS
    row_of = np.empty(nnz, dtype=np.int32)
    for i in range(indptr.shape[0] - 1):
        row_of[indptr[i] : indptr[i + 1]] = i
    touched = np.empty(nnz, dtype=indices.dtype)
    starts = np.empty(nnz + 1, dtype=np.int64)
    n_touched = 0
    for q in range(nnz):
        column = indices[positions[q]]
        if n_touched == 0 or column != touched[n_touched - 1]:
            touched[n_touched] = column
            starts[n_touched] = q
            n_touched += 1
    starts[n_touched] = nnz
    return touched[:n_touched], starts[: n_touched + 1], row_of[positions], positions


@njit(cache=CACHE, fastmath=_FAST)
def _sum_group(start, stop, rows, positions, data, queries, gradient):
    """Fill gradient with the sum of data[position] * queries[row]; returns the sum of data.

    Four entries a pass: the sum is read and written once for all four.
    """
    width = gradient.shape[0]
    gradient[:] = 0
    total = np.float32(0.0)
    q = start
    while q + 4 <= stop:
        v0, v1 = data[positions[q]], data[positions[q + 1]]
        v2, v3 = data[positions[q + 2]], data[positions[q + 3]]
        q0, q1 = queries[rows[q]], queries[rows[q + 1]]
        q2, q3 = queries[rows[q + 2]], queries[rows[q + 3]]
        total += (v0 + v1) + (v2 + v3)
        for j in range(width):
            gradient[j] += (v0 * q0[j] + v1 * q1[j]) + (v2 * q2[j] + v3 * q3[j])
        q += 4
    while q < stop:
        value, query = data[positions[q]], queries[rows[q]]
        total += value
        for j in range(width):
            gradient[j] += value * query[j]
        q += 1
    return total


@njit(cache=CACHE, fastmath=_FAST)
def _adagrad_row(c, gradient, row, squares, lr, decay, unit_rows):
    """Update one row; returns its rate."""
    width = row.shape[0]
    total = np.float32(0.0)
    for j in range(width):
        total += gradient[j] * gradient[j]
    squares[c] += total / np.float32(width)
    rate = lr / (np.sqrt(squares[c]) + np.float32(1e-8))
    shrink = np.float32(1.0) - lr * decay
    for j in range(width):
        row[j] = shrink * row[j] - rate * gradient[j]
    if unit_rows:
        length = np.float32(0.0)
        for j in range(width):
            length += row[j] * row[j]
        inverse = np.float32(1.0) / max(np.sqrt(length), np.float32(1e-12))
        for j in range(width):
            row[j] *= inverse
    return rate


@njit(cache=CACHE)
def _bounded(step, lr):
    """Bound the step of a bias: it shares the rate of its row, which is huge for zero queries."""
    bound = BIAS_BOUND * lr
    return min(max(step, -bound), bound)


@njit(cache=CACHE, parallel=True, fastmath=_FAST)
def adagrad_rows(
    touched, starts, rows, positions, data, queries, table, bias, squares, lr, decay, learn_bias,
    unit_rows, n_parts,
):  # fmt: skip
    """Update each touched table row by row-wise Adagrad, without storing its gradient.

    The gradient of row c is the sum of data[p] * queries[row of p] over the entries p of column c;
    `squares` holds one accumulated mean square a row. With `unit_rows` the row is then brought
    back to length 1. The columns are cut into `n_parts` runs of about equally many entries.
    """
    nnz = positions.shape[0]
    for part in prange(n_parts):
        gradient = np.empty(table.shape[1], dtype=np.float32)
        first = np.searchsorted(starts[:-1], part * nnz // n_parts)
        last = np.searchsorted(starts[:-1], (part + 1) * nnz // n_parts)
        for t in range(first, last):
            c = touched[t]
            bias_gradient = _sum_group(
                starts[t], starts[t + 1], rows, positions, data, queries, gradient
            )
            rate = _adagrad_row(c, gradient, table[c], squares, lr, decay, unit_rows)
            if learn_bias:
                bias[c] -= _bounded(rate * bias_gradient, lr)


@njit(cache=CACHE)
def _all_zero(start, stop, positions, data):
    for q in range(start, stop):
        if data[positions[q]] != 0:
            return False
    return True


@njit(cache=CACHE, parallel=True, fastmath=_FAST)
def dot_backward(
    touched, starts, rows, positions, data, queries, table, bias, squares, lr, decay, learn_bias,
    unit_rows, n_parts, out,
):  # fmt: skip
    """Backward of `grouped_dot` and `adagrad_rows` in one sweep: each row is fetched once.

    `out` (n_parts, n_rows, width) receives the gradient of the queries under the rows as they were
    before, one share a part; the caller adds the parts up, always in the same order. Entries whose
    data are 0 cost nothing, and rows that have no others are not fetched but for their decay.
    """
    width, nnz = table.shape[1], positions.shape[0]
    for part in prange(n_parts):
        gradient = np.empty(width, dtype=np.float32)
        share = out[part]
        share[:] = 0
        first = np.searchsorted(starts[:-1], part * nnz // n_parts)
        last = np.searchsorted(starts[:-1], (part + 1) * nnz // n_parts)
        for t in range(first, last):
            c = touched[t]
            vector = table[c]
            if decay == 0 and _all_zero(starts[t], starts[t + 1], positions, data):
                continue
            gradient[:] = 0
            bias_gradient = np.float32(0.0)
            for q in range(starts[t], starts[t + 1]):
                value = data[positions[q]]
                if value == 0:
                    continue
                query, target = queries[rows[q]], share[rows[q]]
                bias_gradient += value
                for j in range(width):
                    gradient[j] += value * query[j]
                    target[j] += value * vector[j]
            rate = _adagrad_row(c, gradient, vector, squares, lr, decay, unit_rows)
            if learn_bias:
                bias[c] -= _bounded(rate * bias_gradient, lr)


@njit(cache=CACHE)
def splitmix(seed, j):
    """Return the j-th number of splitmix64's sequence; its upper bits are the better ones."""
    z = seed + np.uint64(j + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)


@njit(cache=CACHE, parallel=True)
def drop(values, seed, bound, scale, out):
    """out[j] = scale * values[j] where the upper half of a hash of (seed, j) is not below bound."""
    for j in prange(values.shape[0]):
        drawn = splitmix(seed, j) >> np.uint64(32)
        out[j] = values[j] * scale if drawn >= bound else np.float32(0.0)


@njit(cache=CACHE, parallel=True, fastmath=_FAST)
def to_length(values, scaled, factors, length, smallest):
    """scaled[i] = factors[i] * values[i], a row of that length; at no less than the smallest."""
    width = values.shape[1]
    for i in prange(values.shape[0]):
        row, target = values[i], scaled[i]
        total = np.float32(0.0)
        for j in range(width):
            total += row[j] * row[j]
        factors[i] = length / max(np.sqrt(total), smallest)
        for j in range(width):
            target[j] = factors[i] * row[j]


@njit(cache=CACHE, parallel=True, fastmath=_FAST)
def to_length_backward(grad, scaled, factors, out, length):
    """Gradient of `to_length`: what points along a row has no effect on it."""
    width = grad.shape[1]
    for i in prange(grad.shape[0]):
        row, unit, target = grad[i], scaled[i], out[i]
        along = np.float32(0.0)
        for j in range(width):
            along += row[j] * unit[j]
        along /= length * length
        for j in range(width):
            target[j] = factors[i] * (row[j] - along * unit[j])


@njit(cache=CACHE)
def row_length(labels):
    """Count the labels in front of the padding of a row of edges."""
    n = 0
    for e in range(labels.shape[0]):
        n += labels[e] >= 0
    return n


@njit(cache=CACHE)
def largest(values):
    """Largest of some numbers, in four chains that need not wait for each other."""
    low = np.float32(-np.inf)
    a, b, c, d = low, low, low, low
    n = values.shape[0] // 4 * 4
    for j in range(0, n, 4):
        a, b = max(a, values[j]), max(b, values[j + 1])
        c, d = max(c, values[j + 2]), max(d, values[j + 3])
    for j in range(n, values.shape[0]):
        a = max(a, values[j])
    return max(max(a, b), max(c, d))
