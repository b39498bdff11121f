"""Numba kernels of the search: from a beam of clusters to a shortlist of labels.

Arrays of the graph: `edges` (n_clusters, width) holds label columns, padded with -1; `keys`
(n_clusters, width) what labels are chosen by: the logarithm of their edge weights, perhaps noise.
"""

from typing import NamedTuple

import numpy as np
from numba import njit, prange

from skxmc._numba_cache import CACHE
from skxmc.ops._kernels import largest, row_length
from skxmc.search.numeric._kernels import find_bound

# One path in this many is looked at to guess a bound.
_STRIDE = 16
# Fibonacci hashing: 2^32 over the golden ratio.
_GOLDEN = 2654435769


class PathScratch(NamedTuple):
    """Memory of one thread, for all paths that a beam has at most."""

    slot: np.ndarray  # int32, place in the beam of a path's cluster
    column: np.ndarray  # int32, its column of the cluster's edges
    label: np.ndarray  # int32, labels met, each once
    score: np.ndarray  # float32, their best paths' scores
    winner: np.ndarray  # int32, these paths
    own: np.ndarray  # bool, whether the row carries the label
    table: np.ndarray  # int32, hash table of places in `label`, -1 where free


class Paths(NamedTuple):
    """What the paths of one row lead over."""

    beam: np.ndarray  # int, clusters, -1 where unused
    scores: np.ndarray  # float32, their scores
    edges: np.ndarray  # int32, the graph's
    keys: np.ndarray  # float32, what an edge adds to its cluster's score
    lengths: np.ndarray  # int32, edges of each cluster
    highest: np.ndarray  # float32, highest key of each cluster


@njit(cache=CACHE)
def _make_scratch(capacity):
    n_buckets = 2
    while n_buckets < 2 * capacity:
        n_buckets *= 2
    return PathScratch(
        np.empty(capacity + 1, np.int32),
        np.empty(capacity + 1, np.int32),
        np.empty(capacity + 1, np.int32),
        np.empty(capacity + 1, np.float32),
        np.empty(capacity + 1, np.int32),
        np.empty(capacity + 1, np.bool_),
        np.empty(n_buckets, np.int32),
    )


@njit(cache=CACHE, parallel=True)
def row_lengths(edges, keys, rows):
    """Count the edges of some rows of a padded graph, and find their highest keys."""
    lengths = np.zeros(edges.shape[0], dtype=np.int32)
    highest = np.full(edges.shape[0], -np.inf, dtype=np.float32)
    for r in prange(rows.shape[0]):
        c = rows[r]
        lengths[c] = row_length(edges[c])
        highest[c] = largest(keys[c, : lengths[c]])
    return lengths, highest


