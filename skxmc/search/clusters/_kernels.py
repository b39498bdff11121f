"""Numba kernels from embeddings to the best clusters of each.

Where clusters are many, products of bytes come first. The clusters these put in front are scored
in full.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from skxmc._numba_cache import CACHE
from skxmc.search.numeric._kernels import (
    about_best,
    best_bound,
    find_bound,
    products,
    round_query,
    row_products,
    sortable,
    sum_exp,
)
from skxmc.search.numeric._vectors import CLUSTERS, products_of_sixteen

# Rows whose cluster scores are made together: their embeddings stay in the second-level cache.
BLOCK = 32
# Clusters scored in full beyond the beam, at least, where bytes choose them: those that bytes put
# a place or two too far back. And clusters from which bytes cost less than they save.
SPARE = 8
BYTES_FROM = 192
# Clusters of a group, of which only the largest logit counts at first, where there are so many
# times more groups than clusters to be found: fewer cost more than they save.
_GROUP = 8
GROUPS_EACH = 8
# What stands for zero in the bytes of clusters.
_ZERO = np.float32(128.0)


class ClusterScratch(NamedTuple):
    """Memory of one thread."""

    numbers: np.ndarray  # (block, code_width) int8, embeddings in whole numbers
    steps: np.ndarray  # (block,) float32, what these numbers are to be multiplied by
    sums: np.ndarray  # (block,) float32, of these numbers
    logits: np.ndarray  # (block, places for all codes) float32; past the clusters without meaning
    names: np.ndarray  # (n_clusters,) int32, every cluster
    order: np.ndarray  # (n_clusters,) int32
    largest: np.ndarray  # (n_groups,) float32, logit of each group; no groups if clusters are few
    front: np.ndarray  # (n_clusters or 0,) int32, clusters of the groups in front
    front_logit: np.ndarray  # (n_clusters or 0,) float32
    near: np.ndarray  # (n_near + 1,) int32, clusters that may enter the beam, and a spare place
    near_logit: np.ndarray  # (n_near + 1,) float32
    beam_logit: np.ndarray  # (beam_width,) float32


def make_cluster_scratch(
    n_clusters: int, shape: tuple[int, int, int, int], beam_width: int
) -> ClusterScratch:
    """Allocate memory for a block of rows, and clusters whose codes have a shape.

    If bytes leave none out, all clusters are near.
    """
    n_blocks, n_fours = shape[:2]
    n_near = n_clusters
    if n_clusters >= max(BYTES_FROM, 4 * beam_width):
        n_near = beam_width + SPARE + beam_width // 2
    n_groups = -(-n_clusters // _GROUP)
    if n_groups < GROUPS_EACH * n_near:
        n_groups = 0
    n_front = n_clusters if n_groups > 0 else 0
    return ClusterScratch(
        np.empty((BLOCK, 4 * n_fours), np.int8),
        np.empty(BLOCK, np.float32),
        np.empty(BLOCK, np.float32),
        np.empty((BLOCK, CLUSTERS * n_blocks), np.float32),
        np.arange(n_clusters, dtype=np.int32),
        np.empty(n_clusters, np.int32),
        np.empty(n_groups, np.float32),
        np.empty(n_front, np.int32),
        np.empty(n_front, np.float32),
        np.arange(n_near + 1, dtype=np.int32),
        np.empty(n_near + 1, np.float32),
        np.empty(beam_width, np.float32),
    )


@njit(cache=CACHE, nogil=True)
def find_beams(graph, embeddings, log_alpha, scratch, beams, log_scores):
    """Write each row's best clusters, the best first, and their log scores, (n_rows, width) both.

    Log scores are min(0, log alpha + log softmax).
    """
    for start in range(0, embeddings.shape[0], BLOCK):
        rows = slice(start, min(embeddings.shape[0], start + BLOCK))
        own = embeddings[rows]
        _cluster_logits(own, graph, scratch)
        for i in range(own.shape[0]):
            _select_beam(
                graph, own[i], i, log_alpha, scratch, beams[start + i], log_scores[start + i]
            )


@njit(cache=CACHE, nogil=True)
def _cluster_logits(embeddings, graph, scratch):
    """Logits of all clusters for a block of rows, by bytes if these leave clusters out."""
    n_rows, n_clusters = embeddings.shape[0], scratch.names.shape[0]
    if scratch.near.shape[0] <= n_clusters:
        _logits_by_bytes(embeddings, graph, scratch)
        return
    if n_rows > 2:
        products(embeddings, graph.cluster_weight, scratch.logits)
    else:
        # the other way round four clusters at a time, not one row in four places
        products(graph.cluster_weight, embeddings, scratch.logits[:n_rows].T)
    for i in range(n_rows):
        for c in range(n_clusters):
            scratch.logits[i, c] += graph.cluster_bias[c]


@njit(cache=CACHE, nogil=True)
def _logits_by_bytes(embeddings, graph, scratch):
    """Logits with embeddings and clusters in whole numbers, of which all sums are exact."""
    n_rows, n_clusters = embeddings.shape[0], scratch.names.shape[0]
    numbers, logits, codes = scratch.numbers, scratch.logits, graph.cluster_codes
    for i in range(n_rows):
        scratch.steps[i], scratch.sums[i] = round_query(embeddings[i], numbers[i])
    if n_rows < 4:
        for i in range(n_rows):
            _multiply_row(codes, numbers, i, logits)
    else:
        _multiply_rows(codes, numbers, n_rows, logits)
    for i in range(n_rows):
        _scale(logits[i, :n_clusters], _ZERO * scratch.sums[i], scratch.steps[i], graph)


@njit(cache=CACHE, nogil=True)
def _multiply_rows(codes, numbers, n_rows, out):
    """Products of all clusters and n rows, four rows at a time; the last ones may be done twice.

    All rows meet a block of clusters before they meet the next: it stays in the caches meanwhile.
    """
    last = n_rows - 1
    for b in range(codes.shape[0]):
        for i in range(0, n_rows, 4):
            rows = i, min(i + 1, last), min(i + 2, last), min(i + 3, last)
            products_of_sixteen(codes, (b, b, b, b), numbers, rows, out)


@njit(cache=CACHE, nogil=True)
def _multiply_row(codes, numbers, i, out):
    """Products of all clusters and one row, four blocks at a time."""
    last = codes.shape[0] - 1
    for b in range(0, last + 1, 4):
        blocks = b, min(b + 1, last), min(b + 2, last), min(b + 3, last)
        products_of_sixteen(codes, blocks, numbers, (i, i, i, i), out)


@njit(cache=CACHE, nogil=True)
def _scale(logits, zero, step, graph):
    """Turn products of whole numbers into logits."""
    scale, bias = graph.cluster_scale, graph.cluster_bias
    for c in range(logits.shape[0]):
        logits[c] = (logits[c] - zero) * (step * scale[c]) + bias[c]


@njit(cache=CACHE, nogil=True)
def _select_beam(graph, embedding, at, log_alpha, scratch, beam, log_scores):
    """Find the best clusters of row `at` of the block, the best first, and their log scores."""
    near, near_logit, n_near = scratch.near, scratch.near_logit, scratch.names.shape[0]
    logits = scratch.logits[at, :n_near]
    if near.shape[0] >= n_near:
        near[:n_near], near_logit[:n_near] = scratch.names, logits
    else:
        n_near = _score_nearest(graph, embedding, logits, scratch)
    beam_logit, width = scratch.beam_logit, beam.shape[0]
    bound = best_bound(near_logit, near, n_near, width, scratch.order)
    n = 0
    for q in range(n_near):
        near[n], near_logit[n] = near[q], near_logit[q]
        n += scratch.order[q] >= bound
    _sort(near_logit, near, width, scratch.order, beam_logit, beam)
    largest = beam_logit[0]
    mass = sum_exp(logits, largest)
    shift = np.float32(log_alpha - np.log(mass)) - largest
    for b in range(width):
        log_scores[b] = min(np.float32(0.0), shift + beam_logit[b])


@njit(cache=CACHE, nogil=True)
def _score_nearest(graph, embedding, logits, scratch):
    """Replace the logits that bytes put in front by those in full; returns how many there are."""
    near, near_logit, order = scratch.near, scratch.near_logit, scratch.order
    most = near.shape[0] - 1
    # not to have to find exactly so many saves time
    fewest = most - scratch.beam_logit.shape[0] // 2
    names, keys, n_front = scratch.names, logits, logits.shape[0]
    if scratch.largest.shape[0] > 0:
        names, keys = scratch.front, scratch.front_logit
        n_front = _find_front(logits, most, scratch)
    bound = about_best(keys, names, n_front, fewest, most, order)
    n = 0
    for q in range(n_front):
        # written in any case, and overwritten by the next if not near: no branch to guess
        near[n] = names[q]
        n += order[q] >= bound
    row_products(graph.cluster_weight, embedding, near, n, near_logit)
    for q in range(n):
        near_logit[q] += graph.cluster_bias[near[q]]
        logits[near[q]] = near_logit[q]
    return n


@njit(cache=CACHE, nogil=True)
def _find_front(logits, size, scratch):
    """Write a few clusters among which are the `size` best and all that tie; returns how many.

    They are those of the groups whose largest logits are best: `size` groups or more reach a bound,
    hence `size` clusters do, and all clusters that reach it are in these groups.
    """
    largest, order = scratch.largest, scratch.order
    front, front_logit = scratch.front, scratch.front_logit
    n_groups, n_clusters = largest.shape[0], logits.shape[0]
    largest[:] = logits[:n_groups]
    for start in range(n_groups, n_clusters, n_groups):
        part = logits[start : start + n_groups]
        for g in range(part.shape[0]):
            # not by `max`, which asks whether it is a number: no vectors
            largest[g] = part[g] if part[g] > largest[g] else largest[g]
    sortable(largest, n_groups, order)
    bound, _ = find_bound(order[:n_groups], size, 2 * size)
    n = 0
    for g in range(n_groups):
        if order[g] >= bound:
            for c in range(g, n_clusters, n_groups):
                front[n], front_logit[n] = c, logits[c]
                n += 1
    return n


@njit(cache=CACHE, nogil=True)
def _sort(logit, cluster, n, order, out_logit, out_cluster):
    """Sort n clusters by falling logits, ties by the smaller: each goes where its rank is.

    For a few dozens this takes less time than any way that has to guess branches.
    """
    sortable(logit, n, order)
    for q in range(n):
        rank = 0
        for r in range(n):
            rank += (order[r] > order[q]) | ((order[r] == order[q]) & (cluster[r] < cluster[q]))
        out_logit[rank], out_cluster[rank] = logit[q], cluster[q]
