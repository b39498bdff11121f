"""Numba kernels of prediction, for the rows of one thread.

They start no threads and allocate nothing. Whatever depends on a row alone is summed in an order
of its own, so that neither its neighbours nor the number of threads change a bit of its result.
A heap is an array of places, the best first, over parallel arrays `key` (larger is better) and
`label` (breaks ties, smaller is better).
"""

import os
from typing import NamedTuple

import numpy as np
from numba import njit

# SKXMC_NUMBA_CACHE=0 compiles anew in each process, for where no cache can be written
_CACHE = os.environ.get("SKXMC_NUMBA_CACHE", "1") != "0"
_SUMS = {"reassoc", "contract", "nsz"}
# Rows whose cluster scores are made together: their embeddings stay in the second-level cache.
BLOCK = 32
# Dots of labels taken at once: their memory arrives side by side.
_GROUP = 4


class Graph(NamedTuple):
    """Arrays of a model, as `skxmc.search.graph.SearchGraph` describes them; all read-only."""

    cluster_weight: np.ndarray
    cluster_bias: np.ndarray
    indptr: np.ndarray
    labels: np.ndarray
    log_weights: np.ndarray
    label_weight: np.ndarray
    label_scale: np.ndarray
    label_bias: np.ndarray


class Scratch(NamedTuple):
    """Memory of one thread, kept from call to call."""

    logits: np.ndarray  # (BLOCK, n_clusters) float32
    stamp: np.ndarray  # (n_labels,) int32, the last row that met the label
    row: np.ndarray  # (1,) int32, number of the current row
    beam_key: np.ndarray  # (beam_width,) float32: score of a cluster, then of its next path
    beam_label: np.ndarray  # (beam_width,) int32: the cluster, then the label of its next path
    beam_heap: np.ndarray  # (beam_width,) int32
    base: np.ndarray  # (beam_width,) float32, log score of the cluster
    place: np.ndarray  # (beam_width, 2) int32, its edges still to follow
    best_key: np.ndarray  # (k,) float32
    best_label: np.ndarray  # (k,) int32
    best_heap: np.ndarray  # (k,) int32
    group_path: np.ndarray  # (_GROUP,) float32
    group_label: np.ndarray  # (_GROUP,) int32
    group_logit: np.ndarray  # (_GROUP,) float32


def make_scratch(n_clusters: int, n_labels: int, beam_width: int, k: int) -> Scratch:
    """Allocate the memory that `search_rows` works in."""
    return Scratch(
        np.empty((BLOCK, n_clusters), np.float32),
        np.zeros(n_labels, np.int32),
        np.zeros(1, np.int32),
        np.empty(beam_width, np.float32),
        np.empty(beam_width, np.int32),
        np.empty(beam_width, np.int32),
        np.empty(beam_width, np.float32),
        np.empty((beam_width, 2), np.int32),
        np.empty(k, np.float32),
        np.empty(k, np.int32),
        np.empty(k, np.int32),
        np.empty(_GROUP, np.float32),
        np.empty(_GROUP, np.int32),
        np.empty(_GROUP, np.float32),
    )


@njit(cache=_CACHE, nogil=True, fastmath=_SUMS)
def encode_rows(indptr, indices, data, table, column_scale, unit_rows, length, out):
    """Embed sparse rows: a weighted sum of table rows, brought to one length.

    `column_scale` of size 0 leaves values as they are; `unit_rows` scales rows to length 1 first.
    """
    width = table.shape[1]
    for i in range(out.shape[0]):
        start, stop = indptr[i], indptr[i + 1]
        factor = np.float64(1.0)
        if unit_rows:
            squares = 0.0
            for p in range(start, stop):
                squares += np.float64(data[p]) * np.float64(data[p])
            if squares > 0:
                factor = 1.0 / np.sqrt(squares)
        row = out[i]
        row[:] = 0
        for p in range(start, stop):
            value = np.float32(data[p] * factor)
            if column_scale.size > 0:
                value = data[p] * column_scale[indices[p]]
            source = table[indices[p]]
            for j in range(width):
                row[j] += value * source[j]
        squares32 = np.float32(0.0)
        for j in range(width):
            squares32 += row[j] * row[j]
        # the smallest norm is torch's, in torch.nn.functional.normalize
        scale = np.float32(length) / max(np.sqrt(squares32), np.float32(1e-12))
        for j in range(width):
            row[j] *= scale


