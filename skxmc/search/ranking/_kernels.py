"""Numba kernels of the sparse ranker in the search: margins of one row on a few labels.

Weights are kept by feature, so that a row reads the columns of its own features. Within a column
sixteen labels that tend to be ranked together are a group, and what the column says of a group is
one record of 64 bits: which of the labels have weights, and the weights, if they are three at most;
else the number of a block of sixteen. A short column is read through; a long one has a table of
bits that tells where the record of a group is. Hits are gathered over several columns before
anything waits for their records: half of the time would go by waiting for memory.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from skxmc._numba_cache import CACHE
from skxmc.search.numeric._kernels import count_bits
from skxmc.search.numeric._vectors import add_sixteen, fetch, lowest_bit

# Labels of a group, and weights that fit into a record.
GROUP = 16
_FEW = 3
# Records from which a column has a table, and words that the table may have for each of them.
_LONG, _WORDS_PER_RECORD = 48, 4
# of columns: where records start and stop, where the table or the list of groups starts, and which
_START, _STOP, _TABLE, _IS_LONG = range(4)
# Bits of a record: the labels, then a weight each, or the number of a block.
_LABELS, _WEIGHT_BITS = np.uint64(0xFFFF), np.uint64(16)
# Bits of a hit: the record, the group's place among those sought, the feature's in the batch.
_RECORD, _GROUP_AT, _GROUP_BITS, _FEATURE_AT = (
    np.uint64(0xFFFFFFFF),
    np.uint64(32),
    np.uint64(0xFFFFF),
    np.uint64(52),
)
# of words: 32 bits, and in the upper half the record of the first of them
_PER_WORD, _UPPER, _BITS = np.uint64(32), np.uint64(32), np.uint64(31)
_ONE = np.uint64(1)
# Sums of a group: a place each, and one for weights that are not there.
_SUMS, _NOWHERE = np.uint64(17), np.uint64(0x10000)
# Hits that are gathered before their records are read, and features of a batch.
_HITS, _FEATURES = 256, 4096
# Features whose columns are on their way while one is looked at.
_AHEAD = 3
# Words of a column that are asked for at most, and numbers in a line of the cache.
_MOST_FETCHED, _WORDS_PER_LINE, _GROUPS_PER_LINE = 256, 8, 16


class RankerArrays(NamedTuple):
    """Arrays of a ranker, as `skxmc.search.parts.RankerColumns` describes them."""

    columns: np.ndarray
    records: np.ndarray
    groups: np.ndarray
    words: np.ndarray
    blocks: np.ndarray
    place: np.ndarray
    scale: np.ndarray
    bias: np.ndarray


class RankScratch(NamedTuple):
    """Memory of one thread; groups are those of the labels sought."""

    at: np.ndarray  # (all groups,) int32, place of a group among those sought; -1 between rows
    group: np.ndarray  # (n_ranked,) int64, the groups
    sought: np.ndarray  # (n_ranked,) uint64, bits of the labels sought of each
    sums: np.ndarray  # (n_ranked * 17,) float32, of each group
    margin: np.ndarray  # (n_ranked,) float32, of the labels
    hit: np.ndarray  # (capacity,) uint64, records that may be of labels sought
    record: np.ndarray  # (capacity,) uint64, those that are, with their weights
    full_hit: np.ndarray  # (capacity,) uint64, hits with more weights than fit into a record
    block: np.ndarray  # (capacity,) uint64, where these weights are
    value: np.ndarray  # (_FEATURES,) float32, of the features of a batch


def make_rank_scratch(n_labels: int, n_ranked: int) -> RankScratch:
    """Allocate memory for margins of `n_ranked` labels at most."""
    n_groups = -(-n_labels // GROUP)
    capacity = _HITS + max(n_ranked, _long_from(n_groups)) + 1
    return RankScratch(
        np.full(n_groups, -1, np.int32),
        np.empty(n_ranked, np.int64),
        np.empty(n_ranked, np.uint64),
        np.empty(n_ranked * int(_SUMS), np.float32),
        np.empty(n_ranked, np.float32),
        np.empty(capacity, np.uint64),
        np.empty(capacity, np.uint64),
        np.empty(capacity, np.uint64),
        np.empty(capacity, np.uint64),
        np.empty(_FEATURES, np.float32),
    )


@njit(cache=CACHE)
def count_records(indptr, places):
    """Count the records of each column, and those with more weights than fit into one.

    `places` are the labels of CSC columns, in order.
    """
    counts, n_full = np.zeros(indptr.shape[0] - 1, dtype=np.int64), 0
    for f in range(counts.shape[0]):
        p = indptr[f]
        while p < indptr[f + 1]:
            stop = _stop_of_group(places, p, indptr[f + 1])
            counts[f] += 1
            n_full += stop - p > _FEW
            p = stop
    return counts, n_full


@njit(cache=CACHE)
def place_columns(counts, n_groups):
    """Where records, and table or list, of each column are; returns also the sizes of the latter.

    A short column has a list of the groups of its records, a long one a table.
    """
    columns = np.zeros((counts.shape[0], 4), dtype=np.int32)
    n_records, n_listed, n_words = 0, 0, 0
    for f in range(columns.shape[0]):
        columns[f, _START], columns[f, _STOP] = n_records, n_records + counts[f]
        n_records += counts[f]
        if counts[f] >= _long_from(n_groups):
            columns[f, _TABLE], columns[f, _IS_LONG] = n_words, 1
            n_words += _words_of(n_groups)
        else:
            columns[f, _TABLE] = n_listed
            n_listed += counts[f]
    return columns, n_listed, n_words


@njit(cache=CACHE)
def fill_columns(indptr, places, weights, columns, records, groups, words, blocks):
    """Write the weights of CSC columns into records and blocks, and where they are."""
    n_blocks = 0
    for f in range(columns.shape[0]):
        p, r = indptr[f], columns[f, _START]
        while p < indptr[f + 1]:
            stop = _stop_of_group(places, p, indptr[f + 1])
            if stop - p > _FEW:
                records[r] = np.uint64(n_blocks) << _WEIGHT_BITS
                for q in range(p, stop):
                    blocks[n_blocks, places[q] % GROUP] = weights[q]
                n_blocks += 1
            else:
                for q in range(p, stop):
                    weight = np.uint64(weights[q]) & _LABELS
                    records[r] |= weight << np.uint64(_WEIGHT_BITS * np.uint64(1 + q - p))
            for q in range(p, stop):
                records[r] |= _ONE << np.uint64(places[q] % GROUP)
            if columns[f, _IS_LONG]:
                group = np.uint64(places[p] // GROUP)
                words[columns[f, _TABLE] + group // _PER_WORD] |= _ONE << (group & _BITS)
            else:
                groups[columns[f, _TABLE] + r - columns[f, _START]] = places[p] // GROUP
            p, r = stop, r + 1
        if columns[f, _IS_LONG]:
            _number_records(words, columns[f, _TABLE], columns[f, _START], columns[f, _STOP])


@njit(cache=CACHE)
def _number_records(words, at, start, stop):
    """Write into the upper halves of a column's words which record comes first."""
    while start < stop:
        n_bits = count_bits(words[at])
        words[at] |= np.uint64(start) << _UPPER
        start += n_bits
        at += 1


