"""What a ranker's margin, the nearness to a label's centroid and its frequency count for."""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
from scipy.optimize import minimize, minimize_scalar
from scipy.special import log_softmax, logsumexp
from sklearn.linear_model import LogisticRegression

from skxmc._sparse import as_csr
from skxmc.heads.candidates import candidate_dots
from skxmc.heads.svm import feature_thresholds
from skxmc.index import label_centroids
from skxmc.topk import TopK

__all__ = ["Blend", "blend_rows", "fit_blend", "label_signals"]

# Held-out rows, with candidates right and wrong, below which nothing is learned.
_FEWEST_ROWS = 50
# Weight of the squared weights, of standardised signals, in the loss.
_RIDGE = 1e-3
# Standard errors by which a blend must beat the margins alone on the held-out rows, in two losses
# together; and by which it may be worse in one view of them.
_SURE, _DOUBT = 2.5, 1.0
# Least slope of a margin in the log-odds, a quarter of what it has alone.
_LEAST_MARGIN = 0.5
# Labels of a row whose order is compared.
_FIRST = 5
# Logs of the standard deviations of scores that are tried.
_LOG_SCALES = (-4.0, 4.0)
# Share of a frequency's weight that is believed.
_TRUST = 1 / 3
# Entries of centroids worked on at a time.
_CHUNK = 4 * 1024**2


class Blend(NamedTuple):
    """Weights of three signals in the log-odds that a candidate is right.

    Log-odds are ``margin m + centroid c + frequency log(1 + n) + intercept``: m is the margin of
    the label's SVM, c the cosine of the row with its centroid, n the number of its rows.
    """

    margin: float
    centroid: float
    frequency: float
    intercept: float


def label_signals(X: sp.csr_array, Y: sp.csr_array, margins: np.ndarray, top: TopK, held_out):
    """Stack the signals of the candidates of some rows, learned from the others.

    Parameters
    ----------
    X, Y : csr_array of shape (n_rows, n_features), (n_rows, n_labels)
        The rows that are learned from, and their labels.
    margins : ndarray of shape (n_held_out, k), float32
        Margins of the candidates.
    top : TopK
        Candidates of the held-out rows.
    held_out : csr_array of shape (n_held_out, n_features)
        Features of the held-out rows.

    Returns
    -------
    signals : ndarray of shape (n_held_out, k, 3), float64
        Margin, cosine with the centroid, log(1 + rows of the label); 0 where `top` is padded.
    """
    # centroids of the candidates alone: those of all labels may be much larger than X
    labels, places = np.unique(top.indices, return_inverse=True)
    centroids = label_centroids(X, Y[:, np.maximum(labels, 0)])
    places = np.where(top.indices >= 0, places.reshape(top.indices.shape), -1)
    cosines = candidate_dots(held_out, centroids, TopK(places, top.scores))
    counts = np.log1p(np.bincount(Y.indices, minlength=Y.shape[1]))[top.indices]
    signals = np.stack((margins, cosines, counts), axis=-1, dtype=np.float64)
    return np.where(top.indices[..., None] >= 0, signals, 0.0)


def is_relevant(Y: sp.csr_array, top: TopK) -> np.ndarray:
    """Say of each candidate whether it is one of the row's labels.

    Parameters
    ----------
    Y : csr_array of shape (n_rows, n_labels)
        Labels of the rows.
    top : TopK
        Candidates of the rows.

    Returns
    -------
    relevant : ndarray of shape (n_rows, k), bool
        False where `top` is padded.
    """
    n_rows, n_labels = Y.shape
    rows = np.arange(n_rows)
    owned = np.repeat(rows, np.diff(Y.indptr)) * n_labels + Y.indices
    return np.isin(rows[:, None] * n_labels + top.indices, owned) & (top.indices >= 0)


