"""The search over a trained model: beam of clusters, shortlist of labels, final scores, top k."""

from dataclasses import dataclass

import numba
import numpy as np

from skxmc.search import _kernels
from skxmc.topk import TopK, empty_topk

__all__ = ["SearchGraph", "search_topk"]

# Rows searched at once: bounds the memory of shortlists, whatever the number of queries.
_BATCH = 1024


@dataclass(frozen=True)
class SearchGraph:
    """A trained model as plain arrays, ready to be searched.

    Attributes
    ----------
    cluster_weight : ndarray of shape (n_clusters, embedding_dim), float32
    cluster_bias : ndarray of shape (n_clusters,), float32
    alpha : float
        Gain of the cluster softmax.
    edges : ndarray of shape (n_clusters, width), int32
        Label columns, -1 where unused.
    log_weights : ndarray of shape (n_clusters, width), float32
        Log edge weights.
    label_weight : ndarray of shape (n_labels, embedding_dim), float32
    label_bias : ndarray of shape (n_labels,), float32
    """

    cluster_weight: np.ndarray
    cluster_bias: np.ndarray
    alpha: float
    edges: np.ndarray
    log_weights: np.ndarray
    label_weight: np.ndarray
    label_bias: np.ndarray

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return self.label_weight.shape[0]


def search_topk(
    graph: SearchGraph, embeddings: np.ndarray, k: int, *, beam_width: int, shortlist_size: int
) -> TopK:
    """Find the k labels with the largest score p = max_c(s_c a_cl) * sigmoid(z_l).

    Parameters
    ----------
    graph : SearchGraph
        The model.
    embeddings : ndarray of shape (n_rows, embedding_dim), float32
        C-contiguous.
    k : int
        Labels a row.
    beam_width : int
        Clusters followed; clipped to their number.
    shortlist_size : int
        Labels scored, at least k; clipped to the number of labels.

    Returns
    -------
    topk : TopK
        Best first, ties by the smaller label; a row's result does not depend on its neighbours.

    References
    ----------
    ELIAS (Gupta et al., NeurIPS 2022), section 4.1 and figure 2.
    """
    beam_width = min(beam_width, graph.cluster_weight.shape[0])
    shortlist_size = min(max(shortlist_size, k), graph.n_labels)
    out = empty_topk(embeddings.shape[0], k)
    for start in range(0, embeddings.shape[0], _BATCH):
        part = slice(start, start + _BATCH)
        found = _search_batch(graph, embeddings[part], k, beam_width, shortlist_size)
        out.indices[part], out.scores[part] = found
    return out


def _search_batch(graph, embeddings, k, beam_width, shortlist_size):
    n_parts = numba.get_num_threads()
    beam, scores = _kernels.cluster_beam(
        embeddings, graph.cluster_weight, graph.cluster_bias, graph.alpha, beam_width, n_parts
    )
    no_positives = (np.zeros(beam.shape[0] + 1, np.int32), np.zeros(0, np.int32))
    labels, columns, slots = _kernels.shortlist(
        beam, scores, graph.edges, graph.log_weights, graph.n_labels, shortlist_size,
        *no_positives, 0.0, 0, n_parts,
    )  # fmt: skip
    return _kernels.rank_labels(
        embeddings, beam, scores, labels, columns, slots, graph.log_weights,
        graph.label_weight, graph.label_bias, k,
    )  # fmt: skip
