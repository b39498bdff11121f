"""Many metrics from one look at the truth; everything public passes through `measure`."""

from collections.abc import Sequence

import numpy as np

from skxmc._validation import check_option
from skxmc.metrics._hits import Hits, find_hits
from skxmc.metrics._inputs import as_ks, as_weights
from skxmc.metrics._propensity import inverse_propensities
from skxmc.metrics._terms import LABEL_METRICS, PROPENSITY_METRICS, ROW_METRICS, count_labels

METRIC_NAMES = (*ROW_METRICS, *LABEL_METRICS)


def evaluate_topk(
    y_true,
    y_score,
    ks=(1, 3, 5),
    metrics: Sequence[str] | None = None,
    *,
    propensities=None,
    sample_weight=None,
) -> dict[str, float]:
    """Compute many metrics at many k in one pass over the data.

    Parameters
    ----------
    y_true : {sparse, array-like} of shape (n_rows, n_labels)
        0/1 indicator of the true labels.
    y_score : TopK, {ndarray, sparse}
        Predictions in any of the forms that `precision_at_k` takes.
    ks : int or sequence of int
        Numbers of labels to look at, each >= 1.
    metrics : sequence of str, optional
        Of "precision", "recall", "ndcg", "psp", "psndcg", "mrr", "map", "coverage",
        "macro_precision", "macro_recall", "macro_f1". By default precision, recall and ndcg, and
        with `propensities` also psp and psndcg.
    propensities : array-like of shape (n_labels,), optional
        Propensity of each label, in (0, 1]; needed by psp and psndcg.
    sample_weight : array-like of shape (n_rows,), optional
        Weights of the rows, ones by default.

    Returns
    -------
    values : dict of str to float
        ``{"precision_at_1": ..., "precision_at_3": ..., ...}``, in the order asked for.

    Raises
    ------
    ValueError
        If a metric is unknown, `psp` or `psndcg` lack propensities, or the data do not fit.
    TypeError
        If an element of `ks` is no int, or `y_score` has none of the forms.

    References
    ----------
    Each metric's own function names its source.

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.metrics import evaluate_topk
    >>> truth = np.array([[1, 0, 1], [0, 1, 0]])
    >>> evaluate_topk(truth, np.array([[0, 1], [0, 1]]), ks=(1, 2), metrics=["precision"])
    {'precision_at_1': 0.5, 'precision_at_2': 0.5}
    """
    if metrics is None:
        scored = () if propensities is None else PROPENSITY_METRICS
        metrics = ("precision", "recall", "ndcg", *scored)
    values = measure(metrics, y_true, y_score, ks, sample_weight, propensities)
    return {
        result_name(metric, k): float(value)
        for metric, per_k in values.items()
        for k, value in zip(as_ks(ks)[0], per_k, strict=True)
    }


def measure(metrics, y_true, y_score, k, sample_weight=None, propensities=None):
    """Compute each of the named metrics at every k: a dict from name to ndarray (n_ks,)."""
    metrics, (ks, _) = as_metrics(metrics), as_ks(k)
    hits = find_hits(y_true, y_score, ks.max())
    weights = as_weights(sample_weight, hits.truth.shape[0])
    rowwise = [name for name in metrics if name in ROW_METRICS]
    values = {name: row_terms(name, hits, ks, propensities).ratio(weights) for name in rowwise}
    labelwise = [name for name in metrics if name in LABEL_METRICS]
    values |= {name: np.empty(len(ks)) for name in labelwise}
    for place, at in enumerate(ks if labelwise else ()):
        counts = count_labels(hits, at, weights)
        for name in labelwise:
            values[name][place] = LABEL_METRICS[name](counts)
    return {name: values[name] for name in metrics}


def measure_one(metric: str, y_true, y_score, k, sample_weight=None, propensities=None):
    """Compute one metric: a float for an int k, an ndarray (n_ks,) for a sequence."""
    values = measure([metric], y_true, y_score, k, sample_weight, propensities)[metric]
    return float(values[0]) if as_ks(k)[1] else values


def row_terms(metric: str, hits: Hits, ks: np.ndarray, propensities):
    """Return gain and ideal of each row; propensities are looked at only where needed."""
    inverse = np.empty(0)
    if metric in PROPENSITY_METRICS:
        inverse = inverse_propensities(propensities, hits.truth.shape[1])
    return ROW_METRICS[metric](hits, ks, inverse)


def as_metrics(metrics) -> list[str]:
    """Check metric names; a single name counts as a list of one."""
    names = [metrics] if isinstance(metrics, str) else list(metrics)
    if not names:
        raise ValueError(f"metrics must name at least one of {', '.join(METRIC_NAMES)}, got none.")
    for name in names:
        check_option("skxmc.metrics", "metric", name, METRIC_NAMES)
    return names


def result_name(metric: str, k: int) -> str:
    """Return the name under which a value is reported and a scorer is asked for."""
    return f"{metric}_at_{k}"
