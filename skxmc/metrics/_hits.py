"""The core of every metric: the truth looked up at the top-k entries of each row."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from skxmc.metrics._inputs import as_indices, as_truth


class Hits(NamedTuple):
    """One ranking held against the truth, everything that a metric needs.

    Attributes
    ----------
    truth : csr_array of shape (n_rows, n_labels)
        Stores ones only, indices sorted within a row.
    indices : ndarray of shape (n_rows, width), dtype int64
        Predicted label columns, best first, -1 for padding; width = min(largest k, n_labels).
    correct : ndarray of shape (n_rows, width), dtype bool
        Whether the predicted label is true.
    """

    truth: sp.csr_array
    indices: np.ndarray
    correct: np.ndarray

    @property
    def n_true(self) -> np.ndarray:
        """Number of true labels of each row, shape (n_rows,)."""
        return np.diff(self.truth.indptr)

    def last(self, ks: np.ndarray) -> np.ndarray:
        """Column in which rank k ends; a k beyond the number of labels ends with the last one."""
        return np.minimum(ks, self.indices.shape[1]) - 1


def find_hits(y_true, y_score, k: int) -> Hits:
    """Validate truth and predictions and look up the best `k` labels of each row."""
    truth = as_truth(y_true)
    indices = as_indices(y_score, truth.shape, k)
    return Hits(truth, indices, look_up(truth, indices))


def look_up(truth: sp.csr_array, indices: np.ndarray) -> np.ndarray:
    """Tell for each predicted label column whether the truth holds it; padding never is.

    Row and column are folded into one int64 key. CSR with sorted indices lists its keys in
    ascending order, so that one binary search answers every entry.
    """
    n_rows, n_labels = truth.shape
    if truth.nnz == 0:
        return np.zeros(indices.shape, dtype=bool)
    starts = np.arange(n_rows, dtype=np.int64) * n_labels
    stored = np.repeat(starts, np.diff(truth.indptr)) + truth.indices
    wanted = starts[:, None] + indices
    place = np.minimum(np.searchsorted(stored, wanted), len(stored) - 1)
    return (stored[place] == wanted) & (indices >= 0)
