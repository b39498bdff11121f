"""BaseXMCClassifier: everything about X, y, classes and the ways of asking for predictions."""

from abc import ABCMeta, abstractmethod
from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import gen_batches
from sklearn.utils.validation import (
    check_array,
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from skxmc._plain_row import as_plain_row
from skxmc._sparse import as_csr
from skxmc._targets import encode_targets, indicator_csr
from skxmc._validation import check_int
from skxmc.metrics import precision_at_k
from skxmc.topk import TopK

__all__ = ["BaseXMCClassifier"]

# Largest dense answer of decision_function; beyond it predict_topk is the method to call.
MAX_DENSE_BYTES = 2 * 1024**3
# Rows whose labels `predict` and `decision_function` look at together.
_BATCH = 2048


class BaseXMCClassifier(ClassifierMixin, BaseEstimator, metaclass=ABCMeta):
    """Base class of the package's classifiers: the scikit-learn contract, written once.

    A subclass writes `_fit(X, Y)`, which trains on canonical input, `_topk(X, k)`, which returns
    the best k labels, and `_threshold`, the score above which `predict` takes a label.
    """

    @abstractmethod
    def _fit(self, X: Any, Y: sp.csr_array) -> None:
        """Train on validated X (CSR, dense float32 or list of str) and a canonical indicator."""

    @abstractmethod
    def _topk(self, X: Any, k: int) -> TopK:
        """Return the best k <= n_labels_ labels of validated rows."""

    @abstractmethod
    def _threshold(self) -> float:
        """Return the score above which `predict` takes a label."""

    def _accepts_text(self) -> bool:
        """Whether X is a list of strings."""
        return False

    def fit(self, X, y):
        """Fit the model to data.

        Parameters
        ----------
        X : {sparse, dense} array of shape (n_rows, n_features)
            Features, converted to float32; a list of str if the encoder takes text.
        y : {sparse, dense} array of shape (n_rows, n_labels), or array-like of shape (n_rows,)
            0/1 indicator, or one label a row.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If X or y is malformed, or a parameter is out of its range.
        TypeError
            If a parameter is of the wrong type.

        Notes
        -----
        Ctrl-C after the first training step ends the training: the estimator is fitted with what
        it learned so far, and warns. Anywhere else it leaves the estimator as it was.
        """
        before = self.__dict__.copy()
        try:
            self._fit_checked(X, y, before.get("n_features_in_"))
        except BaseException:  # an interrupt, too, must not leave a model half old, half new
            self.__dict__.clear()
            self.__dict__.update(before)
            raise
        return self

    def _fit_checked(self, X, y, n_features_before: int | None) -> None:
        X = self._check_X(X, reset=True)
        targets = encode_targets(y)
        n_rows = _n_rows(X)
        if targets.Y.shape[0] != n_rows:
            raise ValueError(f"X has {n_rows} rows, but y has {targets.Y.shape[0]}.")
        warm = self._can_continue(targets)
        if warm and not isinstance(X, list) and X.shape[1] != n_features_before:
            raise ValueError(
                f"warm_start=True needs the features of the last fit ({n_features_before}), got "
                f"{X.shape[1]} features; set warm_start=False to start anew."
            )
        self._y_form: tuple[str, Any] = ("1d", None) if targets.single_label else _form(y)
        self.classes_ = targets.classes
        self.n_labels_ = targets.Y.shape[1]
        self.n_samples_fit_ = n_rows
        self.label_counts_ = np.bincount(targets.Y.indices, minlength=self.n_labels_)
        self._fit(X, targets.Y) if not warm else self._continue_fit(X, targets.Y)

    def _can_continue(self, targets) -> bool:
        """Whether `fit` goes on from an earlier fit."""
        return False

    def _continue_fit(self, X: Any, Y: sp.csr_array) -> None:
        """Train an already fitted model further; if that fails, it must be as it was."""
        self._fit(X, Y)

    def predict_topk(self, X, k=5) -> TopK:
        """Find the best k labels of each row.

        Parameters
        ----------
        X : {sparse, dense} array of shape (n_rows, n_features)
            Features; a list of str if the encoder takes text.
        k : int, default=5
            Labels a row, at most `n_labels_`.

        Returns
        -------
        topk : TopK
            ``topk.indices`` (n_rows, k) int64, label columns best first, ties by the smaller
            column; ``topk.scores`` (n_rows, k) float32. Where the search reached fewer than k
            labels the rest is -1 and -inf. `classes_[indices]` gives the labels of a 1-d y.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ValueError
            If X is malformed, or k is not between 1 and `n_labels_`.
        """
        k = self._check_k(k)
        return self._topk(self._check_X(X, reset=False), k)

    def predict(self, X):
        """Predict labels, in the container that y had in `fit`.

        Parameters
        ----------
        X : {sparse, dense} array of shape (n_rows, n_features)
            Features; a list of str if the encoder takes text.

        Returns
        -------
        y : {sparse, dense} array of shape (n_rows, n_labels), or ndarray of shape (n_rows,)
            For an indicator, the labels whose score is above the threshold, sparse or dense as y
            was; for 1-d y, the best label.
        """
        if self._is_single_label():
            return self.classes_[np.maximum(self.predict_topk(X, k=1).indices[:, 0], 0)]
        X = self._check_X(X, reset=False)
        lengths, labels = [np.zeros(1, np.int64)], [np.zeros(0, np.int64)]
        for _, top in self._search(X):
            taken = (top.indices >= 0) & (top.scores > self._threshold())
            lengths.append(taken.sum(axis=1))
            labels.append(top.indices[taken])
        indptr, indices = np.cumsum(np.concatenate(lengths)), np.concatenate(labels)
        ones = np.ones(indices.size, dtype=np.int8)
        Y = sp.csr_array((ones, indices, indptr), shape=(_n_rows(X), self.n_labels_))
        Y.sort_indices()
        return self._as_given(Y)

    def decision_function(self, X):
        """Score all labels, as a dense array; meant for small label sets.

        Parameters
        ----------
        X : {sparse, dense} array of shape (n_rows, n_features)
            Features; a list of str if the encoder takes text.

        Returns
        -------
        scores : ndarray of shape (n_rows, n_labels) or (n_rows,), float32
            -inf for labels the search did not reach. For 1-d y with two classes, shape (n_rows,):
            the second class's score less the first's.

        Raises
        ------
        ValueError
            If the answer would take more than 2 GiB; call `predict_topk` then.
        """
        check_is_fitted(self)
        X = self._check_X(X, reset=False)
        n_rows = _n_rows(X)
        needed = n_rows * self.n_labels_ * 4
        if needed > MAX_DENSE_BYTES:
            raise ValueError(
                f"decision_function would return a dense {n_rows} x {self.n_labels_} array of "
                f"{needed / 1024**3:.1f} GiB (the bound is {MAX_DENSE_BYTES / 1024**3:.0f} GiB). "
                "Call predict_topk(X, k) for the best k labels of each row, or pass fewer rows."
            )
        scores = np.full((n_rows, self.n_labels_), -np.inf, dtype=np.float32)
        for part, top in self._search(X):
            rows, places = np.nonzero(top.indices >= 0)
            scores[part][rows, top.indices[rows, places]] = top.scores[rows, places]
        if self._is_single_label() and self.n_labels_ == 2:
            return scores[:, 1] - scores[:, 0]
        return scores

    def score(self, X, y):
        """Measure precision at 1; for 1-d y that is accuracy.

        Parameters
        ----------
        X : {sparse, dense} array of shape (n_rows, n_features)
            Features; a list of str if the encoder takes text.
        y : {sparse, dense} array of shape (n_rows, n_labels), or array-like of shape (n_rows,)
            True labels, in the form `fit` was given.

        Returns
        -------
        precision : float
            Share of the rows whose best label is right.
        """
        top = self.predict_topk(X, k=1)
        if self._is_single_label():
            y = column_or_1d(y)
            check_consistent_length(top.indices, y)
            return float(np.mean(self.classes_[np.maximum(top.indices[:, 0], 0)] == y))
        return float(precision_at_k(indicator_csr(y), top, k=1))

    def _check_k(self, k) -> int:
        # what is right is told at once: the checks below take longer than a row's search
        if type(k) is int and 1 <= k <= getattr(self, "n_labels_", 0):
            return k
        check_is_fitted(self)
        check_int(self, "k", k, minimum=1)
        if k > self.n_labels_:
            raise ValueError(
                f"{type(self).__name__}: k={k} is more than the {self.n_labels_} labels seen in "
                f"fit; ask for at most {self.n_labels_}."
            )
        return int(k)

    def _check_X(self, X, reset: bool):
        if self._accepts_text():
            return _check_texts(X)
        if not reset and not hasattr(self, "feature_names_in_"):
            # scikit-learn's checks take longer than the search for one row does
            if not hasattr(self, "n_features_in_"):
                check_is_fitted(self)
            row = as_plain_row(X, self.n_features_in_)
            if row is not None:
                return row
        X = validate_data(self, X, reset=reset, accept_sparse="csr", dtype=np.float32)
        return _without_zeros(as_csr(X)) if sp.issparse(X) else np.ascontiguousarray(X)

    def _search(self, X) -> Iterator[tuple[slice, TopK]]:
        """All labels that `predict` looks at, of a bounded number of validated rows at a time."""
        k = self._n_predictable()
        for part in gen_batches(_n_rows(X), _BATCH):
            yield part, self._topk(X[part], k)

    def _as_given(self, Y: sp.csr_array):
        """Bring an indicator to the container and dtype that y had in `fit`."""
        kind, dtype = self._y_form
        if kind == "dense":  # of a dtype, perhaps, that scipy does not know
            return Y.toarray().astype(dtype)
        family, layout = kind.split("-")
        return (sp.csr_matrix(Y) if family == "matrix" else Y).asformat(layout).astype(dtype)

    def _is_single_label(self) -> bool:
        check_is_fitted(self)
        return self._y_form[0] == "1d"

    def _n_predictable(self) -> int:
        """Labels of a row that `predict` and `decision_function` look at."""
        return self.n_labels_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_label = True
        return tags


def _n_rows(X) -> int:
    return len(X) if isinstance(X, list) else X.shape[0]


def _form(y) -> tuple[str, np.dtype]:
    """How an indicator was given: its container and dtype."""
    if sp.issparse(y):
        layout = y.format if y.format in ("csr", "csc", "coo") else "csr"
        return f"{'matrix' if isinstance(y, sp.spmatrix) else 'array'}-{layout}", y.dtype
    return "dense", check_array(y, dtype=None).dtype


def _without_zeros(X: sp.csr_array) -> sp.csr_array:
    """Drop stored zeros, in a copy: sums would round otherwise where they stand in between."""
    if np.count_nonzero(X.data) < X.nnz:
        X = X.copy()
        X.eliminate_zeros()
    return X


def _check_texts(X) -> list[str]:
    if isinstance(X, str):
        raise ValueError("X must be a list of strings, one a row, got a single string.")
    texts = list(X)
    wrong = next((text for text in texts if not isinstance(text, str)), None)
    if not texts or wrong is not None:
        got = "no rows" if not texts else f"an entry of type {type(wrong).__name__}"
        raise ValueError(f"X must be a non-empty list of strings for this encoder, got {got}.")
    return texts
