"""Candidates of a first search: further signals for them, their scores as log p, a new order."""

import numba
import numpy as np
import scipy.sparse as sp

from skxmc._sparse import as_csr, normalize_rows
from skxmc._validation import check_option
from skxmc.heads import _kernels
from skxmc.topk import TopK

__all__ = ["candidate_dots", "log_scores", "sort_candidates"]

SCORE_FORMS = ("probability", "log_probability", "logit")


def candidate_dots(X, label_rows, topk: TopK, *, bias=None) -> np.ndarray:
    """Compute the dot product of each row, scaled to unit length, with its candidates' rows.

    Parameters
    ----------
    X : sparse or dense array of shape (n_rows, n_features)
        Features.
    label_rows : sparse array of shape (n_labels, n_features)
        One row a label: the weights of a ranker, or `skxmc.index.label_centroids`, for the cosine.
    topk : TopK
        Candidates of the rows; the scores are not read.
    bias : ndarray of shape (n_labels,), optional
        Added to the label's products.

    Returns
    -------
    dots : ndarray of shape (n_rows, k), float32
        In the order of the candidates, -inf where `topk` is padded.

    Raises
    ------
    ValueError
        If X is not finite, or features, rows or labels do not fit together.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.heads import candidate_dots
    >>> from skxmc.topk import TopK
    >>> top = TopK(np.array([[1, -1]]), np.array([[0.5, -np.inf]]))
    >>> candidate_dots(np.array([[3.0, 4.0]]), np.eye(2), top)
    array([[ 0.8, -inf]], dtype=float32)
    """
    X, label_rows = unit_csr(X), as_csr(label_rows)
    n_labels, n_features = label_rows.shape
    if X.shape[1] != n_features:
        raise ValueError(f"X must have the {n_features} features of the labels, got {X.shape[1]}.")
    candidates = checked_labels(topk, X.shape[0], n_labels)
    offsets = np.zeros(n_labels) if bias is None else np.asarray(bias)
    if offsets.shape != (n_labels,):
        raise ValueError(f"bias must have shape ({n_labels},), got {offsets.shape}.")
    return _kernels.candidate_dots(
        (X.indptr, X.indices, X.data),
        n_features,
        candidates,
        (label_rows.indptr, label_rows.indices, label_rows.data),
        offsets.astype(np.float32),
        numba.get_num_threads(),
    )


def log_scores(topk: TopK, form: str = "probability") -> np.ndarray:
    """Bring scores to log-probabilities, the form in which signals add up.

    Parameters
    ----------
    topk : TopK
        Candidates and scores.
    form : {"probability", "log_probability", "logit"}, default="probability"
        What the scores are: p, log p, or log-odds, of which log p is the log-sigmoid.

    Returns
    -------
    log_p : ndarray of shape (n_rows, k), float32
        In the order of the candidates, -inf where `topk` is padded.

    Raises
    ------
    ValueError
        If the form is unknown, a score is NaN or no probability, or the shapes differ.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.heads import log_scores
    >>> from skxmc.topk import TopK
    >>> log_scores(TopK(np.array([[4]]), np.array([[0.0]])), form="logit").round(4)
    array([[-0.6931]], dtype=float32)
    """
    check_option("log_scores", "form", form, SCORE_FORMS)
    found = np.asarray(topk.indices) >= 0
    scores = np.asarray(topk.scores, dtype=np.float32)
    if scores.shape != found.shape:
        raise ValueError(
            f"topk.scores must have the shape of topk.indices, {found.shape}, got {scores.shape}."
        )
    wrong = np.isnan(scores) | ((scores < 0) & (form == "probability"))
    if (wrong & found).any():
        value = scores[wrong & found][0]
        raise ValueError(
            f"scores must be {form} values, got {value}; form may be one of {SCORE_FORMS}."
        )
    scores = np.where(found, scores, -np.inf if form != "probability" else 0)
    if form == "probability":
        with np.errstate(divide="ignore"):
            return np.log(scores, dtype=np.float32)
    if form == "logit":
        return -np.logaddexp(np.float32(0), -scores, dtype=np.float32)
    return scores.astype(np.float32)


def sort_candidates(indices: np.ndarray, scores: np.ndarray) -> TopK:
    """Order candidates by new scores, ties by the smaller label, padding last.

    Parameters
    ----------
    indices : ndarray of shape (n_rows, k), int64
        Candidate labels, -1 where there is none.
    scores : ndarray of shape (n_rows, k)
        Their scores.

    Returns
    -------
    topk : TopK
        Best first.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.heads import sort_candidates
    >>> sort_candidates(np.array([[7, -1, 2]]), np.array([[0.5, 9.0, 0.5]])).indices
    array([[ 2,  7, -1]])
    """
    indices = np.asarray(indices, dtype=np.int64)
    scores = np.where(indices >= 0, np.asarray(scores, dtype=np.float32), -np.inf)
    names = np.where(indices >= 0, indices, np.iinfo(np.int64).max)
    order = np.lexsort((names, -scores), axis=-1)
    return TopK(
        np.take_along_axis(indices, order, axis=1),
        np.take_along_axis(scores.astype(np.float32), order, axis=1),
    )


def unit_csr(X) -> sp.csr_array:
    """Convert to canonical CSR with rows of unit length; refuse what is not finite."""
    X = as_csr(X)
    if not np.isfinite(X.data).all():
        raise ValueError("X must be finite, got NaN or infinity.")
    return normalize_rows(X)


def checked_labels(topk: TopK, n_rows: int, n_labels: int) -> np.ndarray:
    """Return the candidate labels as int64, after a look at their shape and range."""
    indices = np.asarray(topk.indices)
    if indices.ndim != 2 or indices.shape[0] != n_rows or indices.dtype.kind not in "iu":
        raise ValueError(
            f"topk.indices must be integers of shape ({n_rows}, k), one row for each row of X, got "
            f"{indices.dtype} of shape {indices.shape}."
        )
    if indices.size and (indices.min() < -1 or indices.max() >= n_labels):
        raise ValueError(
            f"topk.indices must lie between -1 (padding) and {n_labels - 1}, the last label, got "
            f"{indices.min()} to {indices.max()}."
        )
    return indices.astype(np.int64, copy=False)
