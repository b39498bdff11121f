"""Numba kernels of prediction, for the rows of one thread.

They start no threads and allocate nothing. Whatever depends on a row alone is summed in an order
of its own, so that neither its neighbours nor the number of threads change a bit of its result.
A heap is an array of places, the best first, over parallel arrays `key` (larger is better) and
`label` (breaks ties, smaller is better).
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from skxmc._numba_cache import CACHE
from skxmc.search.clusters._kernels import ClusterScratch, find_beams, make_cluster_scratch
from skxmc.search.coded._kernels import (
    CodeScratch,
    add_log_sigmoid,
    code_logits,
    follow_paths,
    make_code_scratch,
)
from skxmc.search.numeric._kernels import about_best, best_bound, keep_best, row_products
from skxmc.search.numeric._vectors import fetch_row
from skxmc.search.paths._kernels import (
    PathScratch,
    bound_paths,
    make_path_scratch,
    merge_paths,
    shortlist_labels,
)
from skxmc.search.ranking._kernels import (
    RankScratch,
    find_margins,
    make_rank_scratch,
)

_SUMS = {"reassoc", "contract", "nsz"}
# Rows a thread takes at a time: enough for its caches, few enough to share a batch out evenly.
ROWS_AT_ONCE = 256
# Features whose embeddings are on their way while one is added.
_AHEAD = 4
# Labels kept from stage to stage, of all rows of a block: a megabyte or so; and rows at least.
_KEPT, _FEWEST = 2**17, 32


class Graph(NamedTuple):
    """Arrays of a model, as `skxmc.search.graph.SearchGraph` describes them; all read-only."""

    cluster_weight: np.ndarray
    cluster_bias: np.ndarray
    cluster_codes: np.ndarray
    cluster_scale: np.ndarray
    indptr: np.ndarray
    labels: np.ndarray
    log_weights: np.ndarray
    edge_keys: np.ndarray
    edge_levels: np.ndarray
    edge_bits: np.ndarray
    edge_scale: np.ndarray
    edge_bias: np.ndarray
    bit_axes: np.ndarray
    label_codes: np.ndarray
    code_scale: np.ndarray
    label_weight: np.ndarray
    label_scale: np.ndarray
    label_bias: np.ndarray


class Sizes(NamedTuple):
    """How many labels of a row go how far."""

    shortlist: int  # found over paths; with bits, paths followed at least
    coded: int  # paths whose labels are scored by their codes, chosen by their bits
    ranked: int  # whose margins are found; 0 without a ranker
    rescored: int  # scored by their rows


class Kept(NamedTuple):
    """Labels of a block of rows on their way through the stages."""

    length: np.ndarray  # (n_rows,) int32, labels of each row
    label: np.ndarray  # (n_rows, width) int32
    path: np.ndarray  # (n_rows, width) float32, best log path score
    other: np.ndarray  # (n_rows, width) float32, key after the codes, margin after the ranker


class Scratch(NamedTuple):
    """Memory of one thread, kept from call to call."""

    clusters: ClusterScratch
    paths: PathScratch
    codes: CodeScratch
    ranks: RankScratch
    kept: Kept
    logit: np.ndarray  # (reach or 4,) float32
    best_key: np.ndarray  # (k,) float32
    best_label: np.ndarray  # (k,) int32
    best_heap: np.ndarray  # (k,) int32


def make_scratch(graph: Graph, beam_width: int, reach: int, sizes: Sizes, k: int) -> Scratch:
    """Allocate the memory that `search_rows` works in; a beam leads to `reach` labels at most."""
    n_labels, code_width = graph.label_codes.shape
    width = sizes.shortlist
    if graph.edge_bits.shape[1] > 0:
        width = _most_coded(sizes.coded) + max(sizes.ranked, sizes.rescored)
    width = min(reach, width)
    kept = (max(_FEWEST, min(ROWS_AT_ONCE, _KEPT // max(width, 1))), width)
    return Scratch(
        make_cluster_scratch(graph.cluster_bias.size, graph.cluster_codes.shape, beam_width),
        make_path_scratch(n_labels, beam_width, reach),
        make_code_scratch(code_width, graph.edge_bits.shape[1], reach),
        make_rank_scratch(n_labels, min(width, sizes.ranked)),
        Kept(
            np.empty(kept[0], np.int32),
            np.empty(kept, np.int32),
            np.empty(kept, np.float32),
            np.empty(kept, np.float32),
        ),
        np.empty(max(reach, 4), np.float32),
        np.empty(k, np.float32),
        np.empty(k, np.int32),
        np.empty(k, np.int32),
    )


@njit(cache=CACHE, nogil=True, fastmath=_SUMS)
def encode_rows(
    indptr, indices, data, table, table_scale, column_scale, unit_rows, length, out
):  # fmt: skip
    """Embed sparse rows: a weighted sum of table rows, brought to one length.

    `column_scale` of size 0 leaves values as they are; `unit_rows` scales rows to length 1 first.
    """
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
        for p in range(start, stop, 2):
            for q in range(p + _AHEAD, min(p + _AHEAD + 2, indices.shape[0])):
                fetch_row(table, indices[q])
            last = min(p + 1, stop - 1)
            f, g = indices[p], indices[last]
            v, w = np.float32(data[p] * factor), np.float32(data[last] * factor)
            if column_scale.size > 0:
                v, w = data[p] * column_scale[f], data[last] * column_scale[g]
            if last == p:
                w = np.float32(0.0)
            _add_two(table[f], v * table_scale[f], table[g], w * table_scale[g], row)
        squares32 = np.float32(0.0)
        for j in range(row.shape[0]):
            squares32 += row[j] * row[j]
        # the smallest norm is torch's, in torch.nn.functional.normalize
        scale = np.float32(length) / max(np.sqrt(squares32), np.float32(1e-12))
        for j in range(row.shape[0]):
            row[j] *= scale


@njit(cache=CACHE, nogil=True, fastmath=_SUMS)
def _add_two(first, v, second, w, out):
    """Add two rows of whole numbers, each times a factor: two at a time for fewer stores."""
    for j in range(out.shape[0]):
        out[j] += v * np.float32(first[j]) + w * np.float32(second[j])


@njit(cache=CACHE, nogil=True)
def search_few(
    graph, embeddings, log_alpha, beams, rows, indptr, indices, data, ranker, powers, sizes,
    scratch, labels, scores,
):  # fmt: skip
    """Find beams and labels of all rows: one call of a kernel takes less time than two."""
    find_beams(graph, embeddings, log_alpha, scratch.clusters, beams[0], beams[1])
    search_rows(
        graph, embeddings, beams, rows, indptr, indices, data, ranker, powers, sizes, scratch,
        labels, scores,
    )  # fmt: skip


@njit(cache=CACHE, nogil=True)
def search_rows(
    graph, embeddings, beams, rows, indptr, indices, data, ranker, powers, sizes, scratch, labels,
    scores,
):  # fmt: skip
    """Write the best labels of some rows into their places in `labels` and `scores`, (n_rows, k).

    `beams` are the clusters of all rows and their log scores, `powers` the exponent of paths and
    the ranker's share; the CSR arrays are what the ranker reads. All rows of a block go through a
    stage before the next: what a stage reads of the model stays in the caches.
    """
    block = scratch.kept.length.shape[0]
    for start in range(0, rows.shape[0], block):
        own = rows[start : start + block]
        _choose_by_paths(graph, embeddings, beams, own, powers[0], sizes, scratch)
        _choose_by_codes(graph, embeddings, own, powers[0], sizes, scratch)
        if sizes.ranked > 0:
            _choose_by_margins(
                indptr, indices, data, own, ranker, powers[1], sizes, scratch
            )  # fmt: skip
        _write_best(graph, embeddings, own, powers, scratch, labels, scores)


@njit(cache=CACHE, nogil=True)
def _choose_by_paths(graph, embeddings, beams, rows, path_power, sizes, scratch):
    """Keep the labels of each row's shortlist; where there are bits, those that score best."""
    for i in range(rows.shape[0]):
        row = rows[i]
        beam, scratch.paths.base[:] = beams[0][row], beams[1][row]
        scratch.kept.length[i] = (
            _choose_by_bits(graph, embeddings[row], beam, path_power, sizes, scratch, i)
            if graph.edge_bits.shape[1] > 0
            else _choose_by_keys(graph, beam, sizes, scratch, i)
        )