def fit_blend(signals: np.ndarray, found: np.ndarray, relevant: np.ndarray) -> Blend | None:
    """Weigh signals so that the best candidates of held-out rows are right.

    The direction of the weights minimises the mean over rows, and over a row's relevant
    candidates, of ::

        -log softmax(score)_l

    over all of the row's candidates: it looks at the order within rows alone, and at every relevant
    label, not only the easiest. Slope and intercept then come from a logistic regression of
    relevance on that score over all candidates, so that the sigmoid of the log-odds is a
    probability.

    Frequency may only count against a label, and for a third of what is found: scores of paths
    favour common labels enough, and candidates of rows that the search was trained on are rare
    labels more often where they are right than those of new rows will be.

    Parameters
    ----------
    signals : ndarray of shape (n_rows, k, 3), float64
        As `label_signals` returns.
    found : ndarray of shape (n_rows, k), bool
        False for padding.
    relevant : ndarray of shape (n_rows, k), bool
        Whether the candidate is one of the row's labels.

    Returns
    -------
    blend : Blend or None
        None where there are too few rows to learn from, or where it is no clear gain over the
        margins alone. Compared are the loss above and that of finding one right label first,
        -log sum_{l relevant} softmax(score)_l: together they must gain 2.5 standard errors. The
        second alone, and P@5 and nDCG@5 of the candidates, may lose one at most: on the rows of
        many data sets margins are all it takes, and weights that help later labels would cost the
        first ones. None, too, where nearness to a centroid would speak against a label, or margins
        count for less than a quarter of what they do alone: then it is the choice of candidates
        that is learned, by a search that knows these rows, and outside of them it misleads.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.heads.blend import fit_blend
    >>> rng = np.random.default_rng(0)
    >>> signals = rng.normal(size=(200, 5, 3))
    >>> relevant = signals[..., 0] + 2 * signals[..., 1] > 1
    >>> blend = fit_blend(signals, np.ones((200, 5), bool), relevant)
    >>> 1.8 < blend.centroid / blend.margin < 2.2
    True
    """
    relevant = relevant & found
    usable = relevant.any(axis=1) & (found & ~relevant).any(axis=1)
    if np.count_nonzero(usable) < _FEWEST_ROWS:
        return None
    rows, own = (found[usable], relevant[usable]), signals[usable]
    frequency = _TRUST * min(0.0, _listwise(own, 0.0, *rows)[2])
    others = _listwise(own[..., :2], frequency * own[..., 2], *rows)
    direction = np.append(others, frequency)
    compared = own @ direction, own[..., 0], *rows
    if not _convinces(*compared):
        return None
    scores = signals[found] @ direction
    logistic = LogisticRegression(C=1e6).fit(scores[:, None], relevant[found])
    slope, intercept = logistic.coef_[0, 0], logistic.intercept_[0]
    margin, centroid, frequency = (slope * direction).tolist()
    if margin <= _LEAST_MARGIN or centroid <= 0:
        return None
    return Blend(margin, centroid, frequency, float(intercept))


def _listwise(signals, offset, found, relevant) -> np.ndarray:
    """Find the weights that put right candidates first.

    `offset` is added to the scores that the signals make.
    """
    scale = signals[found].std(axis=0)
    scale[scale == 0] = 1.0
    scaled = signals / scale
    shares = relevant / relevant.sum(axis=1, keepdims=True)

    def objective(weights):
        log_p = _log_softmax(scaled @ weights + offset, found)
        slopes = np.tensordot(np.exp(log_p) - shares, scaled, axes=2) / len(log_p)
        loss = _each_right(log_p, relevant).mean() + _RIDGE * weights @ weights
        return loss, slopes + 2 * _RIDGE * weights

    return minimize(objective, np.zeros(scale.size), jac=True, method="L-BFGS-B").x / scale


def _convinces(scores, others, found, relevant) -> bool:
    """Whether scores are better than others, in the loss they were made for and in their order."""
    one = _gain(scores, others, found, relevant, _one_right)
    together = _gain(scores, others, found, relevant, _each_right) + one
    first, of_others = (_first_labels(values, found, relevant) for values in (scores, others))
    views = one, *(_standard_errors(a - b) for a, b in zip(first, of_others, strict=True))
    return together > _SURE and min(views) > -_DOUBT