@njit(cache=CACHE)
def _stop_of_group(places, p, stop):
    """Where the group of entry p of a column ends."""
    group = places[p] // GROUP
    while p < stop and places[p] // GROUP == group:
        p += 1
    return p


@njit(cache=CACHE, nogil=True)
def _words_of(n_groups):
    """Words of a table."""
    return (n_groups + 31) // 32


@njit(cache=CACHE, nogil=True)
def _long_from(n_groups):
    """Return the number of records from which a column has a table."""
    return max(_LONG, _words_of(n_groups) // _WORDS_PER_RECORD)


@njit(cache=CACHE, nogil=True)
def find_margins(indptr, indices, data, i, ranker, label, n, scratch):
    """Find the margins of n labels for row i, scaled to unit length."""
    n_groups, stop = _seek(ranker.place, label, n, scratch), indptr[i + 1]
    squares = 0.0
    for p in range(indptr[i], stop):
        squares += np.float64(data[p]) * np.float64(data[p])
    factor = 1.0 / np.sqrt(squares) if squares > 0 else 0.0
    for start in range(indptr[i], stop, _FEATURES):
        features = slice(start, min(stop, start + _FEATURES))
        for j in range(features.stop - start):
            scratch.value[j] = data[start + j] * factor
        _add_features(ranker, indices[features], n_groups, scratch)
    _read_sums(ranker, label, n, scratch)
    for g in range(n_groups):
        scratch.at[scratch.group[g]] = -1


@njit(cache=CACHE, nogil=True)
def _add_features(ranker, features, n_groups, scratch):
    """Add to the sums of the groups what a batch of features brings them."""
    j = 0
    while j < features.shape[0]:
        j, n_hits = _gather_hits(
            ranker.columns, ranker.words, ranker.groups, ranker.records, features, j,
            scratch.group[:n_groups], scratch.at, scratch.hit,
        )  # fmt: skip
        n_few, n_full = _keep_sought(
            ranker.records, ranker.blocks, n_hits, scratch.sought, scratch.hit, scratch.record,
            scratch.full_hit, scratch.block,
        )  # fmt: skip
        _add_records(n_few, scratch.hit, scratch.record, scratch.value, scratch.sums)
        _add_blocks(
            ranker.blocks, n_full, scratch.full_hit, scratch.block, scratch.value, scratch.sums
        )  # fmt: skip


@njit(cache=CACHE, nogil=True)
def _seek(place, label, n, scratch):
    """Mark the groups of n labels, and clear their sums; returns how many they are."""
    at, groups, sought, n_groups = scratch.at, scratch.group, scratch.sought, np.int32(0)
    sought[:n] = 0
    for q in range(n):
        where = np.uint64(place[label[q]])
        group = where // np.uint64(GROUP)
        is_new = np.int32(at[group] < 0)
        # at[group] is -1 if it is new; no branch to guess
        g = at[group] + is_new * (n_groups + np.int32(1))
        at[group], groups[g] = g, group
        sought[g] |= _ONE << (where % np.uint64(GROUP))
        n_groups += is_new
    scratch.sums[: n_groups * _SUMS] = 0
    return n_groups


@njit(cache=CACHE, nogil=True)
def _gather_hits(columns, words, listed, records, features, j, sought, at, hit):
    """Note the records that features from j on have for the groups sought, until there are many.

    Returns the feature to go on with, and the number of hits. All in one function: to hand arrays
    to another one for each feature takes as long as to look it up.
    """
    n_hits, n_features, n_words = np.uint64(0), features.shape[0], _words_of(at.shape[0])
    while j < n_features and n_hits <= _HITS:
        if j + _AHEAD < n_features:
            column = columns[features[j + _AHEAD]]
            if column[_IS_LONG]:
                size = min(n_words, _MOST_FETCHED)
                for w in range(column[_TABLE], column[_TABLE] + size, _WORDS_PER_LINE):
                    fetch(words, w)
            else:
                size = column[_STOP] - column[_START]
                for g in range(column[_TABLE], column[_TABLE] + size, _GROUPS_PER_LINE):
                    fetch(listed, g)
        column, first, tag = columns[features[j]], n_hits, np.uint64(j) << _FEATURE_AT
        table, start = np.uint64(column[_TABLE]), np.uint64(column[_START])
        # written in any case, and overwritten by the next if it is no hit: no branch to guess
        if column[_IS_LONG]:
            for g in range(np.uint64(sought.shape[0])):
                group = np.uint64(sought[g])
                word, bit = words[table + group // _PER_WORD], group & _BITS
                record = (word >> _UPPER) + count_bits(word & ((_ONE << bit) - _ONE))
                hit[n_hits] = record | (g << _GROUP_AT) | tag
                n_hits += (word >> bit) & _ONE
        else:
            for r in range(np.uint64(column[_STOP]) - start):
                where = at[np.uint64(listed[table + r])]
                hit[n_hits] = (start + r) | (np.uint64(where) << _GROUP_AT) | tag
                n_hits += np.uint64(where >= 0)
        for h in range(first, n_hits):
            fetch(records, np.int64(hit[h] & _RECORD))
        j += 1
    return j, n_hits


@njit(cache=CACHE, nogil=True)
def _keep_sought(records, blocks, n_hits, sought, hit, record, full_hit, block):
    """Read the records noted, and keep those of labels that are sought.

    Returns how many have their weights with them, and how many have a block of them.
    """
    n_few, n_full = np.uint64(0), np.uint64(0)
    for h in range(n_hits):
        noted = hit[h]
        found = records[noted & _RECORD]
        is_sought = np.uint64((found & sought[(noted >> _GROUP_AT) & _GROUP_BITS]) != 0)
        is_full = is_sought & np.uint64(count_bits(found & _LABELS) > _FEW)
        hit[n_few], record[n_few] = noted, found
        full_hit[n_full], block[n_full] = noted, found >> _WEIGHT_BITS
        n_few += is_sought - is_full
        n_full += is_full
    for h in range(n_full):
        fetch(blocks, np.int64(block[h]) * GROUP)
    return n_few, n_full


@njit(cache=CACHE, nogil=True)
def _add_records(n, hit, record, value, sums):
    """Add the weights of n records to the sums of their groups.

    One that a record does not have is added where nobody looks: no branch to guess.
    """
    for h in range(n):
        left, weights = (record[h] & _LABELS) | _NOWHERE, record[h]
        v, start = value[hit[h] >> _FEATURE_AT], ((hit[h] >> _GROUP_AT) & _GROUP_BITS) * _SUMS
        for _ in range(_FEW):
            weights >>= _WEIGHT_BITS
            sums[start + lowest_bit(left)] += v * np.float32(np.int16(weights & _LABELS))
            left = (left & (left - _ONE)) | _NOWHERE


@njit(cache=CACHE, nogil=True)
def _add_blocks(blocks, n, hit, block, value, sums):
    """Add n blocks of weights to the sums of their groups."""
    for h in range(n):
        start = ((hit[h] >> _GROUP_AT) & _GROUP_BITS) * _SUMS
        add_sixteen(blocks, block[h], value[hit[h] >> _FEATURE_AT], sums, start)


@njit(cache=CACHE, nogil=True)
def _read_sums(ranker, label, n, scratch):
    """Turn the sums of n labels into their margins."""
    for q in range(n):
        where = np.uint64(ranker.place[label[q]])
        start = np.uint64(scratch.at[where // np.uint64(GROUP)]) * _SUMS
        sum_ = scratch.sums[start + where % np.uint64(GROUP)]
        scratch.margin[q] = ranker.bias[label[q]] + ranker.scale[label[q]] * sum_