@njit(cache=CACHE, nogil=True)
def _choose_by_keys(graph, beam, sizes, scratch, i):
    """Keep the labels of a row with the best keys; returns how many."""
    paths, kept = scratch.paths, scratch.kept
    n = shortlist_labels(
        graph.indptr, graph.labels, graph.edge_keys, graph.log_weights, beam, sizes.shortlist, paths
    )
    kept.label[i, :n], kept.path[i, :n] = paths.label[:n], paths.path[:n]
    return n


@njit(cache=CACHE, nogil=True)
def _choose_by_bits(graph, embedding, beam, path_power, sizes, scratch, i):
    """Keep the labels of the paths of a row that score best by their labels' bits."""
    paths, logit, size = scratch.paths, scratch.logit, sizes.shortlist
    while True:
        n_paths = bound_paths(graph.indptr, graph.edge_keys, graph.edge_levels, beam, size, paths)
        follow_paths(graph, embedding, paths, scratch.codes, logit)
        add_log_sigmoid(paths.path, path_power, logit, np.float32(1.0), n_paths, paths.key)
        n = _merge_enough(paths, n_paths, sizes, scratch.kept, i)
        # so many paths led to the same labels that more have to be followed, which is rare
        if n >= max(sizes.ranked, sizes.rescored) or n_paths < size:
            return n
        size = 2 * n_paths


