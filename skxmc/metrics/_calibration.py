"""Do scores mean what they say? Mean score against share of true labels, bin by bin."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from skxmc._sparse import as_csr
from skxmc._validation import check_int, check_option
from skxmc.metrics._hits import look_up
from skxmc.metrics._inputs import as_indices, as_truth, as_weights
from skxmc.metrics._terms import safe_divide
from skxmc.topk import TopK, topk_from_csr

BINNINGS = ("uniform", "quantile")


class ReliabilityCurve(NamedTuple):
    """How often the labels of each score bin are true.

    Attributes
    ----------
    edges : ndarray of shape (n_bins + 1,)
        Bin b holds the scores above `edges[b]`, up to and with `edges[b + 1]`; the first bin has
        its lower edge, too.
    mean_score : ndarray of shape (n_bins,)
        Mean score of the bin's labels, NaN in an empty bin.
    share_true : ndarray of shape (n_bins,)
        Share of them that is true, NaN in an empty bin.
    counts : ndarray of shape (n_bins,)
        Their number, weighted if rows have weights.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import reliability_curve
    >>> from skxmc.topk import TopK
    >>> curve = reliability_curve([[1, 0]], TopK(np.array([[0]]), np.array([[0.9]])), n_bins=2)
    >>> curve.edges.tolist(), curve.counts.tolist()
    ([0.0, 0.5, 1.0], [0.0, 1.0])
    """

    edges: np.ndarray
    mean_score: np.ndarray
    share_true: np.ndarray
    counts: np.ndarray


def reliability_curve(
    y_true, y_score, *, n_bins=10, strategy="uniform", sample_weight=None
) -> ReliabilityCurve:
    """Compare scores with the share of true labels, in bins of the scores.

    Only the labels that `y_score` holds take part, for example the best five of each row; true
    labels that are not among them do not matter here.

    Parameters
    ----------
    y_true : {sparse, array-like} of shape (n_rows, n_labels)
        0/1 indicator of the true labels.
    y_score : TopK or sparse array of shape (n_rows, n_labels)
        Probabilities of labels; of a sparse array the stored entries.
    n_bins : int, default=10
        Number of bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width in [0, 1], or of equally many labels. Equal quantiles make one bin.
    sample_weight : array-like of shape (n_rows,), optional
        Weights of the rows, ones by default.

    Returns
    -------
    curve : ReliabilityCurve
        Edges, mean score, share of true labels and count of the bins.

    Raises
    ------
    ValueError
        If a score is outside [0, 1], there is none, or the data do not fit together.
    TypeError
        If `y_score` has neither form.

    See Also
    --------
    skxmc.calibration.CalibratedTopKClassifier : Makes probabilities of scores.
    skxmc.inspection.ReliabilityDisplay : Draws the curve.

    References
    ----------
    A. Niculescu-Mizil, R. Caruana, "Predicting good probabilities with supervised learning",
    ICML 2005; `sklearn.calibration.calibration_curve` for a binary problem.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import reliability_curve
    >>> from skxmc.topk import TopK
    >>> truth = np.array([[1, 0, 0], [0, 1, 0]])
    >>> top = TopK(np.array([[0, 1], [1, 2]]), np.array([[0.9, 0.4], [0.7, 0.2]]))
    >>> curve = reliability_curve(truth, top, n_bins=2)
    >>> curve.mean_score.round(2).tolist(), curve.share_true.tolist(), curve.counts.tolist()
    ([0.3, 0.8], [0.0, 1.0], [2.0, 2.0])
    """
    check_int("reliability_curve", "n_bins", n_bins, minimum=1)
    check_option("reliability_curve", "strategy", strategy, BINNINGS)
    scores, true, weights = _scored_pairs(y_true, y_score, sample_weight)
    if strategy == "uniform":
        edges = np.linspace(0.0, 1.0, n_bins + 1)
    else:
        edges = np.unique(np.quantile(scores, np.linspace(0.0, 1.0, n_bins + 1)))
        edges = np.repeat(edges, 2) if edges.size == 1 else edges
    n_bins = edges.size - 1
    which = np.clip(np.searchsorted(edges, scores, side="left") - 1, 0, n_bins - 1)

    def total(values):
        return np.bincount(which, values, minlength=n_bins)

    count = total(weights)
    empty = np.where(count > 0, 0.0, np.nan)
    return ReliabilityCurve(
        edges,
        safe_divide(total(weights * scores), count) + empty,
        safe_divide(total(weights * true), count) + empty,
        count,
    )


def expected_calibration_error(
    y_true, y_score, *, n_bins=10, strategy="uniform", sample_weight=None
) -> float:
    """Compute how far scores are from the share of true labels, on average over score bins.

    Parameters
    ----------
    y_true : {sparse, array-like} of shape (n_rows, n_labels)
        0/1 indicator of the true labels.
    y_score : TopK or sparse array of shape (n_rows, n_labels)
        Probabilities of labels; of a sparse array the stored entries.
    n_bins : int, default=10
        Number of bins.
    strategy : {"uniform", "quantile"}, default="uniform"
        Bins of equal width in [0, 1], or of equally many labels.
    sample_weight : array-like of shape (n_rows,), optional
        Weights of the rows, ones by default.

    Returns
    -------
    error : float
        In [0, 1], 0 if in each bin the mean score is the share of true labels.

    Raises
    ------
    ValueError
        If a score is outside [0, 1], there is none, or the data do not fit together.
    TypeError
        If `y_score` has neither form.

    Notes
    -----
    With more labels a row the error falls for any model that gives most of them a score near 0:
    compare figures at the same k only.

    References
    ----------
    C. Guo, G. Pleiss, Y. Sun, K. Q. Weinberger, "On calibration of modern neural networks",
    ICML 2017, equation 3.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import expected_calibration_error
    >>> from skxmc.topk import TopK
    >>> truth = np.array([[1, 0, 0], [0, 1, 0]])
    >>> top = TopK(np.array([[0, 1], [1, 2]]), np.array([[0.9, 0.4], [0.7, 0.2]]))
    >>> round(expected_calibration_error(truth, top, n_bins=2), 4)
    0.25
    """
    curve = reliability_curve(
        y_true, y_score, n_bins=n_bins, strategy=strategy, sample_weight=sample_weight
    )
    held = curve.counts > 0
    gaps = np.abs(curve.mean_score - curve.share_true)[held]
    return float(np.average(gaps, weights=curve.counts[held]))


def _scored_pairs(y_true, y_score, sample_weight) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Score, truth and weight of each predicted pair of row and label, checked."""
    truth = as_truth(y_true)
    row_weights = as_weights(sample_weight, truth.shape[0])
    top = _as_topk(y_score, truth.shape)
    if np.shape(top.indices) != np.shape(top.scores):
        raise ValueError(
            f"y_score must have scores of the shape of its indices, {np.shape(top.indices)}, got "
            f"{np.shape(top.scores)}."
        )
    indices = as_indices(top, truth.shape, np.shape(top.indices)[-1])
    found = indices >= 0
    scores = np.asarray(top.scores, dtype=np.float64)[:, : indices.shape[1]]
    if not found.any():
        raise ValueError("y_score holds no label at all: there is nothing to compare.")
    scores, true = scores[found], look_up(truth, indices)[found]
    if not ((scores >= 0) & (scores <= 1)).all():
        raise ValueError(
            "y_score must hold probabilities in [0, 1], got values from "
            f"{scores.min()} to {scores.max()}. skxmc.calibration.CalibratedTopKClassifier makes "
            "probabilities of the scores of a classifier."
        )
    return scores, true, np.broadcast_to(row_weights[:, None], found.shape)[found]


def _as_topk(y_score, shape: tuple[int, int]) -> TopK:
    if isinstance(y_score, TopK):
        return y_score
    if not sp.issparse(y_score):
        raise TypeError(
            f"y_score must be a TopK or a sparse array of probabilities (n_rows, n_labels), got "
            f"{type(y_score).__name__}."
        )
    if y_score.shape != shape:
        raise ValueError(f"Sparse y_score must have y_true's shape {shape}, got {y_score.shape}.")
    scores = as_csr(y_score)
    return topk_from_csr(scores, max(1, int(np.diff(scores.indptr).max())))
