"""Parts of a frozen model beside its graph, as plain read-only arrays: an encoder, a ranker."""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from skxmc.heads._kernels import RankerArrays

__all__ = ["FeatureTable", "RankerRows"]


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
class RankerRows:
    """A sparse ranker as arrays: it re-orders the best labels of the search by their margins.

    Parameters
    ----------
    indptr : ndarray of shape (n_labels + 1,), int32
        Where the weights of each label start.
    indices : ndarray of shape (n_weights,), int32
        Features.
    weights : ndarray of shape (n_weights,), float32
        Weights.
    bias : ndarray of shape (n_labels,), float32
        Biases.
    share : float
        Weight of the ranker in the geometric mean that is the final score.
    n_features : int
        Number of features.
    size : int
        Labels re-ordered at least, as far as the search finds as many.

    Examples
    --------
    A ranker of two labels, each with the weight 1 for a feature of its own:

    >>> import numpy as np
    >>> from skxmc.search.parts import RankerRows
    >>> one = np.ones(2, np.float32)
    >>> features = np.array([0, 1], np.int32)
    >>> ranker = RankerRows(np.arange(3, dtype=np.int32), features, one, 0 * one, 0.75, 2, 50)
    >>> ranker.weights.flags.writeable
    False
    """

    indptr: np.ndarray
    indices: np.ndarray
    weights: np.ndarray
    bias: np.ndarray
    share: float
    n_features: int
    size: int

    def __post_init__(self):
        freeze_arrays(self)

    @cached_property
    def arrays(self) -> RankerArrays:
        """Hand out the arrays as the kernel takes them."""
        return RankerArrays(
            self.indptr, self.indices, self.weights, self.bias, np.float32(self.share)
        )


def freeze_arrays(owner) -> None:
    """Turn every array of a frozen dataclass into a contiguous, read-only view."""
    for f in fields(owner):
        value = getattr(owner, f.name)
        if isinstance(value, np.ndarray):
            view = np.ascontiguousarray(value).view(np.ndarray)
            view.flags.writeable = False
            object.__setattr__(owner, f.name, view)