@njit(cache=_CACHE, nogil=True)
def search_rows(
    graph, embeddings, log_alpha, path_power, beam_width, shortlist_size, scratch, labels, scores
):
    """Write the best labels of each row into `labels` and `scores`, both (n_rows, k)."""
    n_rows = embeddings.shape[0]
    for start in range(0, n_rows, BLOCK):
        stop = min(n_rows, start + BLOCK)
        _cluster_logits(embeddings[start:stop], graph, scratch.logits)
        for i in range(start, stop):
            _follow_beam(graph, scratch.logits[i - start], log_alpha, beam_width, scratch)
            n_best = _best_labels(
                graph, embeddings[i], path_power, beam_width, shortlist_size, scratch
            )
            # a ranker of the best few would put its own scores into best_key here
            _write_best(n_best, scratch, labels[i], scores[i])


@njit(cache=_CACHE, nogil=True, fastmath=_SUMS)
def _cluster_logits(embeddings, graph, out):
    """Products of all rows and clusters, four rows and two clusters at a time.

    At the edges a row or cluster stands in twice, so that every sum comes from the same loop.
    """
    weight, bias = graph.cluster_weight, graph.cluster_bias
    last_row, last = embeddings.shape[0] - 1, weight.shape[0] - 1
    for c in range(0, last + 1, 2):
        d = min(c + 1, last)
        v, w = weight[c], weight[d]
        for i in range(0, last_row + 1, 4):
            i1, i2, i3 = min(i + 1, last_row), min(i + 2, last_row), min(i + 3, last_row)
            e0, e1, e2, e3 = embeddings[i], embeddings[i1], embeddings[i2], embeddings[i3]
            v0 = v1 = v2 = v3 = w0 = w1 = w2 = w3 = np.float32(0.0)
            for j in range(weight.shape[1]):
                v0 += e0[j] * v[j]
                v1 += e1[j] * v[j]
                v2 += e2[j] * v[j]
                v3 += e3[j] * v[j]
                w0 += e0[j] * w[j]
                w1 += e1[j] * w[j]
                w2 += e2[j] * w[j]
                w3 += e3[j] * w[j]
            out[i, c], out[i, d] = v0 + bias[c], w0 + bias[d]
            out[i1, c], out[i1, d] = v1 + bias[c], w1 + bias[d]
            out[i2, c], out[i2, d] = v2 + bias[c], w2 + bias[d]
            out[i3, c], out[i3, d] = v3 + bias[c], w3 + bias[d]


