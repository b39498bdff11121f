"""SearchGraph: a trained model as plain read-only arrays, ready to be searched."""

import threading
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np

from skxmc.heads._kernels import RankerArrays
from skxmc.search.fused._kernels import Graph, Scratch, make_scratch

__all__ = ["FeatureTable", "RankerRows", "SearchGraph"]


@dataclass(frozen=True)
class FeatureTable:
    """A bag-of-words encoder as arrays: sparse rows to embeddings of one length.

    Attributes
    ----------
    table : ndarray of shape (n_features, embedding_dim), float32
        Feature embeddings.
    column_scale : ndarray of shape (n_features,) or (0,), float32
        Factor of each feature; empty for none.
    unit_rows : bool
        Scale rows to length 1 first.
    length : float
        Length of an embedding.
    """

    table: np.ndarray
    column_scale: np.ndarray
    unit_rows: bool
    length: float

    def __post_init__(self):
        _freeze_arrays(self)


@dataclass(frozen=True)
class RankerRows:
    """A sparse ranker as arrays: it re-orders the best labels of the search by their margins.

    Attributes
    ----------
    indptr : ndarray of shape (n_labels + 1,), int32
        Where the weights of each label start.
    indices : ndarray of shape (n_weights,), int32
        Features.
    weights : ndarray of shape (n_weights,), float32
    bias : ndarray of shape (n_labels,), float32
    share : float
        Weight of the ranker in the geometric mean that is the final score.
    n_features : int
    size : int
        Labels re-ordered at least, as far as the search finds as many.
    """

    indptr: np.ndarray
    indices: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    share: float
    n_features: int
    size: int

    def __post_init__(self):
        _freeze_arrays(self)

    @cached_property
    def arrays(self) -> RankerArrays:
        """Hand out the arrays as the kernel takes them."""
        return RankerArrays(
            self.indptr, self.indices, self.weights, self.bias, np.float32(self.share)
        )


@dataclass(frozen=True)
class SearchGraph:
    """A trained model as plain read-only arrays, ready to be searched by any number of threads.

    Attributes
    ----------
    cluster_weight : ndarray of shape (n_clusters, embedding_dim), float32
    cluster_bias : ndarray of shape (n_clusters,), float32
    alpha : float
        Gain of the cluster softmax.
    indptr : ndarray of shape (n_clusters + 1,), int32
        Where the edges of each cluster start.
    labels : ndarray of shape (n_edges,), int32
        Label columns; within a cluster by falling weight, ties by the smaller label.
    log_weights : ndarray of shape (n_edges,), float32
        Log edge weights.
    label_weight : ndarray of shape (n_labels, embedding_dim), float32 or int8
        Label vectors, to be multiplied by `label_scale`.
    label_scale : ndarray of shape (n_labels,), float32
    label_bias : ndarray of shape (n_labels,), float32
    encoder : FeatureTable or None
        How sparse rows become embeddings; None where that is not done by a table alone.
    path_power : float
        Exponent of the path score in the score p of a label.
    ranker : RankerRows or None
        What re-orders the best labels; None leaves p as it is.
    """

    cluster_weight: np.ndarray
    cluster_bias: np.ndarray
    alpha: float
    indptr: np.ndarray
    labels: np.ndarray
    log_weights: np.ndarray
    label_weight: np.ndarray
    label_scale: np.ndarray
    label_bias: np.ndarray
    encoder: FeatureTable | None = None
    path_power: float = 1.0
    ranker: RankerRows | None = None
    _local: threading.local = field(
        default_factory=threading.local, init=False, repr=False, compare=False
    )

    def __post_init__(self):
        _freeze_arrays(self)

    @classmethod
    def from_padded(
        cls,
        cluster_weight: np.ndarray,
        cluster_bias: np.ndarray,
        alpha: float,
        edges: np.ndarray,
        log_weights: np.ndarray,
        label_weight: np.ndarray,
        label_bias: np.ndarray,
        encoder: FeatureTable | None = None,
        path_power: float = 1.0,
    ) -> "SearchGraph":
        """Make a graph from padded rows of edges.

        Parameters
        ----------
        cluster_weight, cluster_bias, alpha, label_weight, label_bias, encoder, path_power
            As the attributes.
        edges : ndarray of shape (n_clusters, width), int32
            Label columns, -1 where unused.
        log_weights : ndarray of shape (n_clusters, width), float32
            Log edge weights.

        Returns
        -------
        graph : SearchGraph
        """
        clusters, columns = np.nonzero(edges >= 0)
        labels, weights = edges[clusters, columns], log_weights[clusters, columns]
        order = np.lexsort((labels, -weights, clusters))
        counts = np.bincount(clusters, minlength=edges.shape[0])
        return cls(
            cluster_weight,
            cluster_bias,
            alpha,
            np.concatenate(([0], np.cumsum(counts))).astype(np.int32),
            labels[order].astype(np.int32),
            weights[order].astype(np.float32),
            label_weight,
            np.ones(label_weight.shape[0], np.float32),
            label_bias,
            encoder,
            path_power,
        )

    @cached_property
    def arrays(self) -> Graph:
        """Hand out the arrays as the kernels take them."""
        return Graph(*(getattr(self, name) for name in Graph._fields))

    @property
    def n_clusters(self) -> int:
        """Number of clusters."""
        return self.cluster_weight.shape[0]

    @property
    def n_labels(self) -> int:
        """Number of labels."""
        return self.label_weight.shape[0]

    @property
    def embedding_dim(self) -> int:
        """Width of the embeddings."""
        return self.label_weight.shape[1]

    def scratch(self, beam_width: int, k: int) -> Scratch:
        """Memory of the calling thread for searches of these sizes, made on first use."""
        kept = getattr(self._local, "scratch", None)
        if kept is None or kept[0] != (beam_width, k):
            made = make_scratch(self.n_clusters, self.n_labels, beam_width, k)
            if kept is not None:  # what is as large as the model stays, its stamps in use
                made = made._replace(logits=kept[1].logits, stamp=kept[1].stamp, row=kept[1].row)
            kept = ((beam_width, k), made)
            self._local.scratch = kept
        return kept[1]

    def feature_scratch(self) -> np.ndarray:
        """Memory of the calling thread for the features of one row, all 0."""
        assert self.ranker is not None
        if not hasattr(self._local, "features"):
            self._local.features = np.zeros(self.ranker.n_features, np.float32)
        return self._local.features

    def __getstate__(self):
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "_local"}

    def __setstate__(self, state):
        object.__setattr__(self, "_local", threading.local())
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self.__post_init__()


def _freeze_arrays(owner) -> None:
    """Turn every array of a frozen dataclass into a contiguous, read-only view."""
    for f in fields(owner):
        value = getattr(owner, f.name)
        if isinstance(value, np.ndarray):
            view = np.ascontiguousarray(value).view(np.ndarray)
            view.flags.writeable = False
            object.__setattr__(owner, f.name, view)
