"""Numba kernels of the sparse ranker in the search: margins of one row on a few labels.

Weights are kept by feature, so that a row reads the columns of its own features. A short column is
read through. A long one is looked up, label by label: its entries are in the order of a hash of
their labels, and a table of bits, eight an entry, tells at which hashes there is an entry. What a
feature costs is hence bounded, however many labels it speaks for. Memory is asked for a column
ahead: half of the time would go by waiting.
"""

import os
from typing import NamedTuple

import numpy as np
from numba import njit

from skxmc.search.numeric._kernels import count_bits
from skxmc.search.numeric._vectors import fetch

# SKXMC_NUMBA_CACHE=0 compiles anew in each process, for where no cache can be written
_CACHE = os.environ.get("SKXMC_NUMBA_CACHE", "1") != "0"
# Entries from which a column has a table, and entries of a word of it.
_LONG = 128
_PER_WORD = 4
# Looking a label up takes the time of reading so many entries.
_LOOK_UP_COST = 6
# Entries up to which a column may be read through, however many labels are sought.
_MOST_READ = 8192
# Entries, and words, of a column that are asked for beforehand, and those of a line of the cache.
_FIRST_ENTRIES, _FIRST_WORDS, _PER_LINE = 600, 400, 8
# of columns: where entries and words start and stop
_START, _STOP, _WORD, _WORD_STOP = range(4)
_NEAR = np.uint64(16383)
_LOW_BITS, _HALF = np.uint64(31), np.uint64(32)
_ONE = np.uint64(1)
# Hits that are gathered before their weights are read.
_HITS = 512


class RankerArrays(NamedTuple):
    """Arrays of a ranker, as `skxmc.search.parts.RankerColumns` describes them."""

    columns: np.ndarray
    entries: np.ndarray
    weights: np.ndarray  # `entries` seen as float32
    words: np.ndarray
    bias: np.ndarray


class RankScratch(NamedTuple):
    """Memory of one thread."""

    near: np.ndarray  # (16384,) bool, last bits of the labels sought; False between rows
    hashes: np.ndarray  # (n_ranked,) uint32, of these labels
    margin: np.ndarray  # (n_ranked + 1,) float32; the last is for labels that are not sought
    read: np.ndarray  # (_MOST_READ + 1,) int32, entries that may be of labels sought
    hit: np.ndarray  # (capacity, 3) int32, place of the label, of the entry, and the column's stop
    value: np.ndarray  # (capacity,) float32, of the feature
    name: np.ndarray  # (capacity,) int32, label of the entry
    weight: np.ndarray  # (capacity,) float32, of the entry
    missed: np.ndarray  # (capacity,) int32, hits that met another label


def make_rank_scratch(n_ranked: int) -> RankScratch:
    """Allocate memory for margins of `n_ranked` labels at most."""
    capacity = _HITS + n_ranked + 1
    return RankScratch(
        np.zeros(int(_NEAR) + 1, np.bool_),
        np.empty(n_ranked, np.uint32),
        np.zeros(n_ranked + 1, np.float32),
        np.empty(_MOST_READ + 1, np.int32),
        np.empty((capacity, 3), np.int32),
        np.empty(capacity, np.float32),
        np.empty(capacity, np.int32),
        np.empty(capacity, np.float32),
        np.empty(capacity, np.int32),
    )


@njit(cache=_CACHE)
def place_columns(indptr):
    """Where entries and words of each column start and stop; short columns have no words."""
    columns = np.zeros((indptr.shape[0] - 1, 4), dtype=np.int32)
    n_words = 0
    for f in range(columns.shape[0]):
        length = indptr[f + 1] - indptr[f]
        columns[f, _START], columns[f, _STOP] = indptr[f], indptr[f + 1]
        columns[f, _WORD] = n_words
        if length >= _LONG:
            n_words += (length + _PER_WORD - 1) // _PER_WORD
        columns[f, _WORD_STOP] = n_words
    return columns


