"""Numba kernels of training: mined labels, beams of clusters and what flows back to them.

Each output row is owned by one thread, so results do not depend on the number of threads.
"""

import numpy as np
from numba import njit, prange

from skxmc._numba_cache import CACHE
from skxmc.index._kernels import exp_row, sum_row
from skxmc.ops._kernels import largest, row_length

# One score in this many is looked at to guess a threshold.
_STRIDE = 16


@njit(cache=CACHE, parallel=True)
def take_bfloat16(bits, rows, out):
    """out[i] = the upper halves, rounded to even, of row rows[i] of a float32 table's bits."""
    for i in prange(rows.shape[0]):
        source, target = bits[rows[i]], out[i]
        for j in range(source.shape[0]):
            x = source[j]
            target[j] = (x + np.uint32(0x7FFF) + ((x >> np.uint32(16)) & np.uint32(1))) >> (
                np.uint32(16)
            )


@njit(cache=CACHE, parallel=True)
def hardest_of_halves(products, bias, labels, indptr, own, out):
    """Like `hardest`, of products in bfloat16 (as uint16) to which the biases are still to come."""
    for i in prange(products.shape[0]):
        bits = np.empty(products.shape[1], dtype=np.uint32)
        source = products[i]
        for q in range(bits.shape[0]):
            bits[q] = np.uint32(source[q]) << np.uint32(16)
        scores = bits.view(np.float32)
        for q in range(bits.shape[0]):
            scores[q] += bias[q]
        _pick(scores, own[indptr[i] : indptr[i + 1]], labels, out[i])


@njit(cache=CACHE, parallel=True)
def hardest(scores, labels, indptr, own, out):
    """out[i] = labels of the highest of scores[i], as many as it has room for, in no real order.

    Columns own[indptr[i]:indptr[i + 1]] take no part; they come last where there is room left.
    Ties go to the earlier column. `scores` is overwritten at them.
    """
    for i in prange(scores.shape[0]):
        _pick(scores[i], own[indptr[i] : indptr[i + 1]], labels, out[i])


@njit(cache=CACHE)
def _pick(scores, own, labels, out):
    k = out.shape[0]
    for q in own:
        scores[q] = -np.inf
    at = _candidates(scores, k)
    values = scores[at]
    threshold = np.float32(-np.inf)
    if at.shape[0] > k:
        threshold = np.partition(values, at.shape[0] - k)[at.shape[0] - k]
    out[:] = labels[0]  # where scores are NaN none is found
    n = 0
    for c in range(at.shape[0]):
        if values[c] > threshold:
            out[n] = labels[at[c]]
            n += 1
    for c in range(at.shape[0]):
        if n < k and values[c] == threshold:
            out[n] = labels[at[c]]
            n += 1


@njit(cache=CACHE)
def _candidates(scores, k):
    """Columns of all scores above some threshold that k or more reach, ascending.

    The threshold comes from a sample, and is lowered until it is low enough.
    """
    m = scores.shape[0]
    at = np.empty(m + 1, dtype=np.int32)
    sample = scores[::_STRIDE].copy()
    rank = k * 3 // (2 * _STRIDE) + 3
    while rank < sample.shape[0]:
        threshold = np.partition(sample, sample.shape[0] - rank)[sample.shape[0] - rank]
        n = 0
        for q in range(m):  # without a branch
            at[n] = q
            n += scores[q] >= threshold
        if n >= k:
            return at[:n]
        rank *= 2
    at[:m] = np.arange(m)
    return at[:m]


@njit(cache=CACHE)
def find_own(drawn, indptr, labels):
    """Places in the pool of the rows' labels that are `drawn`: a CSR pattern of their own."""
    starts = np.zeros(indptr.shape[0], dtype=np.int64)
    places = np.empty(labels.shape[0], dtype=np.int64)
    n = 0
    for i in range(indptr.shape[0] - 1):
        for p in range(indptr[i], indptr[i + 1]):
            place = np.searchsorted(drawn, labels[p])
            if place < drawn.shape[0] and drawn[place] == labels[p]:
                places[n] = place
                n += 1
        starts[i + 1] = n
    return starts, places[:n]


@njit(cache=CACHE)
def join_labels(indptr, positives, negatives, n_found):
    """Join positives (CSR) and the first n_found[i] of negatives[i]; returns CSR and signs."""
    n_rows = n_found.shape[0]
    starts = np.zeros(n_rows + 1, dtype=np.int64)
    for i in range(n_rows):
        starts[i + 1] = starts[i] + (indptr[i + 1] - indptr[i]) + n_found[i]
    labels = np.empty(starts[n_rows], dtype=np.int64)
    signs = np.empty(starts[n_rows], dtype=np.float32)
    for i in range(n_rows):
        middle = starts[i] + indptr[i + 1] - indptr[i]
        labels[starts[i] : middle] = positives[indptr[i] : indptr[i + 1]]
        signs[starts[i] : middle] = 1.0
        labels[middle : starts[i + 1]] = negatives[i, : n_found[i]]
        signs[middle : starts[i + 1]] = -1.0
    return starts, labels, signs


