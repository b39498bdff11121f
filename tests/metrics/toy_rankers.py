"""Tiny estimators for the scorers' tests, in a module that worker processes can import."""

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from skxmc._sparse import as_csr, normalize_rows
from skxmc.topk import TopK, topk_from_csr


class CentroidClassifier(ClassifierMixin, BaseEstimator):
    """Scores each label by the inner product with the mean of its rows, to a power of its count."""

    def __init__(self, power=0.0):
        self.power = power

    def fit(self, X, y, sample_weight=None):
        X, Y = as_csr(X), as_csr(y)
        self.label_counts_ = np.asarray(Y.sum(axis=0)).ravel()
        self.n_samples_fit_ = X.shape[0]
        self.classes_ = np.arange(Y.shape[1])
        scale = np.maximum(self.label_counts_, 1) ** self.power
        self.centroids_ = as_csr(normalize_rows(as_csr(Y.T @ X)).multiply(scale[:, None]))
        self.asked_ = []
        return self

    def predict_topk(self, X, k=5) -> TopK:
        check_is_fitted(self)
        self.asked_.append((X.shape[0], k))
        assert k <= len(self.classes_)
        return topk_from_csr(as_csr(X) @ self.centroids_.T, k)

    def predict(self, X):
        raise AssertionError("a scorer has no need of predict")


class DenseClassifier(ClassifierMixin, BaseEstimator):
    """The same scores, by decision_function alone."""

    def fit(self, X, y):
        self.model_ = CentroidClassifier().fit(X, y)
        return self

    def decision_function(self, X):
        return (as_csr(X) @ self.model_.centroids_.T).toarray()
