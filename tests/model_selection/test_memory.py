"""Memory stays in proportion to the positives: 10,000 rows x 50,000 labels would be 4 GB dense."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import GridSearchCV

from skxmc.metrics import TopKScorer, breakdown_by_frequency
from skxmc.model_selection import (
    LabelCoverKFold,
    LabelCoverShuffleSplit,
    cross_validate,
    learning_curve,
    prediction_curve,
)
from skxmc.topk import TopK

N_ROWS, N_LABELS, N_POSITIVES = 10_000, 50_000, 50_000
BOUND = 60e6  # bytes, an eighth of a dense bool matrix of rows x labels
SCORER = TopKScorer(["precision", "ndcg", "psp", "macro_f1"], k=[1, 5])


class Popular(ClassifierMixin, BaseEstimator):
    """Answers every row with the most frequent training labels."""

    def __init__(self, skip=0):
        self.skip = skip

    def fit(self, X, y):
        self.label_counts_ = np.bincount(y.indices, minlength=y.shape[1])
        self.n_samples_fit_ = y.shape[0]
        return self

    def predict_topk(self, X, k=5):
        best = np.argsort(-self.label_counts_, kind="stable")[self.skip : self.skip + k]
        return TopK(np.tile(best, (X.shape[0], 1)), np.zeros((X.shape[0], k), np.float32))


def search(X, Y):
    GridSearchCV(Popular(), {"skip": [0, 3]}, scoring=SCORER, cv=3, refit="psp_at_5").fit(X, Y)


def curve_of_sizes(X, Y):
    learning_curve(Popular(), X, Y, cv=2, scoring="precision_at_5")


def breakdown(X, Y):
    model = Popular().fit(X, Y)
    breakdown_by_frequency(Y, model.predict_topk(X), model.label_counts_)


def curve_of_predictions(X, Y):
    prediction_curve(Popular(), X, Y, param_grid={"skip": [0, 3]}, scoring=SCORER, cv=2)


WORK = {
    "GridSearchCV": search,
    "cross_validate": lambda X, Y: cross_validate(Popular(), X, Y, scoring=SCORER, cv=3),
    "learning_curve": curve_of_sizes,
    "prediction_curve": curve_of_predictions,
    "breakdown_by_frequency": breakdown,
    "LabelCoverKFold": lambda X, Y: list(LabelCoverKFold(3).split(X, Y)),
    "LabelCoverShuffleSplit": lambda X, Y: list(LabelCoverShuffleSplit(1).split(X, Y)),
}


@pytest.mark.parametrize("run", WORK.values(), ids=WORK)
def test_peak_memory(run, csr_container):
    rng = np.random.default_rng(0)
    labels = (N_LABELS * rng.random(N_POSITIVES) ** 3).astype(int)
    places = rng.integers(N_ROWS, size=N_POSITIVES), labels
    Y = csr_container(sp.csr_array((np.ones(N_POSITIVES, np.int8), places), (N_ROWS, N_LABELS)))
    Y.data[:] = 1
    X = csr_container(sp.csr_array(Y[:, :100], dtype=np.float32))
    tracemalloc.start()
    run(X, Y)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < BOUND
