"""Numba kernel of one-vs-all SVMs: a block of labels is trained side by side, on the same rows.

A row's features are read once for all labels of a block, whose weights of a feature lie next to
each other, so that a processor's vectors work on several labels at once. What a label learns does
not depend on its company.
"""

import numpy as np
from numba import njit

from skxmc._numba_cache import CACHE
from skxmc.heads._kernels import shuffle

# Labels of a block.
WIDTH = 64
_FAST = {"reassoc", "contract", "nsz", "nnan"}
_ZERO, _ONE, _HALF = np.float32(0), np.float32(1), np.float32(0.5)


@njit(cache=CACHE, nogil=True)
def fit_block(csr, least, squares, signs, costs, tol, max_iter, seed):
    """Minimise |w|^2 / 2 + sum_i C_i max(0, 1 - y_i w.x_i)^2 for each label, by dual descent.

    `csr` = (indptr, indices, data) of the rows; `squares` are their squared lengths, with 1 for the
    bias feature. `signs` is (n_rows, WIDTH) int8: 1 where a row has the label, else -1; labels that
    no row has stay at zero. `costs` is (2, WIDTH) float32: C of the rows without and with the
    label. Each sweep visits all rows, in the same order for all labels; a label is done with the
    sweep in which its projected gradients differ by at most `tol`. Returns the weights,
    (n_features, WIDTH), with 0 for those smaller than `least` of their feature, and the weights of
    the bias feature.
    """
    weights = np.zeros((least.shape[0], WIDTH), dtype=np.float32)
    bias, margins, steps, largest, smallest = (
        np.zeros(WIDTH, dtype=np.float32),
        np.zeros(WIDTH, dtype=np.float32),
        np.zeros(WIDTH, dtype=np.float32),
        np.zeros(WIDTH, dtype=np.float32),
        np.zeros(WIDTH, dtype=np.float32),
    )
    alpha = np.zeros(signs.shape, dtype=np.float32)
    slopes = _HALF / costs
    open_labels = _labels_with_rows(signs)
    order = np.arange(squares.shape[0])
    for _ in range(max_iter):
        largest[:], smallest[:] = -np.inf, np.inf
        seed = shuffle(order, seed)
        for i in order:
            margins[:] = bias
            _add_products(csr, i, weights, margins)
            moved = _find_steps(
                margins, signs[i], squares[i], slopes, open_labels, alpha[i], steps, largest,
                smallest,
            )  # fmt: skip
            if moved:
                bias += steps
                _add_row(csr, i, steps, weights)
        n_open = 0
        for b in range(WIDTH):
            if largest[b] - smallest[b] <= tol:
                open_labels[b] = _ZERO
            n_open += open_labels[b] != _ZERO
        if n_open == 0:
            break
    for f in range(least.shape[0]):
        for b in range(WIDTH):
            if abs(weights[f, b]) < least[f]:
                weights[f, b] = _ZERO
    return weights, bias


@njit(cache=CACHE, nogil=True)
def _labels_with_rows(signs):
    """1 for labels that a row has, else 0."""
    out = np.zeros(WIDTH, dtype=np.float32)
    for i in range(signs.shape[0]):
        for b in range(WIDTH):
            if signs[i, b] > 0:
                out[b] = _ONE
    return out


@njit(cache=CACHE, nogil=True, fastmath=_FAST)
def _add_products(csr, i, weights, margins):
    """Add the products of row i with the weights of each label; four features at a time."""
    indptr, indices, data = csr
    p, stop = indptr[i], indptr[i + 1]
    while p + 4 <= stop:
        x0, x1, x2, x3 = data[p], data[p + 1], data[p + 2], data[p + 3]
        w0, w1 = weights[np.uint64(indices[p])], weights[np.uint64(indices[p + 1])]
        w2, w3 = weights[np.uint64(indices[p + 2])], weights[np.uint64(indices[p + 3])]
        for b in range(WIDTH):
            margins[b] += x0 * w0[b] + x1 * w1[b] + x2 * w2[b] + x3 * w3[b]
        p += 4
    while p < stop:
        x, w = data[p], weights[np.uint64(indices[p])]
        for b in range(WIDTH):
            margins[b] += x * w[b]
        p += 1


@njit(cache=CACHE, nogil=True, error_model="numpy", fastmath=_FAST)
def _find_steps(margins, signs, square, slopes, open_labels, alpha, steps, largest, smallest):
    """Move a row's dual variables to their best; `steps` are what they add to weights.

    Projected gradients widen `largest` and `smallest`. Says whether any variable moved.
    """
    moved = _ZERO
    for b in range(WIDTH):
        sign = np.float32(signs[b])
        slope = slopes[1, b] if sign > _ZERO else slopes[0, b]
        gradient = sign * margins[b] - _ONE + alpha[b] * slope
        projected = gradient if alpha[b] > _ZERO or gradient < _ZERO else _ZERO
        largest[b] = projected if projected > largest[b] else largest[b]
        smallest[b] = projected if projected < smallest[b] else smallest[b]
        step = -gradient / (square + slope)
        step = open_labels[b] * (step if step > -alpha[b] else -alpha[b])
        alpha[b] += step
        steps[b] = sign * step
        moved = max(moved, abs(step))
    return moved > _ZERO


@njit(cache=CACHE, nogil=True, fastmath=_FAST)
def _add_row(csr, i, steps, weights):
    """Add row i times each label's step to the weights."""
    indptr, indices, data = csr
    for p in range(indptr[i], indptr[i + 1]):
        x, w = data[p], weights[np.uint64(indices[p])]
        for b in range(WIDTH):
            w[b] += x * steps[b]
