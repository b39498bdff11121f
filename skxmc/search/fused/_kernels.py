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

from skxmc.search.clusters._kernels import (
    ClusterScratch,
    cluster_logits,
    make_cluster_scratch,
    select_beam,
)
from skxmc.search.numeric._kernels import row_products
from skxmc.search.paths._kernels import (
    PathScratch,
    keep_best,
    make_path_scratch,
    shortlist_labels,
)

# SKXMC_NUMBA_CACHE=0 compiles anew in each process, for where no cache can be written
_CACHE = os.environ.get("SKXMC_NUMBA_CACHE", "1") != "0"
_SUMS = {"reassoc", "contract", "nsz"}
# Rows whose cluster scores are made together: their embeddings stay in the second-level cache.
BLOCK = 32


class Graph(NamedTuple):
    """Arrays of a model, as `skxmc.search.graph.SearchGraph` describes them; all read-only."""

    cluster_weight: np.ndarray
    cluster_bias: np.ndarray
    sketch_basis: np.ndarray
    sketch: np.ndarray
    indptr: np.ndarray
    labels: np.ndarray
    log_weights: np.ndarray
    edge_keys: np.ndarray
    label_codes: np.ndarray
    code_scale: np.ndarray
    label_weight: np.ndarray
    label_scale: np.ndarray
    label_bias: np.ndarray


class Scratch(NamedTuple):
    """Memory of one thread, kept from call to call."""

    clusters: ClusterScratch
    paths: PathScratch
    query: np.ndarray  # (2, code_width) float32, an embedding as `_code_logits` takes it
    logit: np.ndarray  # (reach,) float32, of the shortlist
    best_key: np.ndarray  # (k,) float32
    best_label: np.ndarray  # (k,) int32
    best_heap: np.ndarray  # (k,) int32


def make_scratch(graph: Graph, beam_width: int, reach: int, k: int) -> Scratch:
    """Allocate the memory that `search_rows` works in; a beam leads to `reach` labels at most."""
    n_labels, code_width = graph.label_codes.shape
    return Scratch(
        make_cluster_scratch(BLOCK, graph.cluster_bias.size, graph.sketch.shape[1], beam_width),
        make_path_scratch(n_labels, beam_width, reach),
        np.empty((2, code_width), np.float32),
        np.empty(reach, np.float32),
        np.empty(k, np.float32),
        np.empty(k, np.int32),
        np.empty(k, np.int32),
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
    graph, embeddings, log_alpha, path_power, shortlist_size, n_rescored, scratch, labels, scores
):  # fmt: skip
    """Write the best labels of each row into `labels` and `scores`, both (n_rows, k)."""
    n_rows = embeddings.shape[0]
    for start in range(0, n_rows, BLOCK):
        stop = min(n_rows, start + BLOCK)
        cluster_logits(embeddings[start:stop], graph, scratch.clusters)
        for i in range(start, stop):
            select_beam(
                graph, embeddings[i], i - start, log_alpha, scratch.clusters, scratch.paths.base
            )
            n = shortlist_labels(
                graph.indptr, graph.labels, graph.edge_keys, graph.log_weights,
                scratch.clusters.beam, shortlist_size, scratch.paths,
            )  # fmt: skip
            if n > n_rescored:
                n = _choose_by_codes(graph, embeddings[i], path_power, n, n_rescored, scratch)
            n_best = _best_labels(graph, embeddings[i], path_power, n, scratch)
            # a ranker of the best few would put its own scores into best_key here
            _write_best(n_best, scratch, labels[i], scores[i])


@njit(cache=_CACHE, nogil=True)
def _choose_by_codes(graph, embedding, path_power, n, size, scratch):
    """Keep those `size` labels of a shortlist of n that score best by their codes."""
    _prepare_query(embedding, scratch.query)
    _code_logits(graph, scratch.query, scratch.paths.label, n, scratch.logit)
    _log_scores(scratch.paths.path, path_power, n, scratch.logit)
    return keep_best(scratch.logit, n, size, scratch.paths)


