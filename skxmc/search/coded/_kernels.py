"""Numba kernels that choose, for one row, the labels worth a better look, by vectors of few bits.

First by one bit a dimension, which tells the best seventh of a shortlist, then by four bits, which
hardly err by more than a place or two.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from skxmc._numba_cache import CACHE
from skxmc.search.numeric._kernels import count_bits, round_query
from skxmc.search.numeric._vectors import EDGES, common_of_eight, fetch_row, products_of_four_halves
from skxmc.search.paths._kernels import END, ENOUGH, NEXT

_SUMS = {"reassoc", "contract", "nsz"}
# Whole numbers that stand for an embedding beside one-bit labels: -7 to 7, in four planes of bits.
_LARGEST = np.float32(7.0)


class CodeScratch(NamedTuple):
    """Memory of one thread."""

    bytes: np.ndarray  # (2 * code_width,) int8, an embedding in whole numbers
    numbers: np.ndarray  # (64 * bit_width,) int64, an embedding in smaller ones
    planes: np.ndarray  # (4, bit_width) uint64, the bits of these numbers
    common: (
        np.ndarray
    )  # (reach + 7,) int64, of a cluster's edges: sums of the numbers at their bits


def make_code_scratch(code_width: int, bit_width: int, reach: int) -> CodeScratch:
    """Allocate memory for codes of these widths, and for `reach` paths."""
    return CodeScratch(
        np.empty(2 * code_width, np.int8),
        np.zeros(64 * bit_width, np.int64),
        np.empty((4, bit_width), np.uint64),
        np.empty(reach + EDGES - 1, np.int64),
    )


@njit(cache=CACHE, nogil=True)
def follow_paths(graph, embedding, paths, scratch, logit):
    """List the paths before the stops, with logits of their labels by one bit a dimension.

    The embedding is rounded to four bits, so that a product is four counts of common bits. Returns
    how many paths there are. All clusters in one function: to hand arrays to another one for each
    takes as long as to count.
    """
    constant, step, total = _round_query(embedding, graph.bit_axes, scratch.numbers)
    planes, common = scratch.planes, scratch.common
    _fill_planes(scratch.numbers, planes)
    n = 0
    for b in range(paths.base.shape[0]):
        start, size = paths.place[b, NEXT], paths.place[b, ENOUGH] - paths.place[b, NEXT]
        if size <= 0:
            continue
        bits = graph.edge_bits[start : paths.place[b, END]]
        rest = bits.shape[0] // EDGES * EDGES
        for q in range(0, min(rest, size), EDGES):
            common_of_eight(bits[q:rest], planes, common[q:])
        if size > rest:
            _count_rest(bits[rest:], planes, common[rest:size])
        scale, bias = graph.edge_scale[start : start + size], graph.edge_bias[start : start + size]
        labels, log_weights = graph.labels[start : start + size], graph.log_weights[start:]
        own_logit, own_label, own_path = logit[n:], paths.label[n:], paths.path[n:]
        base = paths.base[b]
        for q in range(size):
            twice = np.float32(2.0) * np.float32(common[q])
            own_logit[q] = constant + step * scale[q] * (twice - total) + bias[q]
        for q in range(size):
            own_label[q], own_path[q] = labels[q], base + log_weights[q]
        n += size
    return n


@njit(cache=CACHE, nogil=True, fastmath=_SUMS)
def _round_query(embedding, axes, numbers):
    """Round an embedding to small whole numbers times a step; its product with the labels' mean.

    Returns that product, the step, and the sum of the numbers.
    """
    constant, largest = np.float32(0.0), np.float32(0.0)
    for j in range(embedding.shape[0]):
        constant += embedding[j] * axes[0, j]
    for j in range(embedding.shape[0]):
        largest = max(largest, abs(embedding[j] * axes[1, j]))
    step = largest / _LARGEST
    inverse = np.float32(1.0) / step if step > 0 else np.float32(0.0)
    total = np.int64(0)
    for j in range(embedding.shape[0]):
        # shifted up to be positive, so that cutting off is rounding
        shifted = embedding[j] * axes[1, j] * inverse + np.float32(8.5)
        numbers[j] = np.int64(np.int32(shifted)) - 8
        total += numbers[j]
    return constant, step, np.float32(total)


@njit(cache=CACHE, nogil=True)
def _fill_planes(numbers, planes):
    """Spread numbers over planes of bits; neighbours go to the same bit of neighbouring words."""
    planes[:] = 0
    n_words = planes.shape[1]
    for bit in range(64):
        for w in range(n_words):
            number = np.uint64(numbers[bit * n_words + w])
            for plane in range(4):
                planes[plane, w] |= ((number >> np.uint64(plane)) & np.uint64(1)) << np.uint64(bit)


@njit(cache=CACHE, nogil=True)
def _count_rest(edge_bits, planes, out):
    """Sum an embedding's whole numbers over the bits of the last edges, fewer than eight.

    All of them are given, word by word, and the first ones counted.
    """
    n_edges, n_words = edge_bits.shape
    words = edge_bits.reshape(n_words, n_edges)
    for q in range(out.shape[0]):
        out[q] = 0
        for j in range(n_words):
            word = words[j, q]
            # numbers in two's complement: the fourth plane counts negative
            out[q] += (
                np.int64(count_bits(word & planes[0, j]))
                + (np.int64(count_bits(word & planes[1, j])) << 1)
                + (np.int64(count_bits(word & planes[2, j])) << 2)
                - (np.int64(count_bits(word & planes[3, j])) << 3)
            )


@njit(cache=CACHE, nogil=True)
def code_logits(graph, embedding, labels, n, scratch, out):
    """Logits of n labels by four bits a dimension, with the embedding in eight.

    `out` has four places at least.
    """
    codes, numbers = graph.label_codes, scratch.bytes
    step, total = round_query(embedding, numbers)
    last = n - 1
    for start in range(0, n, 4):
        q = max(0, min(start, n - 4))
        q1, q2, q3 = min(q + 1, last), min(q + 2, last), min(q + 3, last)
        for ahead in range(q + 4, min(q + 8, n)):
            fetch_row(codes, labels[ahead])
        products_of_four_halves(
            codes, labels[q], labels[q1], labels[q2], labels[q3], numbers, out[q:]
        )
    zero = np.float32(8.0) * total
    for q in range(n):
        scale = step * graph.code_scale[labels[q]]
        out[q] = (out[q] - zero) * scale + graph.label_bias[labels[q]]


# NumPy's division, which does not ask whether there is a zero, runs in vectors
@njit(cache=CACHE, nogil=True, fastmath=_SUMS, error_model="numpy")
def add_log_sigmoid(offset, factor, logit, weight, n, out):
    """Set out to factor * offset + weight * log sigmoid(logit), to within 0.006 of the latter.

    log sigmoid(z) = min(z, 0) - log(1 + exp(-|z|)), whose last part is fitted by a fraction: it
    only chooses labels, and unlike exponentials it runs in vectors.
    """
    for q in range(n):
        t = abs(logit[q])
        below = np.float32(1.0) + t * (
            np.float32(0.852) + t * (np.float32(-0.092) + t * np.float32(0.4225))
        )
        rest = np.float32(np.log(2.0)) / below
        out[q] = factor * offset[q] + weight * (min(logit[q], np.float32(0.0)) - rest)
