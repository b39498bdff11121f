"""Numba kernels from a beam of clusters to the labels with the best paths, for one row.

A path leads over one cluster of the beam and one of its edges; its log score is the sum of theirs.
Paths are ranked by keys: the cluster's log score plus the edge's key, which may favour labels that
are likely anyway. Edges of a cluster are sorted, so that the paths above a bound are a prefix of
each cluster's. Bounds are found by bisection and prefixes read in one go: no heap, hardly a branch
to guess.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from skxmc._numba_cache import CACHE
from skxmc.search.numeric._kernels import keep_best

_BISECTIONS = 24
# Levels of edge keys, and how many there are to a nat: what is further down is in the last one.
N_LEVELS = 128
_PER_NAT = np.float32(8.0)
# columns of PathScratch.place
NEXT, _TOO_FEW, ENOUGH, _PROBE, END = range(5)


class PathScratch(NamedTuple):
    """Memory of one thread; the first `n` of `label`, `path` and `key` are the shortlist."""

    base: np.ndarray  # (beam_width,) float32, log scores of the clusters, written by the caller
    place: np.ndarray  # (beam_width, 5) int32, edges: next one, stops of two bounds, a try, end
    mark: np.ndarray  # (n_labels,) int32, place of a label in the shortlist, counted from `first`
    first: np.ndarray  # (1,) int32, marks below belong to earlier rows
    label: np.ndarray  # (reach,) int32
    path: np.ndarray  # (reach,) float32, best log path score of the label
    key: np.ndarray  # (reach,) float32, what the label was chosen by
    order: np.ndarray  # (reach,) int32, integers that compare as keys do
    levels: np.ndarray  # (2 * N_LEVELS,) int32, paths down to each level below the best


def make_path_scratch(n_labels: int, beam_width: int, reach: int) -> PathScratch:
    """Allocate memory for beams that lead to at most `reach` labels."""
    return PathScratch(
        np.empty(beam_width, np.float32),
        np.empty((beam_width, 5), np.int32),
        np.zeros(n_labels, np.int32),
        np.ones(1, np.int32),
        np.empty(reach, np.int32),
        np.empty(reach, np.float32),
        np.empty(reach, np.float32),
        np.empty(reach, np.int32),
        np.empty(2 * N_LEVELS, np.int32),
    )


@njit(cache=CACHE, nogil=True)
def count_levels(indptr, edge_keys, levels):
    """Count the edges of each cluster down to each level; `levels` is (n_clusters, N_LEVELS).

    Level 0 are the edges whose keys are within an eighth of a nat of the largest of all.
    """
    largest = np.float32(-np.inf)
    for p in range(edge_keys.shape[0]):
        largest = max(largest, edge_keys[p])
    for c in range(levels.shape[0]):
        levels[c] = 0
        for p in range(indptr[c], indptr[c + 1]):
            levels[c, _level(largest - edge_keys[p])] += 1
        levels[c] = np.cumsum(levels[c])


@njit(cache=CACHE, nogil=True)
def _level(below):
    """Level of a key or a cluster so many nats below the best."""
    level = below * _PER_NAT
    return np.int64(level) if level < N_LEVELS else np.int64(N_LEVELS - 1)


@njit(cache=CACHE, nogil=True)
def shortlist_labels(indptr, labels, edge_keys, log_weights, beam, size, scratch):
    """Find the `size` labels with the best keys, ties by the smaller label; returns how many.

    `beam` has the clusters, `scratch.base` their log scores. The shortlist comes in no order, but
    with the best cluster first good labels tend to stand in front.
    """
    _start(indptr, beam, scratch)
    n = 0
    while n < size:
        left = size - n
        # some labels come over several clusters, so that there are more paths than labels
        if _narrow(edge_keys, left + left // 4, 2 * left + 16, beam.shape[0], scratch) == 0:
            break
        n = _collect(labels, edge_keys, log_weights, beam.shape[0], n, scratch)
    scratch.first[0] += n
    return keep_best(scratch.key, scratch.label, scratch.path, scratch.key, n, size, scratch.order)


@njit(cache=CACHE, nogil=True)
def bound_paths(indptr, edge_keys, levels, beam, size, scratch):
    """Find stops before which there are the best `size` to 1.25 times as many paths, if there are.

    Returns how many; more if they tie.
    """
    _start(indptr, beam, scratch)
    most, total = size + size // 4 + 16, _bound_by_levels(levels, beam, size, scratch)
    return _narrow(edge_keys, size, most, beam.shape[0], scratch) if total > most else total


@njit(cache=CACHE, nogil=True)
def _bound_by_levels(levels, beam, size, scratch):
    """Set stops to levels, down to one of which there are fewer than `size` paths, not the other.

    Returns how many there are.
    """
    place, base, totals = scratch.place, scratch.base, scratch.levels
    best = base.max()
    totals[:] = 0
    for b in range(beam.shape[0]):
        shift = place[b, _PROBE] = _level(best - base[b])
        _add_levels(levels[beam[b]], totals[shift:])
    last = 0
    while totals[last] < size and last + 1 < totals.shape[0]:
        last += 1
    for b in range(beam.shape[0]):
        own, first = last - place[b, _PROBE], place[b, NEXT]
        place[b, ENOUGH] = first + _reached(levels[beam[b]], own)
        place[b, _TOO_FEW] = first + _reached(levels[beam[b]], own - 1)
    return np.int64(totals[last])


@njit(cache=CACHE, nogil=True)
def _add_levels(levels, totals):
    """Add a cluster's edges down to each level, all of them below the last one."""
    for j in range(N_LEVELS):
        totals[j] += levels[j]
    for j in range(N_LEVELS, totals.shape[0]):
        totals[j] += levels[N_LEVELS - 1]


