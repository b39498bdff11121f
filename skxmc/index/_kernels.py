"""Numba kernels of the index: the balanced 2-means split, and the learned weights of edges.

A split is one node of the cluster hierarchy. Edges are rows of label columns, one a cluster, padded
with -1 at the end; each row is owned by one thread.
"""

import numpy as np
from numba import njit, prange

from skxmc.ops._kernels import largest, row_length

_FAST = {"reassoc", "contract", "nsz"}
# e^x = 2^k e^r with k = round(x / log 2); log 2 in two parts, the first of few digits
_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOWEST = np.float32(-87.0)


@njit(cache=True)
def balanced_split(indptr, indices, data, rows, seed_a, seed_b, n_iterations, direction):
    """Split `rows` into two halves by spherical 2-means with balanced assignment.

    `direction` is scratch of one float64 a feature, all zero, and is handed back all zero. Returns
    `rows` reordered: its first half (rounded up) is the left child.
    """
    n_rows = rows.shape[0]
    half = (n_rows + 1) // 2
    order = np.arange(n_rows)
    scores = np.empty(n_rows)
    for iteration in range(n_iterations + 1):
        # the difference of the two normalised centres is all that an assignment needs
        if iteration == 0:
            _add(indptr, indices, data, rows[seed_a], 1.0, direction)
            _add(indptr, indices, data, rows[seed_b], -1.0, direction)
        else:
            _add_difference(indptr, indices, data, rows, order, half, direction)
        for r in range(n_rows):
            total = 0.0
            for p in range(indptr[rows[r]], indptr[rows[r] + 1]):
                total += data[p] * direction[indices[p]]
            scores[r] = -total
        for r in range(n_rows):
            for p in range(indptr[rows[r]], indptr[rows[r] + 1]):
                direction[indices[p]] = 0.0
        new_order = np.argsort(scores, kind="mergesort")
        if iteration > 0 and _same_split(order, new_order, half, n_rows):
            break
        order = new_order
    return rows[order]


@njit(cache=True)
def _add(indptr, indices, data, row, weight, target):
    for p in range(indptr[row], indptr[row + 1]):
        target[indices[p]] += weight * data[p]


@njit(cache=True)
def _add_difference(indptr, indices, data, rows, order, half, direction):
    """Direction = left centre / |left centre| - right centre / |right centre|."""
    n_rows = rows.shape[0]
    norms = np.zeros(2)
    for side in range(2):
        start, stop = (0, half) if side == 0 else (half, n_rows)
        for r in range(start, stop):
            _add(indptr, indices, data, rows[order[r]], 1.0, direction)
        # each feature's square is counted once: its entry is cleared when met
        for r in range(start, stop):
            row = rows[order[r]]
            for p in range(indptr[row], indptr[row + 1]):
                value = direction[indices[p]]
                norms[side] += value * value
                direction[indices[p]] = 0.0
    for side in range(2):
        start, stop = (0, half) if side == 0 else (half, n_rows)
        weight = 1.0 if side == 0 else -1.0
        if norms[side] > 0:
            weight /= np.sqrt(norms[side])
        for r in range(start, stop):
            _add(indptr, indices, data, rows[order[r]], weight, direction)


@njit(cache=True)
def _same_split(old, new, half, n_rows):
    left = np.zeros(n_rows, dtype=np.bool_)
    for r in range(half):
        left[old[r]] = True
    for r in range(half):
        if not left[new[r]]:
            return False
    return True


@njit(cache=True)
def exp_row(values, shift, out):
    """Write exp(values - shift) in float32: many at a time, which calls of exp are not.

    By the polynomial of the Cephes library. What is below e^-87 counts as that.
    """
    n = values.shape[0]
    powers = np.empty(n, dtype=np.int32)
    for j in range(n):
        x = max(values[j] - shift, _LOWEST)
        k = np.floor(x * _LOG2E + np.float32(0.5))
        r = x - k * _LN2_HIGH
        r -= k * _LN2_LOW
        y = np.float32(1.9875691500e-4)
        y = y * r + np.float32(1.3981999507e-3)
        y = y * r + np.float32(8.3334519073e-3)
        y = y * r + np.float32(4.1665795894e-2)
        y = y * r + np.float32(1.6666665459e-1)
        y = y * r + np.float32(5.0000001201e-1)
        out[j] = y * r * r + r + np.float32(1.0)
        powers[j] = (np.int32(k) + np.int32(127)) << np.int32(23)
    factors = powers.view(np.float32)
    for j in range(n):
        out[j] *= factors[j]


@njit(cache=True, fastmath=_FAST)
def _sum(values):
    total = np.float32(0.0)
    for j in range(values.shape[0]):
        total += values[j]
    return total


@njit(cache=True, parallel=True)
def edge_weights(logits, edges, rows, log_gain, log_weights, log_sums):
    """Log min(1, gain * softmax) over the edges of some clusters, and the log sum of exponentials.

    Other rows, and padding, stay as they are.
    """
    for r in prange(rows.shape[0]):
        c = rows[r]
        n = row_length(edges[c])
        row, out = logits[c, :n], log_weights[c, :n]
        highest = largest(row)
        exp_row(row, highest, out)
        log_sums[c] = highest + np.log(_sum(out))
        offset = log_gain - log_sums[c]
        for e in range(n):
            out[e] = min(row[e] + offset, np.float32(0.0))


@njit(cache=True, parallel=True)
def edge_weights_backward(logits, edges, rows, log_gain, log_sums, grad):
    """Turn the gradient of `edge_weights`' rows into that of their logits, in place.

    A weight that is cut at 1 has none.
    """
    for r in prange(rows.shape[0]):
        c = rows[r]
        n = row_length(edges[c])
        row, target = logits[c, :n], grad[c, :n]
        shares = np.empty(n, dtype=np.float32)
        exp_row(row, log_sums[c], shares)
        bound = log_sums[c] - log_gain
        for e in range(n):
            target[e] = target[e] if row[e] <= bound else np.float32(0.0)
        total = _sum(target)
        for e in range(n):
            target[e] -= total * shares[e]
