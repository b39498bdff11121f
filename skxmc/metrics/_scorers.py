"""Scorers for scikit-learn's `scoring=`: one top-k pass for any number of metrics."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from sklearn.utils.metadata_routing import MetadataRequest

from skxmc.metrics._evaluate import METRIC_NAMES, as_metrics, evaluate_topk, result_name
from skxmc.metrics._inputs import as_ks, as_truth
from skxmc.metrics._propensity import propensities_from_counts
from skxmc.metrics._ranker import unwrap
from skxmc.metrics._terms import PROPENSITY_METRICS

_DENSE_CELLS = 1 << 25  # 256 MiB of float64 scores from an estimator without predict_topk
_LISTED_KS = (1, 3, 5)


class TopKScorer:
    """Score an estimator by metrics at k, for `scoring=` in searches and cross-validation.

    Searches, pipelines and frozen estimators are unwrapped, and the estimator inside is asked
    once, by ``predict_topk(X, k)`` with the largest k needed (at most the number of labels). An
    estimator without that method is asked by `decision_function`, as long as the dense scores
    have at most 2**25 cells.

    Parameters
    ----------
    metric : str or sequence of str, default="precision"
        Metric names as in `evaluate_topk`.
    k : int or sequence of int, default=5
        Numbers of labels to look at. With a sequence for `metric` or `k` the scorer returns a
        dict, which scikit-learn treats as multi-metric scoring (name one key as ``refit=``).
    propensities : array-like of shape (n_labels,) or dict, optional
        For "psp" and "psndcg". By default they are estimated from the training fold, through the
        estimator's `label_counts_` and `n_samples_fit_`, with a=0.55 and b=1.5; a dict such as
        ``{"a": 0.6, "b": 2.6}`` changes the constants. An array is used as it is.

    Raises
    ------
    ValueError
        If a metric is unknown or `k` is out of range.
    TypeError
        If `k` is no int.

    References
    ----------
    The scorer protocol ``scorer(estimator, X, y)`` is scikit-learn's ("Callable scorers" in its
    user guide).

    Examples
    --------
    >>> from skxmc.metrics import TopKScorer
    >>> TopKScorer("precision", k=5)
    TopKScorer('precision', k=5)
    >>> TopKScorer(["precision", "ndcg"], k=[1, 5]).names
    ['precision_at_1', 'precision_at_5', 'ndcg_at_1', 'ndcg_at_5']
    """

    def __init__(
        self,
        metric: str | Sequence[str] = "precision",
        k: int | Sequence[int] = 5,
        *,
        propensities: Any = None,
    ):
        self._metrics, (self._ks, one_k) = as_metrics(metric), as_ks(k)
        self._single = one_k and isinstance(metric, str)
        self._weight_request: bool | str | None = None
        self.metric = metric
        self.k = k
        self.propensities = propensities

    def __call__(self, estimator, X, y, sample_weight=None) -> float | dict[str, float]:
        """Score a fitted estimator on X and the 0/1 indicator y.

        Parameters
        ----------
        estimator : estimator, Pipeline or search
            Fitted; see the class for how it is asked.
        X : {array-like, sparse, list of str} of n_rows rows
            What the estimator takes.
        y : {sparse, array-like} of shape (n_rows, n_labels)
            0/1 indicator of the true labels.
        sample_weight : array-like of shape (n_rows,), optional
            Weights of the rows.

        Returns
        -------
        score : float or dict of str to float
            A dict with the keys `names` if `metric` or `k` is a sequence. Higher is better.

        Raises
        ------
        TypeError
            If the estimator has no way to rank labels.
        ValueError
            If y is not a 0/1 indicator, or propensities are needed and not to be had.
        """
        truth = as_truth(y)
        model, X = unwrap(estimator, X)
        values = evaluate_topk(
            truth,
            _rank(model, X, truth.shape, min(int(self._ks.max()), truth.shape[1])),
            self._ks,
            self._metrics,
            propensities=self._find_propensities(model),
            sample_weight=sample_weight,
        )
        return values[self.names[0]] if self._single else values

    @property
    def names(self) -> list[str]:
        """Names of the values, in order: the keys of the dict."""
        return [result_name(metric, k) for metric in self._metrics for k in self._ks]

    def set_score_request(self, *, sample_weight: bool | str | None) -> "TopKScorer":
        """Say whether `sample_weight` is wanted when metadata routing is on.

        Parameters
        ----------
        sample_weight : bool, str or None
            True to ask for it, False to ignore it, None to raise if it is passed, or the name
            under which it is passed.

        Returns
        -------
        scorer : TopKScorer
            The scorer itself.
        """
        self._weight_request = sample_weight
        return self

    def get_metadata_routing(self) -> MetadataRequest:
        """Return what the scorer asks for, for scikit-learn's metadata routing.

        Returns
        -------
        routing : MetadataRequest
            The request of `sample_weight` for `score`.
        """
        request = MetadataRequest(owner=self)
        request.score.add_request(param="sample_weight", alias=self._weight_request)
        return request

    def __repr__(self) -> str:
        given = self.propensities
        if given is not None and not isinstance(given, Mapping):
            given = f"<array of shape {np.shape(given)}>"
        extra = "" if given is None else f", propensities={given}"
        return f"TopKScorer({self.metric!r}, k={self.k!r}{extra})"

    def _find_propensities(self, model):
        """Return the given propensities, or those of the data that `model` was trained on."""
        if not set(self._metrics) & set(PROPENSITY_METRICS):
            return None
        if self.propensities is not None and not isinstance(self.propensities, Mapping):
            return self.propensities
        try:
            counts, n_rows = model.label_counts_, model.n_samples_fit_
        except AttributeError as error:
            raise ValueError(
                f"{self!r} takes propensities from the training fold, but "
                f"{type(model).__name__} lacks label_counts_ or n_samples_fit_. Pass "
                "propensities=skxmc.metrics.propensities(Y_train) to the scorer."
            ) from error
        return propensities_from_counts(counts, int(n_rows), **(self.propensities or {}))


def get_scorer(name: str) -> TopKScorer:
    """Return the scorer of a name such as "precision_at_5".

    Parameters
    ----------
    name : str
        ``"<metric>_at_<k>"``, with any metric of `evaluate_topk` and any k >= 1.

    Returns
    -------
    scorer : TopKScorer
        Returns one float; propensities, where needed, come from the training fold.

    Raises
    ------
    ValueError
        If the name has not that form or the metric is unknown.

    References
    ----------
    The counterpart of `sklearn.metrics.get_scorer`, whose registry is closed to others.

    Examples
    --------
    >>> from skxmc.metrics import get_scorer
    >>> get_scorer("ndcg_at_3")
    TopKScorer('ndcg', k=3)
    """
    match = re.fullmatch(r"(\w+)_at_([1-9][0-9]*)", str(name))
    if match is None or match[1] not in METRIC_NAMES:
        raise ValueError(
            f"get_scorer: name must be '<metric>_at_<k>' such as 'precision_at_5', got {name!r}. "
            f"Metrics are {', '.join(METRIC_NAMES)}."
        )
    return TopKScorer(match[1], int(match[2]))


def get_scorer_names() -> list[str]:
    """List scorer names for every metric at k = 1, 3 and 5; `get_scorer` takes any other k, too.

    Returns
    -------
    names : list of str
        Sorted by metric in the order of `evaluate_topk`.

    References
    ----------
    The counterpart of `sklearn.metrics.get_scorer_names`.

    Examples
    --------
    >>> from skxmc.metrics import get_scorer_names
    >>> get_scorer_names()[:3]
    ['precision_at_1', 'precision_at_3', 'precision_at_5']
    """
    return [result_name(metric, k) for metric in METRIC_NAMES for k in _LISTED_KS]


def _rank(model, X, shape: tuple[int, int], k: int):
    """Ask the model for its best k labels, or for all scores where these are few."""
    name = type(model).__name__
    if hasattr(model, "predict_topk"):
        return model.predict_topk(X, k=k)
    if not hasattr(model, "decision_function"):
        raise TypeError(
            f"TopKScorer needs an estimator with predict_topk or decision_function, got {name}. "
            "A search must have been fitted with refit on."
        )
    if shape[0] * shape[1] > _DENSE_CELLS:
        raise ValueError(
            f"{name} has no predict_topk, and its dense scores would take "
            f"{shape[0] * shape[1] * 8 / 2**30:.1f} GiB, more than TopKScorer asks for "
            f"({_DENSE_CELLS * 8 / 2**30:.2f} GiB). Score fewer rows, or use an estimator with "
            "predict_topk."
        )
    return np.asarray(model.decision_function(X), dtype=np.float64)
