"""Sizes of an ELIAS model, and the memory that its fit takes."""

from typing import Any, NamedTuple, Protocol

import numpy as np
import scipy.sparse as sp
import torch
from joblib import effective_n_jobs

from skxmc._sparse import is_bag_of_words
from skxmc.encoders.size import EncoderSize
from skxmc.heads import SparseRanker
from skxmc.heads.one_vs_all import WIDTH, block_bytes
from skxmc.index import n_clusters_for
from skxmc.index.adjacency import MEMBERS_AT_ONCE
from skxmc.training.fitting import resolve_batch_size
from skxmc.training.memory import Need, label_start_need, mining_need, shared_needs

__all__ = [
    "HARD_LABELS",
    "MEMBERSHIP_BATCH",
    "EliasSizes",
    "elias_needs",
    "resolve_beta",
    "resolve_clusters",
    "resolve_kappa",
    "trains_ranker",
]

# Labels of a training row that the ranker learns to tell apart.
HARD_LABELS = 50
# Rows whose membership in clusters is found at once.
MEMBERSHIP_BATCH = 1024
# Of the ranker: rows held out, bytes of the weights of labels that are trained at once, and
# entries of the centroids that are merged at once.
_HELD_OUT, _SVM_BYTES, _MERGED = 1000, 2**25, 2**22


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
    n_jobs: Any


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


def trains_ranker(ranker: Any, X: Any) -> bool:
    """Say whether a fit trains a ranker: "auto" wants one where features are bags of words.

    Parameters
    ----------
    ranker : SparseRanker, "auto" or None
        The parameter of `EliasClassifier`.
    X : csr_array, ndarray or list of str
        Validated rows.

    Returns
    -------
    trains : bool

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.training.elias_sizes import trains_ranker
    >>> trains_ranker("auto", np.eye(3)), trains_ranker("auto", -np.eye(3))
    (True, False)
    """
    if isinstance(X, list):
        return False  # a ranker reads feature matrices
    return is_bag_of_words(X) if isinstance(ranker, str) else ranker is not None


def elias_needs(
    settings: EliasSizes,
    X: Any,
    Y: sp.csr_array,
    encoder: EncoderSize,
    device: torch.device,
) -> list[Need]:
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
    device : torch.device
        Where training happens.

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
    shortlist = min(s.train_shortlist_size, n_labels)
    entries = _StepEntries(
        batch_size * n_clusters, batch_size * shortlist, n_edges, batch_size * width
    )
    step = 0
    if n_edges:
        step = entries.fused_bytes(layer) if device.type == "cpu" else entries.torch_bytes()
    return [
        *shared_needs(X, Y, encoder, held_out, layer + 8 * n_edges),
        # a weight, its gradient and two moments of AdamW
        Need("cluster layer with its optimiser", 4 * layer, bigger),
        # logit, gradient, two moments, and the label's number
        Need("edges of the graph with their optimiser", 20 * n_edges, "a smaller kappa"),
        Need(
            "centroids of the labels, while they are clustered",
            _clustering_bytes(X, Y, width, s.recluster),
            "recluster=False" if s.recluster else "fewer features a row",
            passing=True,
            host=True,
        ),
        label_start_need(s.label_init, Y, width),
        mining_need(s, Y, batch_size, width),
        Need(
            "opening of the graph",
            _opening_bytes(Y, min(s.beam_width, n_clusters), n_clusters, n_edges),
            "a smaller beam_width or kappa",
            passing=True,
            host=True,
        ),
        Need("step of stage 2", step, "a smaller batch_size or kappa", passing=True),
        Need(
            "ranker, while it is trained",
            _ranker_bytes(s, X, Y) if trains_ranker(s.ranker, X) else 0,
            "ranker=None",
            passing=True,
            host=True,
        ),
    ]


