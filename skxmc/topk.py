"""TopK: the best few labels of each row, and its conversions to and from sparse scores."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

PAD_LABEL = -1
PAD_SCORE = -np.inf


class TopK(NamedTuple):
    """The best k labels of each row, best first.

    Attributes
    ----------
    indices : ndarray of shape (n_rows, k), dtype int64
        Label columns, best first; equal scores are ordered by the smaller index. Where a row has
        fewer than k labels the rest is -1.
    scores : ndarray of shape (n_rows, k), dtype float32
        The scores of those labels; -inf where `indices` is -1.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.topk import TopK
    >>> top = TopK(np.array([[2, 0]]), np.array([[0.9, 0.1]], dtype=np.float32))
    >>> top.indices
    array([[2, 0]])
    """

    indices: np.ndarray
    scores: np.ndarray


def topk_to_csr(topk: TopK, n_labels: int) -> sp.csr_array:
    """Turn a TopK into a sparse score matrix; padded entries are left out.

    Parameters
    ----------
    topk : TopK
        Label columns and scores, each of shape (n_rows, k).
    n_labels : int
        Number of columns of the result.

    Returns
    -------
    scores : csr_array of shape (n_rows, n_labels), dtype float32
        Indices sorted within a row. A score of exactly 0 stays as an explicit entry.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.topk import TopK, topk_to_csr
    >>> top = TopK(np.array([[2, 0], [1, -1]]), np.array([[0.9, 0.1], [0.5, -np.inf]]))
    >>> topk_to_csr(top, n_labels=3).toarray()
    array([[0.1, 0. , 0.9],
           [0. , 0.5, 0. ]], dtype=float32)
    """
    indices = np.asarray(topk.indices)
    found = indices >= 0
    indptr = np.concatenate(([0], np.cumsum(found.sum(axis=1))))
    data = np.asarray(topk.scores, dtype=np.float32)[found]
    out = sp.csr_array((data, indices[found], indptr), shape=(indices.shape[0], n_labels))
    out.sort_indices()
    return out


def topk_from_csr(scores, k: int) -> TopK:
    """Take the best k stored entries of each row of a sparse score matrix.

    Parameters
    ----------
    scores : sparse matrix or array of shape (n_rows, n_labels)
        Scores; only stored entries (explicit zeros among them) take part.
    k : int
        Number of labels to keep in each row.

    Returns
    -------
    topk : TopK
        Best first, ties by the smaller label index, padded with -1 and -inf.

    Examples
    --------
    >>> import scipy.sparse as sp
    >>> from skxmc.topk import topk_from_csr
    >>> topk_from_csr(sp.csr_array([[0.1, 0.0, 0.9]]), k=3).indices
    array([[ 2,  0, -1]])
    """
    csr = sp.csr_array(scores)
    if not csr.has_canonical_format:
        csr = csr.copy()
        csr.sum_duplicates()
    lengths = np.diff(csr.indptr)
    rows = np.repeat(np.arange(csr.shape[0]), lengths)
    order = np.lexsort((csr.indices, -csr.data, rows))
    rank = np.arange(csr.nnz) - np.repeat(csr.indptr[:-1], lengths)
    kept = rank < k
    out = empty_topk(csr.shape[0], k)
    out.indices[rows[kept], rank[kept]] = csr.indices[order[kept]]
    out.scores[rows[kept], rank[kept]] = csr.data[order[kept]]
    return out


def empty_topk(n_rows: int, k: int) -> TopK:
    """Allocate a TopK holding nothing but padding."""
    return TopK(
        np.full((n_rows, k), PAD_LABEL, dtype=np.int64),
        np.full((n_rows, k), PAD_SCORE, dtype=np.float32),
    )