@njit(cache=_CACHE, nogil=True)
def _prepare_query(embedding, query):
    """Turn an embedding into factors of codes' low halves and of whole bytes.

    A byte is 16 high + low: the high half's factor goes on the byte, the excess off the low half's.
    """
    width = query.shape[1]
    for j in range(width):
        high = embedding[width + j] if width + j < embedding.shape[0] else np.float32(0.0)
        query[1, j] = high / np.float32(16.0)
        query[0, j] = embedding[j] - query[1, j]


@njit(cache=_CACHE, nogil=True, fastmath=_SUMS)
def _code_logits(graph, query, labels, n, out):
    """Logits of n labels by their codes: two numbers from 0 to 15 a byte, 8 stands for zero."""
    codes, low, byte = graph.label_codes, query[0], query[1]
    zero = np.float32(0.0)
    for j in range(low.shape[0]):
        zero += np.float32(8.0) * low[j] + np.float32(136.0) * byte[j]
    for q in range(0, n, 4):
        q1, q2, q3 = min(q + 1, n - 1), min(q + 2, n - 1), min(q + 3, n - 1)
        c0, c1, c2, c3 = codes[labels[q]], codes[labels[q1]], codes[labels[q2]], codes[labels[q3]]
        z0 = z1 = z2 = z3 = np.float32(0.0)
        for j in range(low.shape[0]):
            # as int32: of bytes LLVM makes narrow vectors, slower by half
            b0, b1, b2, b3 = np.int32(c0[j]), np.int32(c1[j]), np.int32(c2[j]), np.int32(c3[j])
            z0 += low[j] * np.float32(b0 & 15) + byte[j] * np.float32(b0)
            z1 += low[j] * np.float32(b1 & 15) + byte[j] * np.float32(b1)
            z2 += low[j] * np.float32(b2 & 15) + byte[j] * np.float32(b2)
            z3 += low[j] * np.float32(b3 & 15) + byte[j] * np.float32(b3)
        out[q], out[q1], out[q2], out[q3] = z0, z1, z2, z3
    for q in range(n):
        out[q] = (out[q] - zero) * graph.code_scale[labels[q]] + graph.label_bias[labels[q]]


@njit(cache=_CACHE, nogil=True, fastmath=_SUMS)
def _log_scores(path, path_power, n, logit):
    """Turn logits z into log scores, path_power log path + log sigmoid(z), to within 0.006.

    log sigmoid(z) = min(z, 0) - log(1 + exp(-|z|)), whose last part is fitted by a fraction: it
    only orders labels by their codes, and unlike exponentials it runs in vectors.
    """
    for q in range(n):
        t = abs(logit[q])
        below = np.float32(1.0) + t * (
            np.float32(0.852) + t * (np.float32(-0.092) + t * np.float32(0.4225))
        )
        rest = np.float32(np.log(2.0)) / below
        logit[q] = path_power * path[q] + min(logit[q], np.float32(0.0)) - rest


@njit(cache=_CACHE, nogil=True)
def _best_labels(graph, embedding, path_power, n, scratch):
    """Score a shortlist of n labels and keep the best k; returns how many."""
    label, path, logit = scratch.paths.label, scratch.paths.path, scratch.logit
    key, name, heap = scratch.best_key, scratch.best_label, scratch.best_heap
    _row_logits(graph, embedding, label, n, logit)
    n_best = 0
    for q in range(n):
        score = np.exp(path_power * path[q]) / (np.float32(1.0) + np.exp(-logit[q]))
        n_best = _offer(key, name, heap, n_best, key.shape[0], score, label[q])
    return n_best


@njit(cache=_CACHE, nogil=True)
def _row_logits(graph, embedding, labels, n, out):
    """Logits of n labels by their rows."""
    row_products(graph.label_weight, embedding, labels, n, out)
    for q in range(n):
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
