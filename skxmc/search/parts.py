"""Parts of a frozen model beside its graph, as plain read-only arrays: an encoder, a ranker."""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from skxmc.search.ranking._kernels import RankerArrays, count_words, order_columns

__all__ = ["FeatureTable", "RankerColumns"]


@dataclass(frozen=True)
class FeatureTable:
    """A bag-of-words encoder as arrays: sparse rows to embeddings of one length.

    Parameters
    ----------
    table : ndarray of shape (n_features, embedding_dim), float32
        Feature embeddings.
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
    >>> encoder = FeatureTable(np.eye(2, dtype=np.float32), np.zeros(0, np.float32), True, 1.0)
    >>> encoder.table.flags.writeable
    False
    """

    table: np.ndarray
    column_scale: np.ndarray
    unit_rows: bool
    length: float

    def __post_init__(self):
        freeze_arrays(self)


@dataclass(frozen=True)
class RankerColumns:
    """A sparse ranker as arrays, by feature: it re-orders the best labels of the search.

    Parameters
    ----------
    indptr : ndarray of shape (n_features + 1,), int32
        Where the weights of each feature start.
    labels : ndarray of shape (n_weights,), int32
        Labels; in long columns by the order of their hashes.
    weights : ndarray of shape (n_weights,), float32
        Weights.
    word_indptr : ndarray of shape (n_features + 1,), int64
        Where the words of each feature start; short columns have none.
    words : ndarray of shape (n_words,), uint64
        Tables in which long columns are looked up, as `skxmc.search.ranking` describes them.
    bias : ndarray of shape (n_labels,), float32
        Biases.
    share : float
        Weight of the ranker in the geometric mean that is the final score.
    size : int
        Labels re-ordered at least, as far as the search finds as many.

    Examples
    --------
    A ranker of two labels, each with the weight 1 for a feature of its own:

    >>> import numpy as np
    >>> import scipy.sparse as sp
    >>> from skxmc.search.parts import RankerColumns
    >>> rows = sp.csr_array(np.eye(2, dtype=np.float32))
    >>> ranker = RankerColumns.from_rows(rows, np.zeros(2, np.float32), share=0.75, size=50)
    >>> ranker.labels
    array([0, 1], dtype=int32)
    """

    indptr: np.ndarray
    labels: np.ndarray
    weights: np.ndarray
    word_indptr: np.ndarray
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
        columns = rows.tocsc()
        indptr, labels = columns.indptr.astype(np.int32), columns.indices.astype(np.int32)
        word_indptr = count_words(indptr)
        words = np.zeros(word_indptr[-1], np.uint64)
        order_columns(indptr, labels, columns.data, word_indptr, words)
        return cls(indptr, labels, columns.data, word_indptr, words, bias, share, size)

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
