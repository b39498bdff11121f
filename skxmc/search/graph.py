"""SearchGraph: a trained model as plain read-only arrays, ready to be searched."""

import os
import threading
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import Any

import numpy as np

from skxmc.search.codes import by_word, byte_rows, pack_rows, round_rows, sign_rows
from skxmc.search.folder import read_folder, write_folder
from skxmc.search.fused._kernels import Graph, Scratch, Sizes, make_scratch
from skxmc.search.parts import FeatureTable, RankerColumns, freeze_arrays
from skxmc.search.paths._kernels import N_LEVELS, count_levels

__all__ = ["SearchGraph"]

# Embedding width from which labels get bits: with fewer they tell little, and codes are cheap.
_BITS_FROM = 256


@dataclass(frozen=True)
class SearchGraph:
    """A trained model as plain read-only arrays, ready to be searched by any number of threads.

    Parameters
    ----------
    cluster_weight : ndarray of shape (n_clusters, embedding_dim), float32
        Cluster vectors.
    cluster_bias : ndarray of shape (n_clusters,), float32
        Cluster biases.
    cluster_codes : ndarray of shape (n_blocks, n_fours, 16, 4), uint8
        Cluster vectors in 8 bits, sixteen a block, as `byte_rows` makes them; where clusters are
        many they choose those that are scored in full.
    cluster_scale : ndarray of shape (n_clusters,), float32
        What these codes are to be multiplied by.
    alpha : float
        Gain of the cluster softmax.
    indptr : ndarray of shape (n_clusters + 1,), int32
        Where the edges of each cluster start.
    labels : ndarray of shape (n_edges,), int32
        Label columns; within a cluster by falling key, ties by the smaller label.
    log_weights : ndarray of shape (n_edges,), float32
        Log edge weights.
    edge_keys : ndarray of shape (n_edges,), float32
        Log edge weights plus `prior_weight` times the label's bias: labels are shortlisted by the
        largest sum of a cluster's log score and an edge's key.
    edge_levels : ndarray of shape (n_clusters, 128) or (n_clusters, 0), int32
        How many edges of each cluster have keys at most 1, 2, ... eighths of a nat below the
        largest of all; in the last column all of them. Empty without bits.
    edge_bits : ndarray of shape (n_edges, ceil(embedding_dim / 64)) or (n_edges, 0), uint64
        The vectors of the edges' labels in one bit, as `sign_rows` and `by_word` make them; they
        choose the labels that `label_codes` score. By edge, so that a search reads them in one go.
        Empty for none.
    edge_scale : ndarray of shape (n_edges,), float32
        As `sign_rows` returns it, by edge.
    edge_bias : ndarray of shape (n_edges,), float32
        Label biases, by edge.
    bit_axes : ndarray of shape (2, embedding_dim), float32
        As `sign_rows` returns it.
    label_codes : ndarray of shape (n_labels, half_width(embedding_dim)), uint8
        Label vectors in 4 bits, as `pack_rows` makes them; they choose the few labels
        that `label_weight` scores.
    code_scale : ndarray of shape (n_labels,), float32
        What the codes are to be multiplied by.
    label_weight : ndarray of shape (n_labels, embedding_dim), int16 or int8
        Label vectors, to be multiplied by `label_scale`. Half the memory of float32, to which a
        search owes much of its time.
    label_scale : ndarray of shape (n_labels,), float32
        As `round_rows` returns it.
    label_bias : ndarray of shape (n_labels,), float32
        Label biases.
    encoder : FeatureTable or None
        How sparse rows become embeddings; None where that is not done by a table alone.
    path_power : float
        Exponent of the path score in the score p of a label.
    ranker : RankerColumns or None
        What re-orders the best labels; None leaves p as it is.

    Examples
    --------
    Two clusters, one label each:

    >>> import numpy as np
    >>> from skxmc.search.beam import search_topk
    >>> from skxmc.search.graph import SearchGraph
    >>> eye, zero = np.eye(2, dtype=np.float32), np.zeros(2, np.float32)
    >>> edges = np.array([[0], [1]], dtype=np.int32)
    >>> graph = SearchGraph.from_padded(4 * eye, zero, 1.0, edges, 0 * eye[:, :1], eye, zero)
    >>> search_topk(graph, eye, 1, beam_width=2).indices
    array([[0],
           [1]])
    """

    cluster_weight: np.ndarray
    cluster_bias: np.ndarray
    cluster_codes: np.ndarray
    cluster_scale: np.ndarray
    alpha: float
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
    encoder: FeatureTable | None = None
    path_power: float = 1.0
    ranker: RankerColumns | None = None
    _local: threading.local = field(
        default_factory=threading.local, init=False, repr=False, compare=False
    )

    def __post_init__(self):
        freeze_arrays(self)

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
        prior_weight: float = 0.0,
    ) -> "SearchGraph":
        """Make a graph from padded rows of edges.

        Parameters
        ----------
        cluster_weight : ndarray of shape (n_clusters, embedding_dim), float32
            As the graph's.
        cluster_bias : ndarray of shape (n_clusters,), float32
            As the graph's.
        alpha : float
            Gain of the cluster softmax.
        edges : ndarray of shape (n_clusters, width), int32
            Label columns, -1 where unused.
        log_weights : ndarray of shape (n_clusters, width), float32
            Log edge weights.
        label_weight : ndarray of shape (n_labels, embedding_dim), float32
            Label vectors. Each number is off by a 65,534th of the largest of its row at most.
        label_bias : ndarray of shape (n_labels,), float32
            As the graph's.
        encoder : FeatureTable or None
            As the graph's.
        path_power : float, default=1.0
            As the graph's.
        prior_weight : float, default=0.0
            How much a label's bias counts where labels are shortlisted; 0 goes by paths alone.

        Returns
        -------
        graph : SearchGraph
            With codes of its clusters and labels, and bits of these where they are wide.
        """
        clusters, columns = np.nonzero(edges >= 0)
        labels, weights = edges[clusters, columns], log_weights[clusters, columns]
        keys = weights + np.float32(prior_weight) * label_bias[labels]
        order = np.lexsort((labels, -keys, clusters))
        counts = np.bincount(clusters, minlength=edges.shape[0])
        codes, code_scale = pack_rows(label_weight)
        bits, bit_scale, bit_axes = sign_rows(label_weight)
        n_clusters, width = cluster_weight.shape
        if width < _BITS_FROM:
            bits = bits[:, :0]
        labels, keys = labels[order].astype(np.int32), keys[order].astype(np.float32)
        indptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int32)
        levels = np.empty((n_clusters, N_LEVELS if bits.size else 0), np.int32)
        if bits.size:
            count_levels(indptr, keys, levels)
        return cls(
            cluster_weight,
            cluster_bias,
            *byte_rows(cluster_weight),
            alpha,
            indptr,
            labels,
            weights[order].astype(np.float32),
            keys,
            levels,
            by_word(bits, labels, indptr),
            bit_scale[labels],
            label_bias[labels],
            bit_axes,
            codes,
            code_scale,
            *round_rows(label_weight, 32767),
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

    def labels_by_cluster(self) -> np.ndarray:
        """All labels, those with the same best cluster side by side, the likely ones in front.

        Returns
        -------
        labels : ndarray of shape (n_labels,), int64
            Searches tend to rank neighbours together.
        """
        clusters = np.repeat(np.arange(self.n_clusters), np.diff(self.indptr))
        order = np.lexsort((-self.log_weights, self.labels))
        labels, first = np.unique(self.labels[order], return_index=True)
        best = np.full(self.n_labels, self.n_clusters)
        best[labels] = clusters[order[first]]
        return np.lexsort((-self.label_bias, best))

    def save(self, folder: str | os.PathLike) -> None:
        """Write the graph into a folder, one .npy file an array.

        Parameters
        ----------
        folder : path
            Created, or replaced if a graph was saved there; at no moment is it half written.

        Raises
        ------
        FileExistsError
            If there is something else under that name.

        Examples
        --------
        >>> import tempfile
        >>> import numpy as np
        >>> one = np.ones((1, 1), np.float32)
        >>> edges = np.zeros((1, 1), np.int32)
        >>> graph = SearchGraph.from_padded(one, one[0], 1.0, edges, one * 0, one, one[0])
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     graph.save(f"{parent}/model")
        ...     loaded = SearchGraph.load(f"{parent}/model")
        >>> loaded.label_weight
        array([[32767]], dtype=int16)
        """
        arrays, values = _split(self)
        for name in _PARTS:
            part = getattr(self, name)
            if part is not None:
                own, values[name] = _split(part)
                arrays |= {f"{name}_{key}": array for key, array in own.items()}
        write_folder(folder, arrays, values)

    @classmethod
    def load(cls, folder: str | os.PathLike, *, mmap: bool = True) -> "SearchGraph":
        """Read a graph that `save` has written.

        Parameters
        ----------
        folder : path
            The folder.
        mmap : bool, default=True
            Map the arrays into memory: the system reads what searches touch, when they touch it,
            and all processes share it. False reads everything now.

        Returns
        -------
        graph : SearchGraph
            Threads share it; workers of joblib are sent the files' names instead of the arrays. A
            pickle holds the arrays themselves, so that it needs no folder.

        Raises
        ------
        FileNotFoundError
            If the folder or one of its files is not there.
        ValueError
            If the folder holds something else, or was written in another version of the format.
        """
        arrays, values = read_folder(folder, mmap=mmap)
        parts: dict[str, Any] = {}
        for name, kind in _PARTS.items():
            if name in values:
                keys = [key for key in arrays if key.startswith(f"{name}_")]
                own = {key.removeprefix(f"{name}_"): arrays.pop(key) for key in keys}
                parts[name] = kind(**own, **values.pop(name))
        given: dict[str, Any] = {**arrays, **values, **parts}
        return cls(**given)

    def reduced(self) -> "SearchGraph":
        """Return this graph with `label_weight` in int8, half of its memory.

        Each weight is off by about half a `label_scale` at most, hence a logit by half a
        `label_scale` times the sum of the embedding's absolute values.

        Returns
        -------
        graph : SearchGraph
            The new graph; it shares all other arrays with this one.
        """
        rounded, scale = round_rows(self.label_weight, 127)
        return replace(self, label_weight=rounded, label_scale=scale * self.label_scale)

    def scratch(self, beam_width: int, sizes: Sizes, k: int) -> Scratch:
        """Memory of the calling thread for searches of these sizes, made on first use.

        Parameters
        ----------
        beam_width : int
            Clusters followed.
        sizes : Sizes
            How many labels of a row go how far.
        k : int
            Labels a row.

        Returns
        -------
        scratch : Scratch
            To be used by this thread alone.
        """
        kept = getattr(self._local, "scratch", None)
        asked = (beam_width, *sizes, k)
        if kept is None or kept[0] != asked:
            reach = beam_width * self._longest_row
            if not self.edge_bits.size:  # of the paths to a label only one is kept
                reach = min(self.n_labels, reach)
            made = make_scratch(self.arrays, beam_width, reach, sizes, k)
            if kept is not None:  # the marks, as many as labels, are in use
                paths = made.paths._replace(mark=kept[1].paths.mark, first=kept[1].paths.first)
                made = made._replace(paths=paths)
            kept = (asked, made)
            self._local.scratch = kept
        return kept[1]

    @cached_property
    def _longest_row(self) -> int:
        return int(np.diff(self.indptr).max())

    def __getstate__(self):
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "_local"}

    def __setstate__(self, state):
        object.__setattr__(self, "_local", threading.local())
        for name, value in state.items():
            object.__setattr__(self, name, value)
        self.__post_init__()


# Fields of a graph that have arrays of their own, their names before these in a folder.
_PARTS: dict[str, type] = {"encoder": FeatureTable, "ranker": RankerColumns}


def _split(owner) -> tuple[dict[str, Any], dict[str, Any]]:
    """Split the fields of a frozen dataclass into arrays and plain numbers."""
    found = {f.name: getattr(owner, f.name) for f in fields(owner) if f.init}
    arrays = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
    values = {name: value for name, value in found.items() if isinstance(value, bool | int | float)}
    return arrays, values