@njit(cache=_CACHE)
def order_columns(columns, labels, weights, words):
    """Bring long columns into the order of their labels' hashes, in place, and fill their words.

    A word holds the place of its first entry in its upper half, its bits in the lower.
    """
    for f in range(columns.shape[0]):
        n_words = columns[f, _WORD_STOP] - columns[f, _WORD]
        if n_words == 0:
            continue
        start, stop = columns[f, _START], columns[f, _STOP]
        hashes = np.empty(stop - start, dtype=np.uint32)
        for p in range(start, stop):
            hashes[p - start] = _hash(labels[p])
        order = np.argsort(hashes)
        labels[start:stop] = labels[start:stop][order]
        weights[start:stop] = weights[start:stop][order]
        own = words[columns[f, _WORD] : columns[f, _WORD_STOP]]
        at = 0
        for q in range(order.shape[0]):
            bit = _bit_of(hashes[order[q]], n_words)
            word = np.int64(bit // _HALF)
            while at <= word:
                own[at] = np.uint64(start + q) << _HALF
                at += 1
            own[word] |= _ONE << (bit & _LOW_BITS)
        own[at:] = np.uint64(stop) << _HALF


@njit(cache=_CACHE, nogil=True)
def start_margins(ranker, label, n, scratch):
    """Set the margins of n labels to their biases."""
    for q in range(n):
        scratch.margin[q] = ranker.bias[label[q]]


@njit(cache=_CACHE, nogil=True)
def add_margins(indptr, indices, data, i, heavy, ranker, label, n, mark, first, scratch):
    """Add to the margins of n labels what row i, scaled to unit length, brings them.

    Either by its heavy features, whose squares are at least the mean of the row's, or by the
    others. The labels are marked from `first` on.
    """
    near, hashes = scratch.near, scratch.hashes
    for q in range(n):
        mark[label[q]] = first + q
        near[np.uint64(label[q]) & _NEAR] = True
        hashes[q] = _hash(label[q])
    squares, n_used = 0.0, 0.0
    for p in range(indptr[i], indptr[i + 1]):
        squares += np.float64(data[p]) * np.float64(data[p])
        n_used += np.float64(data[p] != 0)
    factor = 1.0 / np.sqrt(squares) if squares > 0 else 0.0
    mean = squares / max(1.0, n_used)
    most_read = min(_LOOK_UP_COST * n, _MOST_READ)
    n_hits = 0
    p = _next_feature(data, indptr[i], indptr[i + 1], mean, heavy)
    while p < indptr[i + 1]:
        following = _next_feature(data, p + 1, indptr[i + 1], mean, heavy)
        if following < indptr[i + 1]:
            _fetch_column(ranker, ranker.columns[indices[following]], most_read)
        value, column = np.float32(data[p] * factor), ranker.columns[indices[p]]
        if _is_read(column, most_read):
            _read_column(ranker, column[_START], column[_STOP], value, mark, first, scratch)
        else:
            n_hits = _look_up(ranker.words, column, value, n, n_hits, scratch)
        if n_hits > _HITS:
            _add_hits(ranker, label, n_hits, scratch)
            n_hits = 0
        p = following
    _add_hits(ranker, label, n_hits, scratch)
    for q in range(n):
        near[np.uint64(label[q]) & _NEAR] = False


@njit(cache=_CACHE, nogil=True)
def _next_feature(data, p, stop, mean, heavy):
    """Place of a row's next feature that is heavy, or that is not."""
    while p < stop and (np.float64(data[p]) * np.float64(data[p]) >= mean) != heavy:
        p += 1
    return p


@njit(cache=_CACHE, nogil=True)
def _is_read(column, most_read):
    """Whether a column is read through, rather than looked up."""
    return column[_WORD] == column[_WORD_STOP] or column[_STOP] - column[_START] <= most_read


@njit(cache=_CACHE, nogil=True)
def _fetch_column(ranker, column, most_read):
    """Bring what will be read of a column on its way into the caches."""
    if _is_read(column, most_read):
        stop = min(column[_STOP], column[_START] + _FIRST_ENTRIES)
        for p in range(column[_START], stop, _PER_LINE):
            fetch(ranker.entries, p)
    else:
        stop = min(column[_WORD_STOP], column[_WORD] + _FIRST_WORDS)
        for w in range(column[_WORD], stop, _PER_LINE):
            fetch(ranker.words, w)


@njit(cache=_CACHE, nogil=True)
def _read_column(ranker, start, stop, value, mark, first, scratch):
    """Add the products of a column whose entries are all read.

    The last bits of a label are looked at first: where there are a million, their marks are far.
    Written without branches: which entry is of a label sought is nothing to guess.
    """
    near, read, margin = scratch.near, scratch.read, scratch.margin
    entries, weights = ranker.entries, ranker.weights
    n = np.int64(0)
    for p in range(np.uint64(start), np.uint64(stop)):
        read[n] = p
        n += near[np.uint64(entries[p, 0]) & _NEAR]
    nowhere = margin.shape[0] - 1
    for h in range(n):
        entry = np.uint64(read[h])
        q = mark[entries[entry, 0]] - first
        margin[q if q >= 0 else nowhere] += value * weights[entry, 1]


@njit(cache=_CACHE, nogil=True)
def _look_up(words, column, value, n, n_hits, scratch):
    """Note where entries of the labels sought must be, if the column has them."""
    hashes, hit = scratch.hashes, scratch.hit
    own = words[column[_WORD] : column[_WORD_STOP]]
    for q in range(n):
        bit = _bit_of(hashes[q], own.shape[0])
        word, low = own[bit // _HALF], bit & _LOW_BITS
        # written in any case, and overwritten by the next if it is no hit: no branch to guess
        hit[n_hits, 0], hit[n_hits, 2] = q, column[_STOP]
        hit[n_hits, 1] = (word >> _HALF) + count_bits(word & ((_ONE << low) - _ONE))
        scratch.value[n_hits] = value
        n_hits += np.int64((word >> low) & _ONE)
    return n_hits


@njit(cache=_CACHE, nogil=True)
def _add_hits(ranker, label, n_hits, scratch):
    """Add what was noted to the margins."""
    hit, value, entries = scratch.hit, scratch.value, ranker.entries
    name, weight, missed = scratch.name, scratch.weight, scratch.missed
    for h in range(n_hits):
        # no branch here that would wait for memory: loads run side by side
        name[h], weight[h] = entries[hit[h, 1], 0], ranker.weights[hit[h, 1], 1]
    n_missed = np.int64(0)
    for h in range(n_hits):
        q = hit[h, 0]
        same = name[h] == label[q]
        scratch.margin[q] += value[h] * weight[h] * np.float32(same)
        missed[n_missed] = h
        # a label that shares its bit with another one is further back, if it is there at all
        n_missed += np.int64((not same) & (_hash(name[h]) < scratch.hashes[q]))
    for m in range(n_missed):
        h = missed[m]
        q, p = hit[h, 0], hit[h, 1] + 1
        while p < hit[h, 2] and _hash(entries[p, 0]) < scratch.hashes[q]:
            p += 1
        if p < hit[h, 2] and entries[p, 0] == label[q]:
            scratch.margin[q] += value[h] * ranker.weights[p, 1]


@njit(cache=_CACHE, nogil=True)
def _hash(label):
    """Scatter labels over 32 bits, no two to the same place."""
    return np.uint32((np.uint64(label) * np.uint64(0x9E3779B1)) & np.uint64(0xFFFFFFFF))


@njit(cache=_CACHE, nogil=True)
def _bit_of(hashed, n_words):
    """Bit of a hash among those of `n_words` words, in the order of the hashes."""
    return (np.uint64(hashed) * np.uint64(n_words) * _HALF) >> _HALF
