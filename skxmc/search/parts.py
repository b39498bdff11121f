"""Parts of a frozen model beside its graph, as plain read-only arrays: an encoder, a ranker."""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from skxmc.search.codes import round_rows
from skxmc.search.ranking._kernels import (
    GROUP,
    RankerArrays,
    count_records,
    fill_columns,
    place_columns,
)

__all__ = ["FeatureTable", "RankerColumns"]


@dataclass(frozen=True)
class FeatureTable:
    """A bag-of-words encoder as arrays: sparse rows to embeddings of one length.

    Parameters
    ----------
    table : ndarray of shape (n_features, embedding_dim), int16
        Feature embeddings, to be multiplied by `table_scale`. Half the memory of float32, to which
        a search owes much of its time; `benchmarks/bench_search_sizes.py` prints by how much
        embeddings differ.
    table_scale : ndarray of shape (n_features,), float32
        As `round_rows` returns it.
    column_scale : ndarray of shape (n_features,) or (0,), float32
        Factor of each feature; empty for none.
    unit_rows : bool
        Scale rows to length 1 first.
    length : float
        Length of an embedding.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.search.parts import FeatureTable
    >>> eye = np.eye(2, dtype=np.float32)
    >>> encoder = FeatureTable.from_floats(eye, np.zeros(0, np.float32), True, 1.0)
    >>> encoder.table
    array([[32767,     0],
           [    0, 32767]], dtype=int16)
    """

    table: np.ndarray
    table_scale: np.ndarray
    column_scale: np.ndarray
    unit_rows: bool
    length: float

    def __post_init__(self):
        freeze_arrays(self)

    @classmethod
    def from_floats(
        cls, table: np.ndarray, column_scale: np.ndarray, unit_rows: bool, length: float
    ) -> "FeatureTable":
        """Round a table of feature embeddings.

        Parameters
        ----------
        table : ndarray of shape (n_features, embedding_dim), float32
            Feature embeddings.
        column_scale : ndarray of shape (n_features,) or (0,), float32
            As the encoder's.
        unit_rows : bool
            As the encoder's.
        length : float
            As the encoder's.

        Returns
        -------
        encoder : FeatureTable
            With a table of its own.
        """
        rounded, scale = round_rows(table, 32767)
        return cls(rounded, scale, column_scale, unit_rows, length)


@dataclass(frozen=True)
class RankerColumns:
    """A sparse ranker as arrays, by feature: it re-orders the best labels of the search.

    Parameters
    ----------
    columns : ndarray of shape (n_features, 4), int32
        Where the records of each feature start and stop, where its table or its list of groups
        starts, and whether it has a table.
    records : ndarray of shape (n_records,), uint64
        What a feature says of a group of sixteen labels: which of them have weights, in 16 bits;
        then up to three weights, or the number of a block.
    groups : ndarray of shape (n_listed,), int32
        The groups of the records of features that say little.
    words : ndarray of shape (n_words,), uint64
        The tables of the others: bits of the groups that have records, 32 a word, and in the upper
        half the number of the first of these records.
    blocks : ndarray of shape (n_blocks, 16), int16
        Weights of groups in which more than three labels have some.
    place : ndarray of shape (n_labels,), int32
        Place of each label; the group is a sixteenth of it.
    scale : ndarray of shape (n_labels,), float32
        What a label's weights, which are whole numbers, are to be multiplied by.
    bias : ndarray of shape (n_labels,), float32
        Biases.
    share : float
        Weight of the ranker in the geometric mean that is the final score.
    size : int
        Labels re-ordered where a search does not say how many, at least as many as are asked for;
        0 leaves it to their number, see `skxmc.search.beam.auto_rerank_size`.
    far : bool, default=False
        Whether it puts labels in front that the graph ranks low, as centroids do: shortlists that
        are not given a size are then twice as long.

    Examples
    --------
    A ranker of two labels, each with the weight 1 for a feature of its own:

    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from skxmc.search.parts import RankerColumns
    >>> rows = sp.csr_array(np.eye(2, dtype=np.float32))
    >>> ranker = RankerColumns.from_rows(rows, np.zeros(2, np.float32), share=0.75, size=50)
    >>> ranker.scale * 32767
    array([1., 1.], dtype=float32)
    """

    columns: np.ndarray
    records: np.ndarray
    groups: np.ndarray
    words: np.ndarray
    blocks: np.ndarray
    place: np.ndarray
    scale: np.ndarray
    bias: np.ndarray
    share: float
    size: int
    far: bool = False

    def __post_init__(self):
        freeze_arrays(self)

    @classmethod
    def from_rows(
        cls,
        rows: sp.csr_array,
        bias: np.ndarray,
        *,
        share: float,
        size: int,
        far: bool = False,
        order: np.ndarray | None = None,
    ) -> "RankerColumns":
        """Arrange a ranker's weights by feature, rounded to 16 bits.

        Parameters
        ----------
        rows : csr_array of shape (n_labels, n_features), float32
            A row of weights for each label. Each is off by a 65,534th of the largest of its row at
            most.
        bias : ndarray of shape (n_labels,), float32
            As the ranker's.
        share : float
            As the ranker's.
        size : int
            As the ranker's.
        far : bool, default=False
            As the ranker's.
        order : ndarray of shape (n_labels,), int, or None
            All labels, such that neighbours tend to be ranked together; None leaves them in their
            own order. Only the time that a search takes depends on it.

        Returns
        -------
        ranker : RankerColumns
            With arrays of its own but for `bias`.
        """
        order = np.arange(rows.shape[0]) if order is None else order
        place = np.empty(order.size, np.int32)
        place[order] = np.arange(order.size, dtype=np.int32)
        scale = abs(rows).max(axis=1).toarray().ravel() / np.float32(32767)
        by_place = rows[order]
        # a label may have nothing but zeros
        steps = np.repeat(np.where(scale > 0, scale, 1)[order], np.diff(by_place.indptr))
        by_place.data = np.rint(by_place.data / steps).astype(np.int16)
        by_feature = by_place.tocsc()  # whose entries come by place
        indptr, places, weights = by_feature.indptr, by_feature.indices, by_feature.data
        counts, n_blocks = count_records(indptr, places)
        columns, n_listed, n_words = place_columns(counts, -(-order.size // GROUP))
        records, words = np.zeros(counts.sum(), np.uint64), np.zeros(n_words, np.uint64)
        groups, blocks = np.empty(n_listed, np.int32), np.zeros((n_blocks, GROUP), np.int16)
        fill_columns(indptr, places, weights, columns, records, groups, words, blocks)
        arrays = (columns, records, groups, words, blocks, place, scale, bias)
        return cls(*arrays, share=share, size=size, far=far)

    @cached_property
    def arrays(self) -> RankerArrays:
        """Hand out the arrays as the kernel takes them."""
        return RankerArrays(*(getattr(self, name) for name in RankerArrays._fields))


def freeze_arrays(owner) -> None:
    """Turn every array of a frozen dataclass into a contiguous, read-only view."""
    for f in fields(owner):
        value = getattr(owner, f.name)
        if isinstance(value, np.ndarray):
            view = np.ascontiguousarray(value).view(np.ndarray)
            view.flags.writeable = False
            object.__setattr__(owner, f.name, view)