@njit(cache=CACHE, parallel=True)
def shortlist(
    beam, beam_scores, edges, keys, lengths, highest, k, pos_indptr, pos_indices, n_parts
):  # fmt: skip
    """Gather the k best labels of each row over the paths row -> beam cluster -> label.

    A path's score is its cluster's plus the key of its edge. A label reached by several paths keeps
    the best one. `beam` (n_rows, width) may be padded with -1. The labels `pos_indices` of a row,
    if reached, are always kept. Rows are cut into `n_parts` runs, each with its own scratch.
    Returns labels (-1 padded, at the end), the column of `edges` and the beam slot of the winning
    path, and whether the label is one of the row's own.
    """
    n_rows = beam.shape[0]
    out_labels = np.full((n_rows, k), -1, dtype=np.int32)
    out_column = np.zeros((n_rows, k), dtype=np.int32)
    out_slot = np.zeros((n_rows, k), dtype=np.int32)
    out_own = np.zeros((n_rows, k), dtype=np.bool_)
    for part in prange(n_parts):
        scratch = _make_scratch(beam.shape[1] * edges.shape[1] + pos_indices.shape[0])
        for i in range(part * n_rows // n_parts, (part + 1) * n_rows // n_parts):
            paths = Paths(beam[i], beam_scores[i], edges, keys, lengths, highest)
            m = _best_labels(paths, k, scratch)
            m = _add_own(paths, pos_indices[pos_indptr[i] : pos_indptr[i + 1]], m, scratch)
            kept = select_top(scratch.score[:m], scratch.label[:m], k)
            for r in range(kept.shape[0]):
                q = kept[r]
                out_labels[i, r], out_own[i, r] = scratch.label[q], scratch.own[q]
                out_column[i, r] = scratch.column[scratch.winner[q]]
                out_slot[i, r] = scratch.slot[scratch.winner[q]]
    return out_labels, out_column, out_slot, out_own


@njit(cache=CACHE)
def _best_labels(paths, k, scratch):
    """List the labels of all paths above some bound, which k labels reach if as many are found.

    The bound comes from a sample of the paths, and is lowered until it is low enough. Few paths of
    many are above it: only these are looked at one by one.
    """
    sample, n_paths = _sample(paths)
    # clusters share labels: some more paths than labels
    rank = 2 * k // _STRIDE + 3
    while True:
        bound = np.float32(-np.inf)
        if rank < sample.shape[0] and n_paths > 2 * k:
            keys = _as_integers(sample)
            bound = sample[keys >= find_bound(keys, rank, rank)[0]].min()
        m = _distinct_labels(paths, _paths_above(paths, bound, scratch), scratch)
        if m >= k or bound == -np.inf:
            return m
        rank *= 2


@njit(cache=CACHE)
def _sample(paths):
    """Scores of one in some paths, and how many paths there are."""
    n_paths, n = 0, 0
    for c in paths.beam:
        if c >= 0:
            n_paths += paths.lengths[c]
    sample = np.empty(n_paths // _STRIDE + paths.beam.shape[0], dtype=np.float32)
    for b in range(paths.beam.shape[0]):
        c = paths.beam[b]
        if c >= 0:
            for e in range(b % _STRIDE, paths.lengths[c], _STRIDE):
                sample[n] = paths.scores[b] + paths.keys[c, e]
                n += 1
    return sample[:n], n_paths


@njit(cache=CACHE)
def _paths_above(paths, bound, scratch):
    """Fill slots and columns with the paths not below a bound; returns how many."""
    slot, column = scratch.slot, scratch.column
    n = 0
    for b in range(paths.beam.shape[0]):
        c, score = paths.beam[b], paths.scores[b]
        if c < 0 or score + paths.highest[c] < bound:
            continue
        keys, start = paths.keys[c], n
        for e in range(paths.lengths[c]):
            # written in any case, and overwritten by the next if not kept: no branch to guess
            column[n] = e
            n += not score + keys[e] < bound
        slot[start:n] = b
    return n


@njit(cache=CACHE)
def _distinct_labels(paths, n, scratch):
    """Fill labels with those of n paths, each once with its best path; returns how many."""
    table = scratch.table
    bits = 1
    while 1 << bits < 2 * n:
        bits += 1
    table[: 1 << bits] = -1
    m = 0
    for q in range(n):
        b, e = scratch.slot[q], scratch.column[q]
        c = paths.beam[b]
        label, score = paths.edges[c, e], paths.scores[b] + paths.keys[c, e]
        bucket = _find(label, bits, scratch)
        at = table[bucket]
        if at < 0:
            table[bucket] = m
            scratch.label[m], scratch.score[m], scratch.winner[m] = label, score, q
            scratch.own[m] = False
            m += 1
        elif score > scratch.score[at]:
            scratch.score[at], scratch.winner[at] = score, q
    return m


@njit(cache=CACHE)
def _find(label, bits, scratch):
    """Bucket of a label in the hash table of 2^bits buckets, or the free one where it belongs."""
    mask = (1 << bits) - 1
    bucket = ((label * _GOLDEN) & 0xFFFFFFFF) >> (32 - bits)
    while scratch.table[bucket] >= 0 and scratch.label[scratch.table[bucket]] != label:
        bucket = (bucket + 1) & mask
    return bucket


@njit(cache=CACHE)
def _add_own(paths, own, m, scratch):
    """Let a row's own labels come before all others, those below the bound too if reached."""
    n = m
    # paths below the bound are written behind all those above it
    behind = paths.beam.shape[0] * paths.edges.shape[1]
    for r in range(own.shape[0]):
        label = np.int32(own[r])
        at = _last_place(scratch.label, m, label)
        if at < 0 and _add_path(paths, label, behind + n - m, scratch):
            at = n
            scratch.label[n], scratch.winner[n] = label, behind + n - m
            n += 1
        if at >= 0:
            scratch.score[at], scratch.own[at] = np.inf, True
    return n


@njit(cache=CACHE)
def _last_place(labels, n, label):
    """Where a label is among the first n, or -1: without a branch, many at a time."""
    at = np.int32(-1)
    for q in range(n):
        at = max(at, np.int32(q) if labels[q] == label else np.int32(-1))
    return at


@njit(cache=CACHE)
def _add_path(paths, label, place, scratch):
    """Write the best path to a label at a place; returns whether there is one."""
    found, best = False, np.float32(-np.inf)
    for b in range(paths.beam.shape[0]):
        c = paths.beam[b]
        column = np.int32(-1)
        if c >= 0:
            column = _last_place(paths.edges[c], paths.lengths[c], label)
        if column >= 0 and (not found or paths.scores[b] + paths.keys[c, column] > best):
            found, best = True, paths.scores[b] + paths.keys[c, column]
            scratch.slot[place], scratch.column[place] = b, column
    return found


@njit(cache=CACHE)
def _as_integers(scores):
    """Integers that compare as the scores do; NaN is above or below all others."""
    bits = (scores + np.float32(0.0)).view(np.int32)  # -0 counts as 0
    for q in range(bits.shape[0]):
        bits[q] ^= (bits[q] >> np.int32(31)) & np.int32(0x7FFFFFFF)
    return bits


@njit(cache=CACHE)
def select_top(scores, labels, k):
    """Positions of the k largest scores, ties by the smaller label; in no particular order."""
    m = scores.shape[0]
    if m <= k:
        return np.arange(m)
    keys = _as_integers(scores)
    bound, count = find_bound(keys, k, k)
    kept = np.empty(m + 1, dtype=np.int64)
    n = 0
    for q in range(m):  # without a branch
        kept[n] = q
        n += keys[q] > bound or (count == k and keys[q] == bound)
    if n < k:
        ties = np.flatnonzero(keys == bound)
        if ties.shape[0] > k - n:
            ties = ties[np.argsort(labels[ties])]
        kept[n:k] = ties[: k - n]
    return kept[:k]


@njit(cache=CACHE, parallel=True)
def top_columns(scores, k):
    """Sort the k largest entries of each row of a dense array, ties by the smaller column."""
    n_rows = scores.shape[0]
    out_labels = np.empty((n_rows, k), dtype=np.int64)
    out_scores = np.empty((n_rows, k), dtype=np.float32)
    for i in prange(n_rows):
        kept = np.sort(select_top(scores[i], np.arange(scores.shape[1]), k))
        kept = kept[np.argsort(-scores[i][kept], kind="mergesort")]
        for r in range(k):
            out_labels[i, r] = kept[r]
            out_scores[i, r] = scores[i, kept[r]]
    return out_labels, out_scores


@njit(cache=CACHE, parallel=True, fastmath={"reassoc", "contract", "nsz"})
def rank_candidates(queries, candidates, weight, bias, k):
    """Score each row's candidates one by one and sort the k best, ties by the smaller label."""
    n_rows, m = candidates.shape
    out_labels = np.empty((n_rows, k), dtype=np.int64)
    out_scores = np.empty((n_rows, k), dtype=np.float32)
    for i in prange(n_rows):
        labels = np.sort(candidates[i])
        scores = np.empty(m, dtype=np.float32)
        for q in range(m):
            total = np.float32(0.0)
            for j in range(weight.shape[1]):
                total += queries[i, j] * weight[labels[q], j]
            scores[q] = total + bias[labels[q]]
        kept = np.argsort(-scores, kind="mergesort")[:k]
        for r in range(k):
            out_labels[i, r] = labels[kept[r]]
            out_scores[i, r] = scores[kept[r]]
    return out_labels, out_scores