class _StepEntries(NamedTuple):
    """Entries of the arrays of a step of stage 2, beside the gradients of what is trained."""

    clusters: int  # of a row's scores of all clusters
    shortlists: int
    edges: int
    embeddings: int

    def fused_bytes(self, layer: int) -> int:
        """Count what `elias_numba` holds at once.

        Logits and shares of the clusters, weights and keys of the edges (the latter before the
        gradient, which is counted elsewhere, is there), the cluster layer in half precision, and a
        shortlist's labels, places, scores and gradients, sorted by label as well.
        """
        return (
            8 * self.clusters + 4 * self.edges + 48 * self.shortlists + 16 * self.embeddings + layer
        )

    def torch_bytes(self) -> int:
        """Count what `elias_torch` holds at once: most of what autograd needs is kept."""
        return 24 * self.clusters + 32 * self.edges + 96 * self.shortlists + 16 * self.embeddings


def _opening_bytes(Y: sp.csr_array, beam_width: int, n_clusters: int, n_edges: int) -> int:
    if not n_edges:
        return 0
    n_rows, n_labels = Y.shape
    members = n_rows * beam_width
    # logits and shares of some rows at a time; all memberships, put together at the end
    scored = 12 * min(MEMBERSHIP_BATCH, n_rows) * n_clusters + 24 * members
    # pairs of a cluster and a label that its rows carry, of some clusters at a time
    per_member = Y.nnz / max(1, n_rows)
    longest = members / n_clusters
    pairs = int(min(members, MEMBERS_AT_ONCE + longest) * per_member)
    # what is kept of them, with the edges of the partition, and sorted
    kept = min(n_edges, int(members * per_member) + n_labels)
    return max(scored, 24 * members + 80 * pairs + 48 * kept)


def _ranker_bytes(settings: EliasSizes, X: Any, Y: sp.csr_array) -> int:
    (n_rows, n_labels), entries = Y.shape, _centroid_entries(X, Y)
    # rows scaled, and those that are not held out; of dense rows all that is not zero
    rows = 12 * X.nnz if sp.issparse(X) else 20 * np.count_nonzero(X)
    # a bit more than half of the features of a label's rows keep a weight; four bytes each for
    # feature and weight, while two trainings are merged
    weights = int(0.55 * entries.sum())
    # shortlists, sorted by row and by label
    pairs = 36 * n_rows * min(HARD_LABELS, n_labels)
    trained = pairs + 24 * weights + _svm_bytes(settings, n_rows, n_labels, X.shape[1])
    # centroids of the labels that held-out rows were led to
    met = min(n_labels, _HELD_OUT * HARD_LABELS)
    largest = np.partition(entries, n_labels - met)[n_labels - met :]
    weighed = 8 * weights + 16 * int(largest.sum())
    # merged with the centroids of some labels at a time
    merged = 16 * weights + 32 * min(_MERGED, int(entries.sum()))
    return int(rows + max(trained, weighed, merged))


def _svm_bytes(settings: EliasSizes, n_rows: int, n_labels: int, n_features: int) -> int:
    """Bound what the labels that are trained at once take."""
    ranker = SparseRanker() if isinstance(settings.ranker, str) else settings.ranker
    if ranker.takes_all_rows(n_rows, n_labels):
        n_jobs = settings.n_jobs if ranker.n_jobs is None else ranker.n_jobs
        n_threads = effective_n_jobs(-1 if n_jobs is None else n_jobs)
        return min(n_threads, -(-n_labels // WIDTH)) * block_bytes(n_rows, n_features)
    return min(_SVM_BYTES, 8 * n_labels * n_features)


def _clustering_bytes(X: Any, Y: sp.csr_array, width: int, recluster: bool) -> int:
    n_rows, n_labels = Y.shape
    embedded = 8 * n_rows * width + 12 * n_labels * width
    if isinstance(X, list):
        return embedded
    n_features, entries = X.shape[1], int(_centroid_entries(X, Y).sum())
    sparse = 12 * entries + (0 if sp.issparse(X) else 8 * n_rows * n_features)
    # both parts once more, side by side
    return sparse + embedded + 8 * (entries + n_labels * width) if recluster else sparse


def _centroid_entries(X: Any, Y: sp.csr_array) -> np.ndarray:
    """Bound the features of each label's rows, each counted once."""
    lengths = np.diff(X.indptr) if sp.issparse(X) else np.count_nonzero(X, axis=1)
    repeated = np.repeat(lengths, np.diff(Y.indptr))
    per_label = np.bincount(Y.indices, repeated, minlength=Y.shape[1])
    return np.minimum(per_label, X.shape[1]).astype(np.int64)