@njit(cache=CACHE, nogil=True)
def _reached(levels, level):
    """Edges of a cluster down to a level, which may be above the first or below the last."""
    return levels[min(level, N_LEVELS - 1)] if level >= 0 else np.int32(0)


@njit(cache=CACHE, nogil=True)
def merge_paths(n, bound, scratch, labels, paths):
    """Write the labels of those of n paths that reach a bound, each once; returns how many.

    `scratch.order` is held against the bound, and lost; `paths` receives each label's best log
    score.
    """
    mark, first, order = scratch.mark, scratch.first[0], scratch.order
    n_kept = 0
    for q in range(n):
        reached = order[q] >= bound
        # written in any case, and overwritten by the next if not kept: no branch to guess
        order[n_kept] = q
        n_kept += reached
    m = 0
    for r in range(n_kept):
        q = order[r]
        label = scratch.label[q]
        at = mark[label] - first
        if at < 0:
            mark[label] = first + m
            labels[m], paths[m] = label, scratch.path[q]
            m += 1
        else:
            paths[at] = max(paths[at], scratch.path[q])
    scratch.first[0] += m
    return m


@njit(cache=CACHE, nogil=True)
def _start(indptr, beam, scratch):
    """Go to the first edge of each cluster of a beam, with all of them before the stop."""
    place = scratch.place
    for b in range(beam.shape[0]):
        place[b, NEXT] = place[b, _TOO_FEW] = indptr[beam[b]]
        place[b, ENOUGH] = place[b, END] = indptr[beam[b] + 1]
    # marks are set by paths, perhaps more than once a row, and by a ranker
    if scratch.first[0] > np.iinfo(np.int32).max // 2:
        scratch.mark[:] = 0
        scratch.first[0] = 1


@njit(cache=CACHE, nogil=True)
def _narrow(edge_keys, fewest, most, n_beam, scratch):
    """Narrow stops that more paths reach to those of `fewest` to about `most`; returns how many.

    Between the stops of too few paths and of enough.
    """
    place, base = scratch.place, scratch.base
    low, high, total = np.float32(np.inf), np.float32(-np.inf), 0
    for b in range(n_beam):
        if place[b, _TOO_FEW] < place[b, ENOUGH]:
            high = max(high, base[b] + edge_keys[place[b, _TOO_FEW]])
            low = min(low, base[b] + edge_keys[place[b, ENOUGH] - 1])
        total += place[b, ENOUGH] - place[b, NEXT]
    for _ in range(_BISECTIONS):
        if total <= most:
            break
        bound = np.float32(0.5) * (low + high)
        count = 0
        for b in range(n_beam):
            start, left = place[b, _TOO_FEW], place[b, ENOUGH] - place[b, _TOO_FEW]
            while left > 0:
                half = (left + 1) // 2
                # by a product, not a branch: it would be guessed wrong every other time
                start += half * np.int32(base[b] + edge_keys[start + half - 1] >= bound)
                left -= half
            place[b, _PROBE] = start
            count += start - place[b, NEXT]
        if count < fewest:
            high = bound
            place[:n_beam, _TOO_FEW] = place[:n_beam, _PROBE]
        else:
            low, total = bound, count
            place[:n_beam, ENOUGH] = place[:n_beam, _PROBE]
    return total


@njit(cache=CACHE, nogil=True)
def _collect(labels, edge_keys, log_weights, n_beam, n, scratch):
    """Add the labels before the stops to a shortlist of n, each with its best path."""
    place, mark, first = scratch.place, scratch.mark, scratch.first[0]
    label, path, key = scratch.label, scratch.path, scratch.key
    for b in range(n_beam):
        base = scratch.base[b]
        for p in range(place[b, NEXT], place[b, ENOUGH]):
            at = mark[labels[p]] - first
            if at < 0:
                mark[labels[p]] = first + n
                label[n], path[n], key[n] = labels[p], base + log_weights[p], base + edge_keys[p]
                n += 1
            else:
                path[at] = max(path[at], base + log_weights[p])
                key[at] = max(key[at], base + edge_keys[p])
        place[b, NEXT] = place[b, _TOO_FEW] = place[b, ENOUGH]
        place[b, ENOUGH] = place[b, END]
    return n
