"""Numba kernels of the search: from a beam of clusters to a shortlist of labels.

Arrays of the graph: `edges` (n_clusters, width) holds label columns, padded with -1; `log_weights`
(n_clusters, width) the logarithm of their edge weights.
"""

import numpy as np
from numba import njit, prange

# Bins of the first look for a k-th largest score, and scores below which it does not pay.
_BINS = 512


@njit(cache=True, parallel=True)
def shortlist(
    beam,
    beam_scores,
    edges,
    log_weights,
    n_labels,
    k,
    pos_indptr,
    pos_indices,
    n_parts,
):
    """Gather the k best labels of each row over the paths row -> beam cluster -> label.

    A label reached by several paths keeps the best one. `beam` (n_rows, width) may be padded with
    -1. The labels `pos_indices` of a row, if reached, are always kept. Rows are cut into `n_parts`
    runs, each with its own scratch. Returns labels (-1 padded), the column of `edges` and the beam
    slot of the winning path.
    """
    n_rows = beam.shape[0]
    out_labels = np.full((n_rows, k), -1, dtype=np.int32)
    out_edge = np.zeros((n_rows, k), dtype=np.int32)
    out_slot = np.zeros((n_rows, k), dtype=np.int32)
    capacity = beam.shape[1] * edges.shape[1]
    for part in prange(n_parts):
        place = np.full(n_labels, -1, dtype=np.int32)
        labels = np.empty(capacity, dtype=np.int32)
        scores = np.empty(capacity, dtype=np.float32)
        edge_of = np.empty(capacity, dtype=np.int32)
        slot_of = np.empty(capacity, dtype=np.int32)
        for i in range(part * n_rows // n_parts, (part + 1) * n_rows // n_parts):
            m = _collect(
                beam[i], beam_scores[i], edges, log_weights, place, labels, scores, edge_of, slot_of
            )
            for p in range(pos_indptr[i], pos_indptr[i + 1]):
                q = place[pos_indices[p]]
                if q >= 0:
                    scores[q] = np.inf
            for q in range(m):
                place[labels[q]] = -1
            kept = select_top(scores[:m], labels[:m], k)
            for r in range(kept.shape[0]):
                q = kept[r]
                out_labels[i, r] = labels[q]
                out_edge[i, r] = edge_of[q]
                out_slot[i, r] = slot_of[q]
    return out_labels, out_edge, out_slot


@njit(cache=True)
def _collect(beam, beam_scores, edges, log_weights, place, labels, scores, edge_of, slot_of):
    """List each label of the beam's clusters once, with its best path; returns how many."""
    m = 0
    for b in range(beam.shape[0]):
        c = beam[b]
        if c < 0:
            continue
        for e in range(edges.shape[1]):
            label = edges[c, e]
            if label < 0:
                break
            score = beam_scores[b] + log_weights[c, e]
            q = place[label]
            if q < 0:
                q = m
                m += 1
                place[label] = q
                labels[q] = label
                scores[q] = -np.inf
                edge_of[q], slot_of[q] = e, b
            if score > scores[q]:
                scores[q] = score
                edge_of[q], slot_of[q] = e, b
    return m


@njit(cache=True)
def _kth_largest(scores, k):
    """Value of the k-th largest of m > k scores: a histogram, then the one bin it falls in."""
    m = scores.shape[0]
    if m < _BINS:
        return np.partition(scores, m - k)[m - k]
    low, high = np.float32(np.inf), np.float32(-np.inf)
    n_infinite = 0
    for q in range(m):
        if scores[q] == np.inf:
            n_infinite += 1
        else:
            low, high = min(low, scores[q]), max(high, scores[q])
    span = high - low
    if n_infinite >= k or not 0 < span < np.inf:
        return np.partition(scores, m - k)[m - k]
    counts = np.zeros(_BINS, dtype=np.int32)
    bins = np.empty(m, dtype=np.int32)
    scale = np.float32(_BINS - 1) / span
    for q in range(m):
        # rounding is monotone: a larger score is never in a lower bin; inf goes to the top one
        bins[q] = np.int32(min((scores[q] - low) * scale, np.float32(_BINS - 1)))
    for q in range(m):
        counts[bins[q]] += 1
    wanted = k
    at = _BINS - 1
    while counts[at] < wanted:
        wanted -= counts[at]
        at -= 1
    inside = np.empty(counts[at], dtype=np.float32)
    n_inside = 0
    for q in range(m):
        if bins[q] == at:
            inside[n_inside] = scores[q]
            n_inside += 1
    return np.partition(inside, n_inside - wanted)[n_inside - wanted]


@njit(cache=True)
def select_top(scores, labels, k):
    """Positions of the k largest scores, ties by the smaller label; in no particular order."""
    m = scores.shape[0]
    if m <= k:
        return np.arange(m)
    threshold = _kth_largest(scores, k)
    kept = np.empty(k, dtype=np.int64)
    n_kept = 0
    n_ties = 0
    for q in range(m):
        if scores[q] > threshold:
            kept[n_kept] = q
            n_kept += 1
        elif scores[q] == threshold:
            n_ties += 1
    ties = np.empty(n_ties, dtype=np.int64)
    n_ties = 0
    for q in range(m):
        if scores[q] == threshold:
            ties[n_ties] = q
            n_ties += 1
    if n_ties > k - n_kept:
        ties = ties[np.argsort(labels[ties])]
    for r in range(k - n_kept):
        kept[n_kept + r] = ties[r]
    return kept


@njit(cache=True, parallel=True)
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


@njit(cache=True, parallel=True, fastmath={"reassoc", "contract", "nsz"})
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
