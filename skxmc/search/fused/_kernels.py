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
from skxmc.search.coded._kernels import (
    CodeScratch,
    add_log_sigmoid,
    bit_logits,
    code_logits,
    make_code_scratch,
)
from skxmc.search.numeric._kernels import row_products
from skxmc.search.paths._kernels import (
    PathScratch,
    keep_best,
    make_path_scratch,
    shortlist_labels,
)
from skxmc.search.ranking._kernels import RankScratch, find_margins, make_rank_scratch

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
    label_bits: np.ndarray
    bit_scale: np.ndarray
    bit_axes: np.ndarray
    label_codes: np.ndarray
    code_scale: np.ndarray
    label_weight: np.ndarray
    label_scale: np.ndarray
    label_bias: np.ndarray


class Sizes(NamedTuple):
    """How many labels of a row go how far."""

    shortlist: int  # found over paths
    coded: int  # scored by their codes, chosen by their bits
    ranked: int  # whose margins are found, chosen by their codes; 0 without a ranker
    rescored: int  # scored by their rows


class Scratch(NamedTuple):
    """Memory of one thread, kept from call to call."""

    clusters: ClusterScratch
    paths: PathScratch
    codes: CodeScratch
    ranks: RankScratch
    logit: np.ndarray  # (reach,) float32, of the shortlist
    best_key: np.ndarray  # (k,) float32
    best_label: np.ndarray  # (k,) int32
    best_heap: np.ndarray  # (k,) int32


def make_scratch(graph: Graph, beam_width: int, reach: int, n_ranked: int, k: int) -> Scratch:
    """Allocate the memory that `search_rows` works in; a beam leads to `reach` labels at most."""
    n_labels, code_width = graph.label_codes.shape
    return Scratch(
        make_cluster_scratch(BLOCK, graph.cluster_bias.size, graph.sketch.shape[1], beam_width),
        make_path_scratch(n_labels, beam_width, reach),
        make_code_scratch(code_width, graph.label_bits.shape[1]),
        make_rank_scratch(n_ranked),
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
    graph, embeddings, indptr, indices, data, ranker, alpha_and_powers, sizes, scratch, labels,
    scores,
):  # fmt: skip
    """Write the best labels of each row into `labels` and `scores`, both (n_rows, k).

    `alpha_and_powers` are log alpha, the exponent of paths and the ranker's share; the CSR arrays
    are what the ranker reads.
    """
    log_alpha, path_power, share = alpha_and_powers
    paths = scratch.paths
    n_rows = embeddings.shape[0]
    for start in range(0, n_rows, BLOCK):
        stop = min(n_rows, start + BLOCK)
        cluster_logits(embeddings[start:stop], graph, scratch.clusters)
        for i in range(start, stop):
            select_beam(graph, embeddings[i], i - start, log_alpha, scratch.clusters, paths.base)
            n = shortlist_labels(
                graph.indptr, graph.labels, graph.edge_keys, graph.log_weights,
                scratch.clusters.beam, sizes.shortlist, paths,
            )  # fmt: skip
            n = _choose_by_codes(graph, embeddings[i], path_power, n, sizes, scratch)
            n_ranked = 0
            if sizes.ranked > 0:
                n_ranked = n
                find_margins(
                    indptr, indices, data, i, ranker, paths.label, n, paths.mark, paths.first[0],
                    scratch.ranks,
                )  # fmt: skip
                n = _choose_by_margins(share, n, sizes.rescored, scratch)
            n_best = _best_labels(graph, embeddings[i], path_power, share, n, scratch)
            paths.first[0] += n_ranked
            _write_best(n_best, scratch, labels[i], scores[i])


@njit(cache=_CACHE, nogil=True)
def _choose_by_codes(graph, embedding, path_power, n, sizes, scratch):
    """Keep those labels of a shortlist of n that score best by few bits; returns how many.

    Where a ranker comes next it finds their scores in `key`.
    """
    paths, logit, one = scratch.paths, scratch.logit, np.float32(1.0)
    if n > sizes.coded and graph.label_bits.shape[1] > 0:
        bit_logits(graph, embedding, paths.label, n, scratch.codes, logit)
        add_log_sigmoid(paths.path, path_power, logit, one, n, paths.key)
        n = keep_best(n, sizes.coded, paths)
    size = sizes.ranked if sizes.ranked > 0 else sizes.rescored
    if n > size or sizes.ranked > 0:
        code_logits(graph, embedding, paths.label, n, scratch.codes, logit)
        add_log_sigmoid(paths.path, path_power, logit, one, n, paths.key)
        n = keep_best(n, size, paths)
    return n


@njit(cache=_CACHE, nogil=True)
def _choose_by_margins(share, n, size, scratch):
    """Keep those of n labels that score best by their codes and their margins."""
    paths, logit = scratch.paths, scratch.logit
    for q in range(n):
        logit[q] = np.float32(2.0) * scratch.ranks.margin[q]
    add_log_sigmoid(paths.key, np.float32(1.0) - share, logit, share, n, paths.key)
    return keep_best(n, size, paths)


@njit(cache=_CACHE, nogil=True)
def _best_labels(graph, embedding, path_power, share, n, scratch):
    """Score a shortlist of n labels and keep the best k; returns how many."""
    label, path, logit = scratch.paths.label, scratch.paths.path, scratch.logit
    mark, first, margin = scratch.paths.mark, scratch.paths.first[0], scratch.ranks.margin
    key, name, heap = scratch.best_key, scratch.best_label, scratch.best_heap
    _row_logits(graph, embedding, label, n, logit)
    n_best = 0
    for q in range(n):
        if share > 0:
            log_p = path_power * path[q] + _log_sigmoid(logit[q])
            sure = _log_sigmoid(2 * margin[mark[label[q]] - first])
            score = np.float32(np.exp((1 - share) * log_p + share * sure))
        else:
            score = np.exp(path_power * path[q]) / (np.float32(1.0) + np.exp(-logit[q]))
        n_best = _offer(key, name, heap, n_best, key.shape[0], score, label[q])
    return n_best


@njit(cache=_CACHE, nogil=True)
def _log_sigmoid(x):
    y = np.float64(x)
    return min(y, 0.0) - np.log1p(np.exp(-abs(y)))


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
