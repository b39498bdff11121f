"""Numba kernels from embeddings to the best clusters of each.

With thousands of clusters a sketch comes first: products in the few directions that tell clusters
apart best. The clusters it puts in front are scored in full.
"""

import os
from typing import NamedTuple

import numpy as np
from numba import njit

from skxmc.search.numeric._kernels import best_bound, products, row_products, sum_exp

# SKXMC_NUMBA_CACHE=0 compiles anew in each process, for where no cache can be written
_CACHE = os.environ.get("SKXMC_NUMBA_CACHE", "1") != "0"
# Clusters scored in full for each one of the beam, where a sketch chooses them.
EXACT_PER_BEAM = 25


class ClusterScratch(NamedTuple):
    """Memory of one thread."""

    sketched: np.ndarray  # (block, sketch_width) float32, embeddings in the sketch's directions
    logits: np.ndarray  # (block, n_clusters) float32
    names: np.ndarray  # (n_clusters,) int32, every cluster
    order: np.ndarray  # (n_clusters,) int32
    near: np.ndarray  # (n_near,) int32, clusters that may enter the beam
    near_logit: np.ndarray  # (n_near,) float32
    beam: np.ndarray  # (beam_width,) int32, clusters, the best first
    beam_logit: np.ndarray  # (beam_width,) float32


def make_cluster_scratch(
    block: int, n_clusters: int, sketch_width: int, beam_width: int
) -> ClusterScratch:
    """Allocate memory for blocks of rows; without a sketch (width 0) all clusters are near."""
    n_near = min(n_clusters, EXACT_PER_BEAM * beam_width) if sketch_width else n_clusters
    return ClusterScratch(
        np.empty((block, sketch_width), np.float32),
        np.empty((block, n_clusters), np.float32),
        np.arange(n_clusters, dtype=np.int32),
        np.empty(n_clusters, np.int32),
        np.arange(n_near, dtype=np.int32),
        np.empty(n_near, np.float32),
        np.empty(beam_width, np.int32),
        np.empty(beam_width, np.float32),
    )


@njit(cache=_CACHE, nogil=True)
def cluster_logits(embeddings, graph, scratch):
    """Logits of all clusters for a block of rows, by the sketch if it leaves clusters out."""
    n_rows, n_clusters = embeddings.shape[0], scratch.logits.shape[1]
    vectors, weight = embeddings, graph.cluster_weight
    if scratch.near.shape[0] < n_clusters:
        products(embeddings, graph.sketch_basis, scratch.sketched)
        vectors, weight = scratch.sketched[:n_rows], graph.sketch
    if n_rows > 2:
        products(vectors, weight, scratch.logits)
    else:
        # the other way round four clusters at a time, not one row in four places
        products(weight, vectors, scratch.logits[:n_rows].T)
    for i in range(n_rows):
        for c in range(n_clusters):
            scratch.logits[i, c] += graph.cluster_bias[c]


@njit(cache=_CACHE, nogil=True)
def select_beam(graph, embedding, at, log_alpha, scratch, log_scores):
    """Find the best clusters of row `at` of the block, the best first, and their log scores."""
    logits, near, near_logit = scratch.logits[at], scratch.near, scratch.near_logit
    if near.shape[0] == logits.shape[0]:
        near_logit[:] = logits
    else:
        _score_nearest(graph, embedding, logits, scratch)
    beam, beam_logit = scratch.beam, scratch.beam_logit
    width = beam.shape[0]
    bound = best_bound(near_logit, near, near.shape[0], width, scratch.order)
    n = 0
    for q in range(near.shape[0]):
        if scratch.order[q] >= bound:
            b = n
            while b > 0 and _before(near_logit[q], near[q], beam_logit[b - 1], beam[b - 1]):
                beam[b], beam_logit[b] = beam[b - 1], beam_logit[b - 1]
                b -= 1
            beam[b], beam_logit[b] = near[q], near_logit[q]
            n += 1
    largest = beam_logit[0]
    mass = sum_exp(logits, largest)
    shift = np.float32(log_alpha - np.log(mass)) - largest
    for b in range(width):
        log_scores[b] = min(np.float32(0.0), shift + beam_logit[b])


@njit(cache=_CACHE, nogil=True)
def _score_nearest(graph, embedding, logits, scratch):
    """Replace the logits of the clusters that the sketch puts in front by those in full."""
    near, near_logit, order = scratch.near, scratch.near_logit, scratch.order
    bound = best_bound(logits, scratch.names, logits.shape[0], near.shape[0], order)
    n = 0
    for c in range(logits.shape[0]):
        if order[c] >= bound:
            near[n] = c
            n += 1
    row_products(graph.cluster_weight, embedding, near, n, near_logit)
    for q in range(n):
        near_logit[q] += graph.cluster_bias[near[q]]
        logits[near[q]] = near_logit[q]


@njit(cache=_CACHE, nogil=True)
def _before(logit, cluster, other_logit, other):
    return logit > other_logit or (logit == other_logit and cluster < other)
