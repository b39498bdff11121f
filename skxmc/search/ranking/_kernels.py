"""Numba kernels of the sparse ranker in the search: margins of one row on a few labels.

Weights are kept by feature, so that a row reads the columns of its own features. A short column is
read through. A long one is looked up, label by label: its entries are in the order of a hash of
their labels, and a table of bits, eight an entry, tells at which hashes there is an entry. What a
feature costs is hence bounded, however many labels it speaks for.
"""

import os
from typing import NamedTuple

import numpy as np
from numba import njit

# SKXMC_NUMBA_CACHE=0 compiles anew in each process, for where no cache can be written
_CACHE = os.environ.get("SKXMC_NUMBA_CACHE", "1") != "0"
# Entries from which a column has a table, entries of a word of it, and bits of a word.
_LONG = 128
_PER_WORD = 4
_BITS = 32
# Reading an entry costs about a third of looking a label up.
_LOOK_UP_COST = 3
_NEAR = 4096


class RankerArrays(NamedTuple):
    """Arrays of a ranker, as `skxmc.search.parts.RankerColumns` describes them."""

    indptr: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    word_indptr: np.ndarray
    words: np.ndarray
    bias: np.ndarray


class RankScratch(NamedTuple):
    """Memory of one thread."""

    near: np.ndarray  # (4096,) bool, last bits of the labels sought; False between rows
    hashes: np.ndarray  # (n_ranked,) uint32, of these labels
    margin: np.ndarray  # (n_ranked,) float32


def make_rank_scratch(n_ranked: int) -> RankScratch:
    """Allocate memory for margins of `n_ranked` labels at most."""
    return RankScratch(
        np.zeros(_NEAR, np.bool_),
        np.empty(n_ranked, np.uint32),
        np.empty(n_ranked, np.float32),
    )


@njit(cache=_CACHE)
def count_words(indptr):
    """Where the words of each column start: one for four entries and one to end with, or none."""
    out = np.zeros(indptr.shape[0], dtype=np.int64)
    for f in range(indptr.shape[0] - 1):
        length = indptr[f + 1] - indptr[f]
        n_words = (length + _PER_WORD - 1) // _PER_WORD + 1 if length >= _LONG else 0
        out[f + 1] = out[f] + n_words
    return out


@njit(cache=_CACHE)
def order_columns(indptr, labels, weights, word_indptr, words):
    """Bring long columns into the order of their labels' hashes, in place, and fill their words.

    A word holds the place of its first entry in its upper half, its bits in the lower.
    """
    for f in range(indptr.shape[0] - 1):
        n_words = word_indptr[f + 1] - word_indptr[f] - 1
        if n_words <= 0:
            continue
        start, stop = indptr[f], indptr[f + 1]
        hashes = np.empty(stop - start, dtype=np.uint32)
        for p in range(start, stop):
            hashes[p - start] = _hash(labels[p])
        order = np.argsort(hashes)
        labels[start:stop] = labels[start:stop][order]
        weights[start:stop] = weights[start:stop][order]
        own = words[word_indptr[f] : word_indptr[f + 1]]
        own[:] = 0
        at = 0
        for q in range(order.shape[0]):
            bit = _bit_of(hashes[order[q]], n_words)
            while at <= bit // _BITS:
                own[at] = np.uint64(start + q) << np.uint64(_BITS)
                at += 1
            own[bit // _BITS] |= np.uint64(1) << np.uint64(bit % _BITS)
        own[at:] = np.uint64(stop) << np.uint64(_BITS)


@njit(cache=_CACHE, nogil=True)
def find_margins(indptr, indices, data, i, ranker, label, n, mark, first, scratch):
    """Margins of row i, scaled to unit length, on n labels, which are marked from `first` on."""
    margin, near, hashes = scratch.margin, scratch.near, scratch.hashes
    for q in range(n):
        mark[label[q]] = first + q
        near[label[q] % _NEAR] = True
        hashes[q] = _hash(label[q])
        margin[q] = ranker.bias[label[q]]
    squares = 0.0
    for p in range(indptr[i], indptr[i + 1]):
        squares += np.float64(data[p]) * np.float64(data[p])
    factor = 1.0 / np.sqrt(squares) if squares > 0 else 0.0
    for p in range(indptr[i], indptr[i + 1]):
        value = np.float32(data[p] * factor)
        start, stop = ranker.indptr[indices[p]], ranker.indptr[indices[p] + 1]
        word, word_stop = ranker.word_indptr[indices[p]], ranker.word_indptr[indices[p] + 1]
        if word == word_stop or stop - start <= _LOOK_UP_COST * n:
            _read_column(ranker, start, stop, value, near, mark, first, margin)
        else:
            words = ranker.words[word:word_stop]
            _look_up(ranker, words, value, label, hashes, n, margin)
    for q in range(n):
        near[label[q] % _NEAR] = False


@njit(cache=_CACHE, nogil=True)
def _read_column(ranker, start, stop, value, near, mark, first, margin):
    for p in range(start, stop):
        name = ranker.labels[p]
        if near[name % _NEAR]:
            q = mark[name] - first
            if q >= 0:
                margin[q] += value * ranker.weights[p]


@njit(cache=_CACHE, nogil=True)
def _look_up(ranker, words, value, label, hashes, n, margin):
    n_words = words.shape[0] - 1
    for q in range(n):
        bit = _bit_of(hashes[q], n_words)
        word = words[bit // _BITS]
        if (word >> np.uint64(bit % _BITS)) & np.uint64(1):
            start = np.int64(word >> np.uint64(_BITS))
            stop = np.int64(words[bit // _BITS + 1] >> np.uint64(_BITS))
            for p in range(start, stop):
                if ranker.labels[p] == label[q]:
                    margin[q] += value * ranker.weights[p]


@njit(cache=_CACHE, nogil=True)
def _hash(label):
    """Scatter labels over 32 bits, no two to the same place."""
    return np.uint32(np.uint64(label) * np.uint64(0x9E3779B1) & np.uint64(0xFFFFFFFF))


@njit(cache=_CACHE, nogil=True)
def _bit_of(hashed, n_words):
    """Bit of a hash among those of `n_words` words, in the order of the hashes."""
    return np.int64((np.uint64(hashed) * np.uint64(n_words * _BITS)) >> np.uint64(32))
