"""Sizes of an ELIAS model, and the memory that its fit takes."""

from typing import Any, Protocol

import numpy as np
import scipy.sparse as sp

from skxmc.encoders.size import EncoderSize
from skxmc.index import n_clusters_for
from skxmc.training.fitting import resolve_batch_size
from skxmc.training.memory import Need, label_start_need, mining_need, shared_needs

__all__ = [
    "HARD_LABELS",
    "EliasSizes",
    "elias_needs",
    "resolve_beta",
    "resolve_clusters",
    "resolve_kappa",
]

# Labels of a training row that the ranker learns to tell apart.
HARD_LABELS = 50


class EliasSizes(Protocol):
    """The parameters that sizes depend on; `EliasClassifier` documents them."""

    n_clusters: Any
    max_leaf: int
    beta: Any
    kappa: Any
    beam_width: int
    train_shortlist_size: int
    pool_size: Any
    n_negatives: Any
    stage2_epochs: Any
    recluster: bool
    label_init: str
    batch_size: Any
    early_stopping: bool
    validation_fraction: float
    ranker: Any


def resolve_clusters(settings: EliasSizes, n_labels: int) -> int:
    """Return the number of clusters; an empty one would only take places in the beam."""
    if settings.n_clusters == "auto":
        return n_clusters_for(n_labels, settings.max_leaf)
    return min(settings.n_clusters, 1 << (n_labels.bit_length() - 1))


def resolve_kappa(settings: EliasSizes, n_labels: int, n_clusters: int) -> int:
    """Return the number of edges kept for each cluster in stage 2."""
    return int(np.ceil(4 * n_labels / n_clusters)) if settings.kappa == "auto" else settings.kappa


def resolve_beta(settings: EliasSizes, n_labels: int, n_clusters: int) -> float:
    """Return the gain of the edge weights."""
    return max(1.0, 1.5 * n_labels / n_clusters) if settings.beta == "auto" else settings.beta


def elias_needs(settings: EliasSizes, X: Any, Y: sp.csr_array, encoder: EncoderSize) -> list[Need]:
    """List the memory that a fit takes beside its input.

    Parameters
    ----------
    settings : EliasSizes
        Parameters of the estimator.
    X : csr_array, ndarray or list of str
        Validated rows.
    Y : csr_array of shape (n_rows, n_labels)
        Their truth.
    encoder : EncoderSize
        What the encoder takes.

    Returns
    -------
    needs : list of Need
    """
    s = settings
    n_rows, n_labels = Y.shape
    batch_size, width = resolve_batch_size(s.batch_size, n_rows), encoder.embedding_dim
    n_clusters = resolve_clusters(s, n_labels)
    layer = 4 * n_clusters * (width + 1)
    n_edges = 0
    if n_clusters > 1 and s.stage2_epochs != 0:
        n_edges = n_clusters * max(
            resolve_kappa(s, n_labels, n_clusters), -(-n_labels // n_clusters)
        )
    held_out = s.validation_fraction if s.early_stopping else 0.0
    bigger = "a larger max_leaf or smaller n_clusters"
    step = 24 * batch_size * n_clusters + 72 * batch_size * s.train_shortlist_size + 32 * n_edges
    beams = 28 * n_rows * min(s.beam_width, n_clusters) + 48 * n_edges
    return [
        *shared_needs(X, Y, encoder, held_out, layer + 8 * n_edges),
        # a weight, its gradient and two moments of AdamW
        Need("cluster layer with its optimiser", 4 * layer, bigger),
        # logit, gradient, two moments, a square root on the way, and the label's number
        Need("edges of the graph with their optimiser", 24 * n_edges, "a smaller kappa"),
        Need(
            "centroids of the labels, while they are clustered",
            _clustering_bytes(X, Y, width, s.recluster),
            "recluster=False" if s.recluster else "fewer features a row",
            passing=True,
            host=True,
        ),
        label_start_need(s.label_init, Y, width),
        mining_need(s, Y, batch_size, width),
        Need("opening of the graph", beams, "a smaller beam_width", passing=True, host=True),
        Need("step of stage 2", step, "a smaller batch_size or kappa", passing=True),
        Need(
            "ranker, while it is trained",
            0 if s.ranker is None or isinstance(X, list) else _ranker_bytes(n_rows, n_labels),
            "ranker=None",
            passing=True,
            host=True,
        ),
    ]


def _ranker_bytes(n_rows: int, n_labels: int) -> int:
    # shortlists, their pairs sorted by row and by label; 150 weights a label, three times
    return 44 * n_rows * min(HARD_LABELS, n_labels) + 24 * 150 * n_labels


def _clustering_bytes(X: Any, Y: sp.csr_array, width: int, recluster: bool) -> int:
    n_rows, n_labels = Y.shape
    embedded = 8 * n_rows * width + 12 * n_labels * width
    if isinstance(X, list):
        return embedded
    n_features = X.shape[1]
    lengths = np.diff(X.indptr) if sp.issparse(X) else np.full(n_rows, n_features)
    # a label's centroid has at most the features of all its rows, each once
    per_label = np.bincount(Y.indices, np.repeat(lengths, np.diff(Y.indptr)), minlength=n_labels)
    entries = int(np.minimum(per_label, n_features).sum())
    sparse = 12 * entries + (0 if sp.issparse(X) else 8 * n_rows * n_features)
    # both parts once more, side by side
    return sparse + embedded + 8 * (entries + n_labels * width) if recluster else sparse
