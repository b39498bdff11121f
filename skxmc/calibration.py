"""CalibratedTopKClassifier: probabilities, a threshold and a taste for the tail, on any top-k."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.utils import check_random_state, gen_batches, indexable
from sklearn.utils.validation import check_is_fitted

from skxmc._sparse import as_csr
from skxmc._validation import blaming, check_bool, check_int, check_number, check_option
from skxmc.base import BaseXMCClassifier
from skxmc.elias import EliasClassifier
from skxmc.heads import sort_candidates
from skxmc.metrics import propensities_from_counts
from skxmc.metrics._hits import look_up
from skxmc.metrics._propensity import inverse_propensities
from skxmc.metrics._ranker import check_ranks, rank_labels, unwrap
from skxmc.model_selection import LabelCoverShuffleSplit
from skxmc.model_selection._prediction import take_rows
from skxmc.topk import TopK

__all__ = ["CalibratedTopKClassifier"]

# Lowest probability: room below the others of a row that the calibrator makes as improbable.
_FLOOR = 1e-9
_ROWS_AT_ONCE = 2048


class CalibratedTopKClassifier(BaseXMCClassifier):
    """Turn the scores of a top-k classifier into probabilities that a label is true.

    Some rows are held out, the classifier is fitted on the others, and a rising function from
    scores to probabilities is fitted on the held-out rows' best labels. The same rows choose the
    threshold with which `predict` has the best micro-averaged F1.

    Parameters
    ----------
    estimator : estimator or None, default=None
        Any estimator with `predict_topk`, or a pipeline or search that ends in one; None means
        `EliasClassifier()` with this `random_state`. A `sklearn.frozen.FrozenEstimator` is
        calibrated as it is, on **all** rows given to `fit`: give rows it was not trained on.
    method : {"isotonic", "sigmoid"}, default="isotonic"
        Any rising function (isotonic regression), or a logistic one of the score (Platt); where
        all held-out scores lie in [0, 1], of its log-odds. "sigmoid" is for few held-out rows.
    validation_fraction : float, default=0.1
        Share of the rows held out, in (0, 1). A row that holds the only example of a label is not.
    refit : bool, default=False
        Afterwards fit the estimator once more, on all rows, at the price of a second training.
    n_candidates : int, default=100
        Best labels of a held-out row to calibrate on; `predict` and `decision_function` look at as
        many.
    threshold : float or "micro_f1", default="micro_f1"
        Score above which `predict` takes a label.
    tail : float, default=0.0
        Scores are divided by the label's propensity to this power, and the candidates sorted by
        them anew. More than 0 brings rare labels forward: it raises PSP@k and costs P@k.
    propensities : array-like of shape (n_labels,) or dict, optional
        For `tail`. By default estimated from the labels with a=0.55 and b=1.5; a dict such as
        ``{"a": 0.6, "b": 2.6}`` changes the constants.
    random_state : int, RandomState or None, default=None
        Which rows are held out.

    Attributes
    ----------
    estimator_ : estimator
        The fitted estimator.
    calibrator_ : object
        Its method `predict` turns scores into probabilities.
    threshold_ : float
        Score above which `predict` takes a label.
    label_weights_ : ndarray of shape (n_labels,) or None
        propensity^-tail of each label; None with ``tail=0``.
    n_samples_calibration_ : int
        Rows calibrated on.
    classes_ : ndarray of shape (n_labels,)
        Label values of a 1-d y, column numbers of an indicator.
    n_labels_ : int
        Number of labels.
    n_features_in_ : int
        Number of features, if `estimator_` says so.
    feature_names_in_ : ndarray of shape (n_features,)
        Column names of X, if `estimator_` has any.
    label_counts_ : ndarray of shape (n_labels,), int64
        Rows of each label; those of the frozen estimator's training if there is one.
    n_samples_fit_ : int
        Rows, counted likewise.

    See Also
    --------
    skxmc.metrics.expected_calibration_error : How well it worked.
    skxmc.inspection.ReliabilityDisplay : Shows that.

    Notes
    -----
    The order of labels stays that of the estimator: where the calibrator gives two labels of a row
    the same probability, the one with the lower score is lowered by the least float32 step.

    With ``tail=1`` scores are P(true) / propensity, a label's expected share in PSP@k, and to rank
    by them is optimal for PSP@k if the probabilities are right. Scores with ``tail > 0`` may exceed
    1; `threshold` refers to them as they are.

    The rows that can be held out have no label of their own. Where many labels are rare they are
    therefore a little easier than new rows, and the probabilities a little too high. A frozen
    estimator calibrated on a random sample is free of that.

    References
    ----------
    B. Zadrozny, C. Elkan, "Transforming classifier scores into accurate multiclass probability
    estimates", KDD 2002 (isotonic). J. Platt, "Probabilistic outputs for support vector machines",
    1999 (sigmoid). H. Jain, Y. Prabhu, M. Varma, "Extreme multi-label loss functions for
    recommendation, tagging, ranking & other missing label applications", KDD 2016 (propensities).

    Examples
    --------
    >>> from skxmc import EliasClassifier
    >>> from skxmc.calibration import CalibratedTopKClassifier
    >>> from skxmc.datasets import make_xmc_classification
    >>> X, Y = make_xmc_classification(n_samples=500, n_labels=50, random_state=0)
    >>> clf = CalibratedTopKClassifier(EliasClassifier(random_state=0), random_state=0)
    >>> top = clf.fit(X, Y).predict_topk(X[:2], k=3)
    >>> bool((0 < top.scores).all() and (top.scores <= 1).all())
    True
    """

    def __init__(
        self,
        estimator=None,
        *,
        method="isotonic",
        validation_fraction=0.1,
        refit=False,
        n_candidates=100,
        threshold="micro_f1",
        tail=0.0,
        propensities=None,
        random_state=None,
    ):
        self.estimator = estimator
        self.method = method
        self.validation_fraction = validation_fraction
        self.refit = refit
        self.n_candidates = n_candidates
        self.threshold = threshold
        self.tail = tail
        self.propensities = propensities
        self.random_state = random_state

    def _fit(self, X: Any, Y: sp.csr_array) -> None:
        self._check_params()
        recipe = self.estimator
        if recipe is None:
            recipe = EliasClassifier(random_state=self.random_state)
        check_ranks(recipe)
        if isinstance(recipe, FrozenEstimator):
            self.estimator_ = recipe
            self._calibrate(X, self._align_with_frozen(X, Y))
        else:
            train, held = self._split(Y)
            self.estimator_ = self._fit_estimator(recipe, X, Y, train)
            self._calibrate(take_rows(X, held), Y[held])
            if self.refit:
                self.estimator_ = self._fit_estimator(recipe, X, Y, np.arange(Y.shape[0]))
        for name in ("n_features_in_", "feature_names_in_"):
            if hasattr(self, name):  # of an earlier fit
                delattr(self, name)
            if hasattr(self.estimator_, name):
                setattr(self, name, getattr(self.estimator_, name))

    def _split(self, Y: sp.csr_array) -> tuple[np.ndarray, np.ndarray]:
        """Rows to fit and to calibrate on."""
        if Y.shape[0] < 2:
            raise ValueError(
                f"{type(self).__name__} holds rows out and needs at least 2, got "
                f"{Y.shape[0]} sample. Calibrate a fitted FrozenEstimator instead."
            )
        with blaming(self, "random_state", self.random_state):
            rng = check_random_state(self.random_state)
        splitter = LabelCoverShuffleSplit(1, test_size=self.validation_fraction, random_state=rng)
        return next(splitter.split(Y, Y))

    def _fit_estimator(self, recipe: Any, X: Any, Y: sp.csr_array, rows: np.ndarray) -> Any:
        """Fit a clone on some rows, with y in the form it was given."""
        y = self.classes_[Y[rows].indices] if self._is_single_label() else self._as_given(Y[rows])
        return clone(recipe).fit(take_rows(X, rows), y)

    def _align_with_frozen(self, X: Any, Y: sp.csr_array) -> sp.csr_array:
        """Take labels and counts from the frozen estimator; return Y in its columns."""
        model, _ = unwrap(self.estimator_, take_rows(X, np.arange(1)))
        check_is_fitted(model)
        seen, self.classes_ = self.classes_, model.classes_
        if self._is_single_label():
            Y = _in_columns_of(self.classes_, seen, Y)
        elif seen.size != self.classes_.size:
            raise ValueError(
                f"y has {seen.size} labels, but the frozen estimator was fitted with "
                f"{self.classes_.size}; give y the same columns."
            )
        self.n_labels_ = self.classes_.size
        own_counts = np.bincount(Y.indices, minlength=self.n_labels_)
        self.label_counts_ = getattr(model, "label_counts_", own_counts)
        self.n_samples_fit_ = getattr(model, "n_samples_fit_", Y.shape[0])
        return Y

    def _calibrate(self, X: Any, Y: sp.csr_array) -> None:
        """Fit calibrator, label weights and threshold on rows the estimator has not seen."""
        found = rank_labels(self.estimator_, X, self._n_predictable())
        true, real = look_up(Y, found.indices), found.indices >= 0
        self.n_samples_calibration_ = Y.shape[0]
        if self.method == "isotonic":
            self.calibrator_ = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
        else:
            self.calibrator_ = _Sigmoid()
        self.calibrator_.fit(found.scores[real].astype(np.float64), true[real].astype(np.float64))
        self.label_weights_ = self._weigh_labels()
        if self.threshold == "micro_f1":
            scores = self._weighted(found, self._probabilities(found))
            self.threshold_ = _best_threshold(scores[real], true[real], Y.nnz)
        else:
            self.threshold_ = float(self.threshold)

    def _weigh_labels(self) -> np.ndarray | None:
        if self.tail == 0:
            return None
        given = self.propensities
        if given is None or isinstance(given, Mapping):
            counts, n_rows = self.label_counts_, self.n_samples_fit_
            given = propensities_from_counts(counts, int(n_rows), **(given or {}))
        return inverse_propensities(given, self.n_labels_) ** self.tail

    def _probabilities(self, found: TopK) -> np.ndarray:
        """Calibrated scores, float64, 0 where there is no label."""
        real, out = found.indices >= 0, np.zeros(found.indices.shape)
        out[real] = np.maximum(self.calibrator_.predict(found.scores[real].astype(float)), _FLOOR)
        return out

    def _weighted(self, found: TopK, scores: np.ndarray) -> np.ndarray:
        return (
            scores if self.label_weights_ is None else scores * self.label_weights_[found.indices]
        )

    def _topk(self, X: Any, k: int) -> TopK:
        if self.label_weights_ is None:
            found = rank_labels(self.estimator_, X, k)
            return TopK(found.indices, _keep_order(found, self._probabilities(found)))
        found = rank_labels(self.estimator_, X, max(k, self._n_predictable()))
        scores = _keep_order(found, self._probabilities(found))
        top = sort_candidates(found.indices, self._weighted(found, scores))
        return TopK(top.indices[:, :k], top.scores[:, :k])

    def _threshold(self) -> float:
        return self.threshold_

    def _n_predictable(self) -> int:
        return min(self.n_labels_, self.n_candidates)

    def _check_X(self, X, reset: bool):
        """Leave X to the estimator inside, whatever it takes; only see to it that it has rows."""
        if not reset:
            check_is_fitted(self)
        if isinstance(X, str) or X is None:
            raise ValueError(f"X must be array-like or a list of strings, one a row, got {X!r}.")
        (X,) = indexable(X)
        return list(X) if isinstance(X, tuple) else X

    def _search(self, X) -> Iterator[tuple[slice, TopK]]:
        k = self._n_predictable()
        for part in gen_batches(len(X) if isinstance(X, list) else X.shape[0], _ROWS_AT_ONCE):
            yield part, self._topk(X.iloc[part] if hasattr(X, "iloc") else X[part], k)

    def _check_params(self):
        check_option(self, "method", self.method, ("isotonic", "sigmoid"))
        check_number(self, "validation_fraction", self.validation_fraction, above=0, below=1)
        check_bool(self, "refit", self.refit)
        check_int(self, "n_candidates", self.n_candidates, minimum=1)
        if not isinstance(self.threshold, str):
            check_number(self, "threshold", self.threshold)
        elif self.threshold != "micro_f1":
            raise ValueError(
                f"{type(self).__name__}: threshold must be a number or 'micro_f1', got "
                f"{self.threshold!r}."
            )
        check_number(self, "tail", self.tail, minimum=0)


def _in_columns_of(classes: np.ndarray, seen: np.ndarray, Y: sp.csr_array) -> sp.csr_array:
    """Move one-hot columns of the labels `seen` to those of `classes`; unknown labels drop out."""
    column_of = {label: column for column, label in enumerate(classes.tolist())}
    columns = np.array([column_of.get(label, -1) for label in seen.tolist()])[Y.indices]
    known = columns >= 0
    indptr = np.concatenate(([0], np.cumsum(known)))
    data = np.ones(indptr[-1])
    return as_csr(sp.csr_array((data, columns[known], indptr), shape=(Y.shape[0], classes.size)))


class _Sigmoid:
    """A logistic function of the score, or of its log-odds, with Platt's smoothed targets."""

    def fit(self, scores: np.ndarray, true: np.ndarray) -> "_Sigmoid":
        """Fit to scores and 0/1 truth, both of shape (n_pairs,)."""
        self.log_odds_ = bool(scores.min() >= 0 and scores.max() <= 1)
        n_true = true.sum()
        targets = np.where(true > 0, (n_true + 1) / (n_true + 2), 1 / (true.size - n_true + 2))
        x = self._feature(scores)
        self.center_, self.scale_ = x.mean(), x.std() or 1.0
        x = (x - self.center_) / self.scale_
        # a soft target is both classes at once, weighted
        both, weights = np.repeat([1, 0], x.size), np.concatenate((targets, 1 - targets))
        model = LogisticRegression(C=np.inf).fit(np.tile(x, 2)[:, None], both, weights)
        self.slope_, self.offset_ = float(model.coef_[0, 0]), float(model.intercept_[0])
        if self.slope_ < 0:  # scores that mislead are not turned round
            self.slope_, mean = 0.0, targets.mean()
            self.offset_ = float(np.log(mean) - np.log1p(-mean))
        return self

    def predict(self, scores: np.ndarray) -> np.ndarray:
        """Turn scores of shape (n_pairs,) into probabilities."""
        x = (self._feature(scores) - self.center_) / self.scale_
        return np.exp(-np.logaddexp(0.0, -(self.slope_ * x + self.offset_)))

    def _feature(self, scores: np.ndarray) -> np.ndarray:
        if not self.log_odds_:
            return scores
        p = np.clip(scores, 1e-12, 1 - 1e-7)
        return np.log(p) - np.log1p(-p)


def _keep_order(found: TopK, probabilities: np.ndarray) -> np.ndarray:
    """Round to float32, made as strictly falling along each row as the scores they stand for."""
    out = probabilities.astype(np.float32)
    for j in range(1, out.shape[1]):
        same = found.scores[:, j] == found.scores[:, j - 1]
        below = np.nextafter(out[:, j - 1], np.float32(0))
        out[:, j] = np.where(same, out[:, j - 1], np.minimum(out[:, j], below))
    out[found.indices < 0] = -np.inf
    return out


def _best_threshold(scores: np.ndarray, true: np.ndarray, n_true: int) -> float:
    """Find the threshold whose labels have the best micro-F1, `n_true` true ones in all."""
    order = np.argsort(-scores)
    scores, true = scores[order], true[order]
    after = np.append(scores[1:], 0.0)
    f1 = 2 * np.cumsum(true) / (np.arange(1, scores.size + 1) + n_true)
    f1[scores == after] = 0.0  # no threshold lies between equal scores
    best = int(np.argmax(f1))
    if f1[best] == 0:  # nothing is worth predicting
        return float(scores[0])
    return float((scores[best] + after[best]) / 2)
