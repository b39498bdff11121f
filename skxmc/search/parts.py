"""Parts of a frozen model beside its graph, as plain read-only arrays: an encoder, a ranker."""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from skxmc.search.codes import round_rows
from skxmc.search.ranking._kernels import RankerArrays, order_columns, place_columns

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
        Where the entries of each feature start and stop, and the words.
    entries : ndarray of shape (n_weights, 2), int32
        Labels and the bits of their float32 weights; in long columns by the labels' hashes.
    words : ndarray of shape (n_words,), uint64
        Tables in which long columns are looked up, as `skxmc.search.ranking` describes them.
    bias : ndarray of shape (n_labels,), float32
        Biases.
    share : float
        Weight of the ranker in the geometric mean that is the final score.
    size : int
        Labels re-ordered, at least as many as are asked for; 0 leaves it to their number, see
        `skxmc.search.beam.auto_rerank_size`.

    Examples
    --------
    A ranker of two labels, each with the weight 1 for a feature of its own:

    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from skxmc.search.parts import RankerColumns
    >>> rows = sp.csr_array(np.eye(2, dtype=np.float32))
    >>> ranker = RankerColumns.from_rows(rows, np.zeros(2, np.float32), share=0.75, size=50)
    >>> ranker.entries[:, 0]
    array([0, 1], dtype=int32)
    """

    columns: np.ndarray
    entries: np.ndarray
    words: np.ndarray
    bias: np.ndarray
    share: float
    size: int

    def __post_init__(self):
        freeze_arrays(self)

    @classmethod
    def from_rows(
        cls, rows: sp.csr_array, bias: np.ndarray, *, share: float, size: int
    ) -> "RankerColumns":
        """Arrange a ranker's weights by feature.

        Parameters
        ----------
        rows : csr_array of shape (n_labels, n_features), float32
            A row of weights for each label.
        bias : ndarray of shape (n_labels,), float32
            As the ranker's.
        share : float
            As the ranker's.
        size : int
            As the ranker's.

        Returns
        -------
        ranker : RankerColumns
            With arrays of its own but for `bias`.
        """
        by_feature = rows.tocsc()
        labels, weights = by_feature.indices.astype(np.int32), by_feature.data
        columns = place_columns(by_feature.indptr)
        words = np.zeros(columns[-1, -1] if len(columns) else 0, np.uint64)
        order_columns(columns, labels, weights, words)
        entries = np.stack((labels, weights.view(np.int32)), axis=1)
        return cls(columns, entries, words, bias, share, size)

    @cached_property
    def arrays(self) -> RankerArrays:
        """Hand out the arrays as the kernel takes them."""
        weights = self.entries.view(np.float32)
        return RankerArrays(self.columns, self.entries, weights, self.words, self.bias)


def freeze_arrays(owner) -> None:
    """Turn every array of a frozen dataclass into a contiguous, read-only view."""
    for f in fields(owner):
        value = getattr(owner, f.name)
        if isinstance(value, np.ndarray):
            view = np.ascontiguousarray(value).view(np.ndarray)
            view.flags.writeable = False
            object.__setattr__(owner, f.name, view)