@njit(cache=_CACHE, nogil=True)
def _follow_beam(graph, logits, log_alpha, beam_width, scratch):
    """Find the best clusters of a row and make a heap of the first path of each."""
    largest = np.float32(-np.inf)
    for c in range(logits.shape[0]):
        largest = max(largest, logits[c])
    mass = 0.0
    for c in range(logits.shape[0]):
        mass += np.exp(logits[c] - largest)
    shift = np.float32(log_alpha - np.log(mass)) - largest
    key, label, heap = scratch.beam_key, scratch.beam_label, scratch.beam_heap
    n = 0
    for c in range(logits.shape[0]):
        n = _offer(key, label, heap, n, beam_width, logits[c], np.int32(c))
    for b in range(n):
        cluster = -label[b]
        scratch.base[b] = min(np.float32(0.0), shift - key[b])
        scratch.place[b, 0] = graph.indptr[cluster]
        scratch.place[b, 1] = graph.indptr[cluster + 1]
        heap[b] = b
        _next_path(graph, scratch, b)
    for q in range(n // 2, -1, -1):
        _sift_down(key, label, heap, n, q)


@njit(cache=_CACHE, nogil=True)
def _next_path(graph, scratch, b):
    """Let the key of beam slot b be that of its next edge; edges are sorted, best first."""
    p = scratch.place[b, 0]
    if p == scratch.place[b, 1]:
        scratch.beam_key[b] = -np.inf
        scratch.beam_label[b] = -1
    else:
        scratch.beam_key[b] = scratch.base[b] + graph.log_weights[p]
        scratch.beam_label[b] = graph.labels[p]
        scratch.place[b, 0] = p + 1


@njit(cache=_CACHE, nogil=True)
def _best_labels(graph, embedding, path_power, beam_width, shortlist_size, scratch):
    """Follow paths from the best downwards, score their labels and keep the best k.

    A label's first path is its best. Scores are at most the path's, so that the rest is left out
    as soon as no path can lead into the best k any more. Returns how many labels were kept.
    """
    key, label, heap = scratch.beam_key, scratch.beam_label, scratch.beam_heap
    k = scratch.best_key.shape[0]
    if scratch.row[0] == np.iinfo(np.int32).max:
        scratch.stamp[:] = 0
        scratch.row[0] = 0
    scratch.row[0] += 1
    row = scratch.row[0]
    n_best, n_group, left = 0, 0, shortlist_size
    while True:
        b = heap[0]
        over = label[b] < 0 or left == 0
        if not over:
            if scratch.stamp[label[b]] != row:
                scratch.stamp[label[b]] = row
                scratch.group_path[n_group] = np.exp(path_power * key[b])
                scratch.group_label[n_group] = label[b]
                n_group += 1
                left -= 1
            _next_path(graph, scratch, b)
            _sift_down(key, label, heap, beam_width, 0)
        if n_group == _GROUP or (over and n_group > 0):
            n_best = _score_group(graph, embedding, n_group, n_best, scratch)
            # a hair above, as exp need not be monotone to the last bit
            path = scratch.group_path[n_group - 1] * np.float32(1.000001)
            over |= n_best == k and path < -scratch.best_key[scratch.best_heap[0]]
            n_group = 0
        if over:
            return n_best


@njit(cache=_CACHE, nogil=True)
def _score_group(graph, embedding, n_group, n_best, scratch):
    """Score a few labels side by side and offer them to the best k."""
    for q in range(n_group, _GROUP):
        scratch.group_label[q] = scratch.group_label[0]
    _label_logits(graph, embedding, scratch.group_label, scratch.group_logit)
    for q in range(n_group):
        score = scratch.group_path[q] / (np.float32(1.0) + np.exp(-scratch.group_logit[q]))
        n_best = _offer(
            scratch.best_key, scratch.best_label, scratch.best_heap, n_best,
            scratch.best_key.shape[0], score, scratch.group_label[q],
        )  # fmt: skip
    return n_best


@njit(cache=_CACHE, nogil=True, fastmath=_SUMS)
def _label_logits(graph, embedding, labels, out):
    """Logits of `_GROUP` labels; sums are of float32, whatever the labels' precision."""
    weight = graph.label_weight
    w0, w1, w2, w3 = weight[labels[0]], weight[labels[1]], weight[labels[2]], weight[labels[3]]
    z0 = z1 = z2 = z3 = np.float32(0.0)
    for j in range(weight.shape[1]):
        z0 += embedding[j] * np.float32(w0[j])
        z1 += embedding[j] * np.float32(w1[j])
        z2 += embedding[j] * np.float32(w2[j])
        z3 += embedding[j] * np.float32(w3[j])
    out[0], out[1], out[2], out[3] = z0, z1, z2, z3
    for q in range(4):
        out[q] = out[q] * graph.label_scale[labels[q]] + graph.label_bias[labels[q]]


@njit(cache=_CACHE, nogil=True)
def _write_best(n_best, scratch, labels, scores):
    """Empty the heap of the best labels, worst first, into one row of the result."""
    key, label, heap = scratch.best_key, scratch.best_label, scratch.best_heap
    labels[n_best:] = -1
    scores[n_best:] = -np.inf
    for n in range(n_best - 1, -1, -1):
        labels[n], scores[n] = -label[heap[0]], -key[heap[0]]
        heap[0] = heap[n]
        _sift_down(key, label, heap, n, 0)


@njit(cache=_CACHE, nogil=True)
def _offer(key, label, heap, n, capacity, score, name):
    """Offer a candidate to the best `capacity` of those met so far; returns their number.

    Keys and names are stored negated, so that the worst one kept is at the heap's top.
    """
    if n < capacity:
        key[n], label[n] = -score, -name
        q = n
        while q > 0:
            above = (q - 1) // 2
            if not _before(key, label, n, heap[above]):
                break
            heap[q] = heap[above]
            q = above
        heap[q] = n
        return n + 1
    worst = heap[0]
    if -score < key[worst] or (-score == key[worst] and -name > label[worst]):
        key[worst], label[worst] = -score, -name
        _sift_down(key, label, heap, n, 0)
    return n


@njit(cache=_CACHE, nogil=True)
def _before(key, label, a, b):
    return key[a] > key[b] or (key[a] == key[b] and label[a] < label[b])


@njit(cache=_CACHE, nogil=True)
def _sift_down(key, label, heap, n, q):
    """Restore the order of a heap of n places whose place q may be too good for where it is."""
    moved = heap[q]
    while True:
        child = 2 * q + 1
        if child >= n:
            break
        if child + 1 < n and _before(key, label, heap[child + 1], heap[child]):
            child += 1
        if not _before(key, label, heap[child], moved):
            break
        heap[q] = heap[child]
        q = child
    heap[q] = moved
