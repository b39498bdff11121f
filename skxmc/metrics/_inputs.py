"""What the metrics accept: truth, predictions, k and row weights, each brought to one form."""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp

from skxmc._sparse import as_csr
from skxmc._validation import check_int
from skxmc.topk import PAD_LABEL, TopK, topk_from_csr

_FORMS = (
    "a TopK, an integer array (n_rows, >= k) of label columns padded with -1, sparse scores "
    "(n_rows, n_labels) or a float array (n_rows, n_labels) of scores"
)
_DENSE_CELLS = 1 << 22  # cells of a dense score matrix sorted at a time


def as_truth(y_true) -> sp.csr_array:
    """Bring a 0/1 indicator to CSR that stores ones only, sorted within each row."""
    truth = as_csr(y_true if sp.issparse(y_true) else _dense_indicator(y_true), dtype=None)
    known = (truth.data == 0) | (truth.data == 1)
    if not known.all():
        raise ValueError(
            f"y_true must hold only 0 and 1, got {truth.data[~known][0]!r}. Label ids or names "
            "become an indicator by MultiLabelBinarizer(sparse_output=True)."
        )
    if min(truth.shape) == 0:
        raise ValueError(f"y_true must have at least one row and one label, got {truth.shape}.")
    if not truth.data.all():
        truth = truth.copy()  # the arrays may be the caller's own
        truth.eliminate_zeros()
    return truth


def as_ks(k) -> tuple[np.ndarray, bool]:
    """Return the values of `k` as an array, and whether `k` was a single int."""
    single = not isinstance(k, Sequence | np.ndarray) or isinstance(k, str)
    ks = [k] if single else list(k)
    if not ks:
        raise ValueError("k must be an int >= 1 or a sequence of such, got an empty sequence.")
    for value in ks:
        check_int("skxmc.metrics", "k", value, minimum=1)
    return np.array(ks, dtype=np.int64), single


def as_weights(sample_weight, n_rows: int) -> np.ndarray:
    """Return one float64 weight per row; ones where `sample_weight` is None."""
    if sample_weight is None:
        return np.ones(n_rows)
    weights = np.asarray(sample_weight, dtype=np.float64)
    if weights.shape != (n_rows,):
        raise ValueError(f"sample_weight must have shape ({n_rows},), got {weights.shape}.")
    if not np.isfinite(weights).all() or weights.min() < 0 or weights.sum() == 0:
        raise ValueError(
            "sample_weight must be finite, not negative and not all 0, got values from "
            f"{weights.min()} to {weights.max()}."
        )
    return weights


def as_indices(y_score, shape: tuple[int, int], k: int) -> np.ndarray:
    """Return the best min(k, n_labels) label columns of each row, best first, padded with -1.

    Which of the four forms `y_score` has is decided by its type, dtype and width alone, never by
    its values.
    """
    k = min(k, shape[1])
    if sp.issparse(y_score):
        return _from_sparse(y_score, shape, k)
    ranked = _as_array(y_score.indices if isinstance(y_score, TopK) else y_score)
    if ranked.ndim != 2 or ranked.shape[0] != shape[0]:
        raise ValueError(
            f"y_score must have {shape[0]} rows, as y_true has, got shape {ranked.shape}. "
            f"Pass {_FORMS}."
        )
    if isinstance(y_score, TopK):
        return _from_indices(ranked[:, :k], shape, k)
    if np.issubdtype(ranked.dtype, np.integer):
        # Checked in full width: a 0/1 indicator passed by mistake shows in its repeated values.
        return _from_indices(ranked, shape, k)[:, :k]
    return _from_dense(ranked, shape, k)


def _dense_indicator(y_true) -> np.ndarray:
    """Refuse what cannot be an indicator, above all lists of label ids."""
    try:
        dense = np.asarray(y_true)
    except ValueError:  # ragged lists
        dense = np.empty(0, dtype=object)
    if dense.ndim != 2 or dense.dtype.kind not in "biuf":
        raise ValueError(
            f"y_true must be a sparse or dense 0/1 indicator (n_rows, n_labels), got "
            f"{type(y_true).__name__} of shape {dense.shape} and dtype {dense.dtype}. Lists of "
            "labels become an indicator by MultiLabelBinarizer(sparse_output=True)."
        )
    return dense


def _as_array(y_score) -> np.ndarray:
    try:
        array = np.asarray(y_score)
    except ValueError as error:
        raise ValueError(f"y_score has rows of different lengths. Pass {_FORMS}.") from error
    if array.dtype.kind not in "iuf":
        raise TypeError(f"y_score must be {_FORMS}, got an array of dtype {array.dtype}.")
    return array


def _from_indices(ranked: np.ndarray, shape: tuple[int, int], k: int) -> np.ndarray:
    """Check given label columns: wide enough, in range, none twice in a row."""
    if ranked.shape[1] < k:
        raise ValueError(
            f"y_score holds {ranked.shape[1]} labels a row, too few for k={k}. Predict with a "
            "larger k, or ask for a smaller one."
        )
    ranked = ranked.astype(np.int64, copy=False)
    if ranked.min() < PAD_LABEL or ranked.max() >= shape[1]:
        raise ValueError(
            f"y_score holds label columns from {ranked.min()} to {ranked.max()}, allowed are 0 to "
            f"{shape[1] - 1} and -1 for padding: y_true has {shape[1]} labels."
        )
    ordered = np.sort(ranked, axis=1)
    twice = (ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] != PAD_LABEL)
    if twice.any():
        raise ValueError(
            f"y_score row {np.flatnonzero(twice.any(axis=1))[0]} holds a label more than once. "
            f"An integer array is read as label columns; pass scores as floats, or {_FORMS}."
        )
    return ranked


def _from_sparse(scores, shape: tuple[int, int], k: int) -> np.ndarray:
    """Rank the stored entries; absent ones and -inf are not predicted."""
    if scores.shape != shape:
        raise ValueError(f"Sparse y_score must have y_true's shape {shape}, got {scores.shape}.")
    scores = as_csr(scores, dtype=None if scores.dtype.kind == "f" else np.float64)
    _refuse_nan(scores.data)
    top = topk_from_csr(scores, k)
    top.indices[np.isneginf(top.scores)] = PAD_LABEL
    return top.indices


def _from_dense(scores: np.ndarray, shape: tuple[int, int], k: int) -> np.ndarray:
    """Rank dense scores, ties by the smaller index; -inf is not predicted."""
    if scores.shape != shape:
        raise ValueError(
            f"A float y_score must have y_true's shape {shape}, got {scores.shape}. The best few "
            "labels of each row are passed as a TopK or as integer label columns."
        )
    out = np.empty((shape[0], k), dtype=np.int64)
    step = max(1, _DENSE_CELLS // shape[1])
    for start in range(0, shape[0], step):
        rows = slice(start, start + step)
        _refuse_nan(scores[rows])
        best = np.argsort(-scores[rows], axis=1, kind="stable")[:, :k]
        found = ~np.isneginf(np.take_along_axis(scores[rows], best, axis=1))
        out[rows] = np.where(found, best, PAD_LABEL)
    return out


def _refuse_nan(values: np.ndarray):
    if np.isnan(values).any():
        raise ValueError("y_score must not hold NaN: a NaN score has no rank.")
