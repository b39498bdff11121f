"""How sure is a metric? Intervals by drawing the rows again."""

from typing import NamedTuple

import numpy as np
from sklearn.utils import check_random_state

from skxmc._validation import check_int, check_number, check_option
from skxmc.metrics._evaluate import row_terms
from skxmc.metrics._hits import find_hits
from skxmc.metrics._inputs import as_weights
from skxmc.metrics._terms import LABEL_METRICS, ROW_METRICS

_CELLS = 1 << 22  # resampled row weights held at a time


class BootstrapInterval(NamedTuple):
    """A metric with its confidence interval.

    Attributes
    ----------
    value : float
        The metric on the data as given.
    low, high : float
        Ends of the interval.

    Examples
    --------
    >>> from skxmc.metrics import BootstrapInterval
    >>> BootstrapInterval(0.5, 0.4, 0.6).high
    0.6
    """

    value: float
    low: float
    high: float


def bootstrap_interval(
    y_true,
    y_score,
    metric: str = "precision",
    k: int = 5,
    *,
    propensities=None,
    sample_weight=None,
    confidence: float = 0.95,
    n_resamples: int = 1000,
    random_state=None,
) -> BootstrapInterval:
    """Estimate a confidence interval of a metric by the percentile bootstrap over rows.

    Each resample draws n_rows rows with replacement; the interval holds the middle `confidence`
    of the values. Rows are looked up once, so a resample costs one weighted sum.

    Parameters
    ----------
    y_true : {sparse, array-like} of shape (n_rows, n_labels)
        0/1 indicator of the true labels.
    y_score : TopK, {ndarray, sparse}
        Predictions in any of the forms that `precision_at_k` takes.
    metric : str
        "precision", "recall", "ndcg", "mrr", "map", "psp" or "psndcg". Coverage and the macro
        metrics are refused: a resample leaves out a third of the rows and with them labels, so
        that its values lie below the true one and the interval would mislead.
    k : int
        Number of labels to look at, >= 1.
    propensities : array-like of shape (n_labels,), optional
        Propensity of each label, for psp and psndcg.
    sample_weight : array-like of shape (n_rows,), optional
        Weights of the rows in the metric; the draw itself is uniform.
    confidence : float
        In (0, 1).
    n_resamples : int
        Number of resamples, >= 1.
    random_state : int, RandomState or None
        Seed of the draws.

    Returns
    -------
    interval : BootstrapInterval
        The tuple (value, low, high).

    Raises
    ------
    ValueError
        If an argument is out of range or the data do not fit.
    TypeError
        If a number has the wrong type.

    References
    ----------
    Efron, Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import bootstrap_interval
    >>> truth = np.eye(3, dtype=int)[[0, 1, 2, 0]]
    >>> bootstrap_interval(truth, np.array([[0], [1], [0], [0]]), k=1, random_state=0)
    BootstrapInterval(value=0.75, low=0.25, high=1.0)
    """
    owner = "bootstrap_interval"
    if metric in LABEL_METRICS:
        raise ValueError(
            f"{owner}: metric must be an average over rows ({', '.join(ROW_METRICS)}), got "
            f"{metric!r}, whose resamples would be biased downwards."
        )
    check_option(owner, "metric", metric, ROW_METRICS)
    check_int(owner, "k", k, minimum=1)
    check_number(owner, "confidence", confidence, above=0, below=1)
    check_int(owner, "n_resamples", n_resamples, minimum=1)
    hits = find_hits(y_true, y_score, k)
    weights = as_weights(sample_weight, hits.truth.shape[0])
    terms = row_terms(metric, hits, np.array([k]), propensities)
    draws = _draw_weights(weights, n_resamples, check_random_state(random_state))
    values = np.concatenate([terms.ratio(drawn)[:, 0] for drawn in draws])
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return BootstrapInterval(float(terms.ratio(weights)[0]), float(low), float(high))


def _draw_weights(weights: np.ndarray, n_resamples: int, rng: np.random.RandomState):
    """Yield row weights of the resamples, shape (some, n_rows), a bounded number at a time."""
    n_rows = len(weights)
    step = max(1, _CELLS // n_rows)
    for start in range(0, n_resamples, step):
        size = min(step, n_resamples - start)
        drawn = (
            np.bincount(rng.randint(n_rows, size=n_rows), minlength=n_rows) for _ in range(size)
        )
        yield np.stack(list(drawn)) * weights
