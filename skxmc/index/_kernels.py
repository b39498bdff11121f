"""Numba kernels of the index: the balanced 2-means split, and the learned weights of edges.

A split is one node of the cluster hierarchy. Edges are rows of label columns, one a cluster, padded
with -1 at the end; each row is owned by one thread.
"""

import numpy as np
from numba import njit, prange

from skxmc._numba_cache import CACHE
from skxmc.ops._kernels import largest, next_turn, row_length

_FAST = {"reassoc", "contract", "nsz"}
# e^x = 2^k e^r with k = round(x / log 2); log 2 in two parts, the first of few digits
_LOG2E = np.float32(1.4426950408889634)
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
_LOWEST = np.float32(-87.0)


@njit(cache=CACHE, parallel=True)
def balanced_splits(csr, rows, bounds, seeds, n_iterations, counter, n_parts):
    """Split each node rows[bounds[t]:bounds[t + 1]] by `balanced_split`, in place.

    `csr` = (indptr, indices, data, n_features); seeds[t] are places in node t. `n_parts` threads,
    each with its own scratch, take nodes in turns; the `counter` of these starts at 0.
    """
    for _ in prange(n_parts):
        sums = np.zeros((csr[3], 2))
        t = next_turn(counter)
        while t < seeds.shape[0]:
            node = rows[bounds[t] : bounds[t + 1]]
            if node.shape[0] > 1:
                node[:] = balanced_split(csr, node, seeds[t], n_iterations, sums)
            t = next_turn(counter)


@njit(cache=CACHE)
def balanced_split(csr, rows, seeds, n_iterations, sums):
    """Split `rows` into two halves by spherical 2-means with balanced assignment.

    `sums` (n_features, 2) is scratch, all zero, and is handed back all zero: the sums of both
    halves. Returns `rows` reordered: its first half (rounded up) is the left child.
    """
    n_rows = rows.shape[0]
    half = (n_rows + 1) // 2
    order = np.arange(n_rows)
    scores = _preferences(csr, rows, seeds, 1, False, sums)
    for iteration in range(n_iterations + 1):
        new_order = np.argsort(scores, kind="mergesort")
        if iteration > 0 and _same_split(order, new_order, half, n_rows):
            break
        order = new_order
        if iteration < n_iterations:
            scores = _preferences(csr, rows, order, half, True, sums)
    return rows[order]


@njit(cache=CACHE)
def _preferences(csr, rows, members, half, unit, sums):
    """Product of each row with the right centre less that with the left.

    Centres are the sums of the rows at the first `half` of the places `members`, and of those at
    the others, brought to length 1 if `unit`.
    """
    _add_up(csr, rows, members, half, sums)
    products = _products(csr, rows, sums)
    _clear(csr, rows[members], sums)
    if unit:
        for side in range(2):
            # the square of a sum's length is the sum of its products with its members
            own = members[:half] if side == 0 else members[half:]
            square = products[own, side].sum()
            if square > 0:
                products[:, side] /= np.sqrt(square)
    return products[:, 1] - products[:, 0]


@njit(cache=CACHE)
def _add_up(csr, rows, members, half, sums):
    indptr, indices, data, _ = csr
    for m in range(members.shape[0]):
        side = 0 if m < half else 1
        row = rows[members[m]]
        for p in range(indptr[row], indptr[row + 1]):
            sums[indices[p], side] += data[p]


@njit(cache=CACHE)
def _products(csr, rows, sums):
    indptr, indices, data, _ = csr
    products = np.empty((rows.shape[0], 2))
    for r in range(rows.shape[0]):
        left, right = 0.0, 0.0
        for p in range(indptr[rows[r]], indptr[rows[r] + 1]):
            left += data[p] * sums[indices[p], 0]
            right += data[p] * sums[indices[p], 1]
        products[r, 0], products[r, 1] = left, right
    return products


@njit(cache=CACHE)
def _clear(csr, rows, sums):
    indptr, indices, _, _ = csr
    for row in rows:
        for p in range(indptr[row], indptr[row + 1]):
            sums[indices[p], 0], sums[indices[p], 1] = 0.0, 0.0


@njit(cache=CACHE)
def _same_split(old, new, half, n_rows):
    left = np.zeros(n_rows, dtype=np.bool_)
    for r in range(half):
        left[old[r]] = True
    for r in range(half):
        if not left[new[r]]:
            return False
    return True


@njit(cache=CACHE)
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


@njit(cache=CACHE, fastmath=_FAST)
def sum_row(values):
    """Sum some numbers, many at a time."""
    total = np.float32(0.0)
    for j in range(values.shape[0]):
        total += values[j]
    return total


@njit(cache=CACHE, parallel=True)
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
        log_sums[c] = highest + np.log(sum_row(out))
        offset = log_gain - log_sums[c]
        for e in range(n):
            out[e] = min(row[e] + offset, np.float32(0.0))


@njit(cache=CACHE, parallel=True)
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
        total = sum_row(target)
        for e in range(n):
            target[e] -= total * shares[e]