@njit(cache=CACHE, nogil=True)
def _merge_enough(paths, n_paths, sizes, kept, i):
    """Keep the labels of the best paths, of more if these lead to too few; returns how many."""
    needed, followed = max(sizes.ranked, sizes.rescored), sizes.coded
    n = _merge_best(paths, n_paths, followed, _most_coded(followed), kept.label[i], kept.path[i])
    while n < needed and followed < n_paths:
        followed += needed  # many paths led to the same labels
        n = _merge_best(paths, n_paths, followed, followed, kept.label[i], kept.path[i])
    return n


@njit(cache=CACHE, nogil=True)
def _most_coded(n_coded):
    """Paths that may be taken instead: not to have to find exactly so many saves time."""
    return n_coded + n_coded // 8


@njit(cache=CACHE, nogil=True)
def _merge_best(paths, n_paths, size, most, labels, log_scores):
    """Write the labels of the best `size` to `most` paths; returns how many."""
    bound = about_best(paths.key, paths.label, n_paths, size, most, paths.order)
    return merge_paths(n_paths, bound, paths, labels, log_scores)


@njit(cache=CACHE, nogil=True)
def _choose_by_codes(graph, embeddings, rows, path_power, sizes, scratch):
    """Keep the labels that score best by their codes; their log scores go into `other`."""
    kept, order = scratch.kept, scratch.paths.order
    size = sizes.ranked if sizes.ranked > 0 else sizes.rescored
    for i in range(rows.shape[0]):
        n, label, path, key = kept.length[i], kept.label[i], kept.path[i], kept.other[i]
        if n > size or sizes.ranked > 0:
            code_logits(graph, embeddings[rows[i]], label, n, scratch.codes, scratch.logit)
            add_log_sigmoid(path, path_power, scratch.logit, np.float32(1.0), n, key)
            kept.length[i] = keep_best(key, label, path, key, n, size, order)


