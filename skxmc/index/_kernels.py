"""Numba kernel of the balanced 2-means split: one node of the cluster hierarchy at a time."""

import numpy as np
from numba import njit


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