@njit(cache=CACHE, parallel=True)
def partition_paths(logits, indptr, parents, log_gain, width, n_seen, costs, hits, grad):
    """Path cost of each row, and the gradient in its logits of the mean of all rows' costs.

    `parents` holds the clusters of the entries of the rows' positives. A row's cost is the mean
    over these of -log min(1, gain * softmax); a share that is cut at 1 has no gradient. hits[i] of
    the first `n_seen` rows counts the entries to whose cluster fewer than `width` are preferred.
    """
    n_rows = logits.shape[0]
    for i in prange(n_rows):
        row, slope, own = logits[i], grad[i], parents[indptr[i] : indptr[i + 1]]
        log_sum = _softmax(row, slope)
        pull = np.float32(1.0 / (n_rows * max(1, own.shape[0])))
        cost, n_pulling = 0.0, 0
        for c in own:
            log_share = row[c] - log_sum + log_gain
            if not log_share > 0:  # NaN is to be seen
                cost -= log_share
                n_pulling += 1
            if i < n_seen:
                hits[i] += (row > row[c]).sum() < width
        scale = n_pulling * pull
        for j in range(slope.shape[0]):
            slope[j] *= scale
        for c in own:
            if not row[c] - log_sum + log_gain > 0:
                slope[c] -= pull
        costs[i] = cost / max(1, own.shape[0])


@njit(cache=CACHE, parallel=True)
def find_beams(logits, width, indptr, parents, log_gain, shares, beams, log_scores):
    """Best clusters of each row and its positives' parents, each once, ascending, -1 behind.

    `parents` holds those of each entry of the rows' positives, -1 for none. `shares` receives the
    softmax of the logits, `log_scores` the logs of gain * softmax of the beams, not cut at 0.
    Returns how many of each row's parents are among the best.
    """
    n_rows, n_clusters = logits.shape
    hits = np.zeros(n_rows, dtype=np.int64)
    every, none = np.arange(n_clusters), np.empty(0, dtype=np.int64)
    for i in prange(n_rows):
        row, own = logits[i], parents[indptr[i] : indptr[i + 1]]
        log_sum = _softmax(row, shares[i])
        found = np.empty(width + own.shape[0], dtype=np.int64)
        _pick(row, none, every, found[:width])
        for p in range(own.shape[0]):
            hits[i] += (found[:width] == own[p]).any()
        found[width:] = own
        found.sort()
        n, last = 0, np.int64(-1)
        beams[i], log_scores[i] = -1, 0
        for c in found:
            if c > last:
                beams[i, n], log_scores[i, n] = c, row[c] - log_sum + log_gain
                n += 1
            last = c
    return hits


@njit(cache=CACHE)
def _softmax(row, shares):
    """Write the softmax of a row; returns the log of its sum of exponentials."""
    highest = largest(row)
    exp_row(row, highest, shares)
    total = sum_row(shares)
    inverse = np.float32(1.0) / total
    for j in range(shares.shape[0]):
        shares[j] *= inverse
    return highest + np.log(total)


@njit(cache=CACHE, parallel=True)
def noisy_keys(edges, rows, log_weights, scale, quantiles, seed):
    """Keys that `shortlist` chooses by, edges of each cluster, and its highest key.

    A key is the edge's log weight, and `scale` times the quantile that a hash of seed and label
    draws. Only `rows` are filled, up to their padding.
    """
    keys = np.empty(edges.shape, dtype=np.float32)
    lengths = np.zeros(edges.shape[0], dtype=np.int32)
    highest = np.full(edges.shape[0], -np.inf, dtype=np.float32)
    shift = np.uint32(32 - int(np.log2(quantiles.shape[0])))
    for r in prange(rows.shape[0]):
        c = rows[r]
        n = row_length(edges[c])
        for e in range(n):
            # the finaliser of MurmurHash3
            h = np.uint32(edges[c, e]) ^ seed
            h = np.uint32((h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B))
            h = np.uint32((h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35))
            h = np.uint32(h ^ (h >> np.uint32(16)))
            keys[c, e] = log_weights[c, e] + scale * quantiles[h >> shift]
        lengths[c], highest[c] = n, largest(keys[c, :n])
    return keys, lengths, highest


@njit(cache=CACHE, parallel=True)
def beams_backward(beams, log_scores, on_scores, shares):
    """Turn shares into the gradient of the clusters' logits, in place; a score cut at 0 has none.

    `log_scores` are those before the cut.
    """
    for i in prange(beams.shape[0]):
        total = np.float32(0.0)
        for b in range(beams.shape[1]):
            if beams[i, b] >= 0 and log_scores[i, b] <= 0:
                total += on_scores[i, b]
        row = shares[i]
        for c in range(row.shape[0]):
            row[c] *= -total
        for b in range(beams.shape[1]):
            if beams[i, b] >= 0 and log_scores[i, b] <= 0:
                row[beams[i, b]] += on_scores[i, b]


@njit(cache=CACHE, parallel=True)
def scatter_paths(indptr, beams, slots, columns, on_paths, n_parts, grad):
    """Add the gradient of each path to its edge; each part of the clusters is one thread's."""
    n_clusters = grad.shape[0]
    for part in prange(n_parts):
        first, last = part * n_clusters // n_parts, (part + 1) * n_clusters // n_parts
        for i in range(beams.shape[0]):
            for r in range(indptr[i + 1] - indptr[i]):
                c = beams[i, slots[i, r]]
                if first <= c < last:
                    grad[c, columns[i, r]] += on_paths[i, r]