@njit(cache=CACHE, nogil=True)
def _choose_by_margins(indptr, indices, data, rows, ranker, share, sizes, scratch):
    """Keep the labels that score best by codes and margins; their margins go into `other`."""
    kept, keys, order = scratch.kept, scratch.paths.key, scratch.paths.order
    margin = scratch.ranks.margin
    for i in range(rows.shape[0]):
        n, label, path, other = kept.length[i], kept.label[i], kept.path[i], kept.other[i]
        find_margins(indptr, indices, data, rows[i], ranker, label, n, scratch.ranks)
        if n > sizes.rescored:
            _add_margins_to_scores(other, margin, share, n, scratch)
            bound = best_bound(keys, label, n, sizes.rescored, order)
            m = 0
            for q in range(n):
                label[m], path[m], margin[m] = label[q], path[q], margin[q]
                m += order[q] >= bound
            n = m
        other[:n] = margin[:n]
        kept.length[i] = n


@njit(cache=CACHE, nogil=True)
def _add_margins_to_scores(log_p, margin, share, n, scratch):
    """Set keys to the log scores of n labels by what is known of their margins."""
    for q in range(n):
        scratch.logit[q] = np.float32(2.0) * margin[q]
    add_log_sigmoid(log_p, np.float32(1.0) - share, scratch.logit, share, n, scratch.paths.key)


@njit(cache=CACHE, nogil=True)
def _write_best(graph, embeddings, rows, powers, scratch, labels, scores):
    """Score what is left by label rows, and sort the best k of each row into the result."""
    path_power, share = powers
    kept, logit = scratch.kept, scratch.logit
    key, name, heap = scratch.best_key, scratch.best_label, scratch.best_heap
    for i in range(rows.shape[0]):
        n, label, path, margin = kept.length[i], kept.label[i], kept.path[i], kept.other[i]
        _row_logits(graph, embeddings[rows[i]], label, n, logit)
        n_best = 0
        for q in range(n):
            if share > 0:
                log_p = path_power * path[q] + _log_sigmoid(logit[q])
                sure = _log_sigmoid(2 * margin[q])
                score = np.float32(np.exp((1 - share) * log_p + share * sure))
            else:
                score = np.exp(path_power * path[q]) / (np.float32(1.0) + np.exp(-logit[q]))
            n_best = _offer(key, name, heap, n_best, key.shape[0], score, label[q])
        _empty_heap(n_best, scratch, labels[rows[i]], scores[rows[i]])


@njit(cache=CACHE, nogil=True)
def _log_sigmoid(x):
    y = np.float64(x)
    return min(y, 0.0) - np.log1p(np.exp(-abs(y)))


@njit(cache=CACHE, nogil=True)
def _row_logits(graph, embedding, labels, n, out):
    """Logits of n labels by their rows."""
    row_products(graph.label_weight, embedding, labels, n, out)
    for q in range(n):
        out[q] = out[q] * graph.label_scale[labels[q]] + graph.label_bias[labels[q]]


@njit(cache=CACHE, nogil=True)
def _empty_heap(n_best, scratch, labels, scores):
    """Empty the heap of the best labels, worst first, into one row of the result."""
    key, label, heap = scratch.best_key, scratch.best_label, scratch.best_heap
    labels[n_best:] = -1
    scores[n_best:] = -np.inf
    for n in range(n_best - 1, -1, -1):
        labels[n], scores[n] = -label[heap[0]], -key[heap[0]]
        heap[0] = heap[n]
        _sift_down(key, label, heap, n, 0)


@njit(cache=CACHE, nogil=True)
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


@njit(cache=CACHE, nogil=True)
def _before(key, label, a, b):
    return key[a] > key[b] or (key[a] == key[b] and label[a] < label[b])


@njit(cache=CACHE, nogil=True)
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