def _gain(scores, others, found, relevant, loss) -> float:
    """By how many standard errors a loss is lower under some scores than under others.

    Scores say how sure they are by their scale, which is set to the best for each.
    """

    def losses(values):
        unit = values / values[found].std()

        def at(log_scale):
            return loss(_log_softmax(np.exp(log_scale) * unit, found), relevant)

        best = minimize_scalar(lambda log_scale: at(log_scale).mean(), bounds=_LOG_SCALES)
        return at(best.x)

    return _standard_errors(losses(others) - losses(scores))


def _standard_errors(gain: np.ndarray) -> float:
    """By how many standard errors the mean is above 0."""
    return float(gain.mean() * np.sqrt(gain.size) / max(gain.std(), 1e-12))


def _first_labels(scores, found, relevant) -> tuple[np.ndarray, np.ndarray]:
    """Precision and nDCG of each row's first labels."""
    order = np.argsort(np.where(found, -scores, np.inf), axis=1, kind="stable")[:, :_FIRST]
    hits = np.take_along_axis(relevant, order, axis=1)
    discounts = 1 / np.log2(np.arange(2, order.shape[1] + 2))
    best = np.cumsum(discounts)[np.minimum(relevant.sum(axis=1), order.shape[1]) - 1]
    return hits.mean(axis=1), hits @ discounts / best


def _log_softmax(scores, found) -> np.ndarray:
    return log_softmax(np.where(found, scores, -np.inf), axis=1)


def _each_right(log_p, relevant) -> np.ndarray:
    """Mean of -log p over each row's relevant candidates."""
    return -np.where(relevant, log_p, 0.0).sum(axis=1) / relevant.sum(axis=1)


def _one_right(log_p, relevant) -> np.ndarray:
    """-log of the p that all of each row's relevant candidates have together."""
    return -logsumexp(np.where(relevant, log_p, -np.inf), axis=1)


def blend_rows(
    blend: Blend, weight: sp.csr_array, bias: np.ndarray, X, Y, threshold: float
) -> tuple[sp.csr_array, np.ndarray]:
    """Merge margins, centroids and frequencies into one sparse row and one bias a label.

    Parameters
    ----------
    blend : Blend
        What each counts for.
    weight : csr_array of shape (n_labels, n_features), float32
        Weights of the margins.
    bias : ndarray of shape (n_labels,), float32
        Biases of the margins.
    X, Y : csr_array of shape (n_rows, n_features), (n_rows, n_labels)
        Training rows of unit length, and their labels.
    threshold : float
        Merged weights are dropped that count less than a margin's weight of this size, or rather of
        that of `feature_thresholds`.

    Returns
    -------
    weight : csr_array of shape (n_labels, n_features), float32
        Merged weights: their product with a row, plus the bias, is half the log-odds of a label,
        a margin whose sigmoid(2 margin) is a probability.
    bias : ndarray of shape (n_labels,), float32
        Merged biases.
    """
    half = Blend(*(part / 2 for part in blend))
    least = feature_thresholds(X, half.margin * threshold)
    columns = sp.csc_array(Y)
    entries = np.concatenate(([0], np.cumsum(np.diff(X.indptr)[columns.indices])))
    bounds = entries[columns.indptr]
    parts, first = [], 0
    while first < Y.shape[1]:
        last = max(first + 1, int(np.searchsorted(bounds, bounds[first] + _CHUNK)))
        last = min(last, Y.shape[1])
        centroids = label_centroids(X, columns[:, first:last])
        merged = as_csr(half.margin * weight[first:last] + half.centroid * centroids)
        merged.data[np.abs(merged.data) < least[merged.indices]] = 0
        merged.eliminate_zeros()
        parts.append(merged)
        first = last
    counts = np.diff(columns.indptr)
    biases = half.margin * bias + half.frequency * np.log1p(counts) + half.intercept
    return as_csr(sp.vstack(parts, format="csr")), biases.astype(np.float32)
