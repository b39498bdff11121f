"""Random graphs and beams, and the search over them spelt out in loops."""

import math

import numpy as np
import torch
from hypothesis import strategies as st

from skxmc.ops.row_table import CsrBatch


def draw_edges(draw, n_clusters, n_labels):
    """Padded rows of distinct labels; rows may be empty, labels may be in several or in none."""
    row = st.lists(st.integers(0, n_labels - 1), unique=True, max_size=n_labels)
    rows = [draw(row) for _ in range(n_clusters)]
    width = max(1, *map(len, rows)) + draw(st.integers(0, 1))
    return np.array([row + [-1] * (width - len(row)) for row in rows], dtype=np.int32)


@st.composite
def shortlist_problems(draw):
    """Draw the arguments of `build_shortlist` as plain arrays.

    Scores are multiples of 1/8: their float32 sums are exact, so that ties are ties.
    """
    n_clusters, n_labels = draw(st.integers(1, 5)), draw(st.integers(1, 8))
    edges = draw_edges(draw, n_clusters, n_labels)
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    log_weights = np.where(edges >= 0, -rng.integers(0, 9, edges.shape) / 8, -np.inf)
    n_rows, width = draw(st.integers(0, 4)), draw(st.integers(1, n_clusters))
    beam = np.array([rng.permutation(n_clusters)[:width] for _ in range(n_rows)])
    beam = beam.reshape(n_rows, width).astype(np.int64)
    beam[rng.random(beam.shape) < 0.2] = -1
    scores = -rng.integers(0, 9, beam.shape) / 8
    positives = [np.flatnonzero(rng.random(n_labels) < 0.3).tolist() for _ in range(n_rows)]
    k = draw(st.integers(1, n_labels + 2))
    return beam, scores, edges, log_weights, n_labels, k, positives


def csr_of(lists):
    indptr = np.cumsum([0, *map(len, lists)])
    indices = [column for row in lists for column in row]
    return CsrBatch(torch.tensor(indptr), torch.tensor(indices, dtype=torch.int64))


def paths_of(beam_row, scores_row, edges, log_weights):
    """Best path of each label the beam leads to: label -> (score, slot, column)."""
    best = {}
    for slot, cluster in enumerate(beam_row):
        if cluster < 0:
            continue
        for column, label in enumerate(edges[cluster]):
            score = scores_row[slot] + log_weights[cluster, column]
            if label >= 0 and (label not in best or score > best[label][0]):
                best[int(label)] = (score, slot, column)
    return best


def shortlist_slowly(beam, scores, edges, log_weights, n_labels, k, positives=None):
    """Row by row: the paths of the k best labels, positives before all others."""
    rows = []
    for i in range(len(beam)):
        best = paths_of(beam[i], scores[i], edges, log_weights)
        own = set() if positives is None else set(positives[i])
        order = sorted(best, key=lambda label: (label not in own, -best[label][0], label))
        if positives is not None and sum(label in own for label in best) > k:
            # more positives than places: the smaller labels win
            order = sorted(label for label in best if label in own)
        rows.append({label: best[label] for label in order[:k]})
    return rows


def label_rows(graph):
    """Label vectors, as floats."""
    return graph.label_weight * graph.label_scale[:, None]


def scores_slowly(graph, embedding):
    """Final scores of all labels from dense matrices, every cluster followed, as probabilities."""
    logits = graph.cluster_weight.astype(np.float64) @ embedding + graph.cluster_bias
    shares = np.exp(logits - logits.max())
    clusters = np.minimum(1.0, graph.alpha * shares / shares.sum())
    weights = np.zeros((len(logits), graph.n_labels))
    for c in range(len(logits)):
        for p in range(graph.indptr[c], graph.indptr[c + 1]):
            weights[c, graph.labels[p]] = math.exp(graph.log_weights[p])
    z = label_rows(graph).astype(np.float64) @ embedding + graph.label_bias
    reached = np.isin(np.arange(graph.n_labels), graph.labels)
    path = (clusters[:, None] * weights).max(axis=0)
    scores = path**graph.path_power / (1 + np.exp(-z))
    return np.where(reached, scores, -np.inf)
