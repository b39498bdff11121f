"""The estimators that the contract holds for; a new one is added here and nowhere else."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from skxmc import EliasClassifier, SNMClassifier
from skxmc.calibration import CalibratedTopKClassifier
from skxmc.datasets import make_xmc_classification
from skxmc.elias import RANKED_THRESHOLD
from skxmc.encoders import BagOfWords

# As a user gets them: scikit-learn's checks.
ESTIMATORS = [EliasClassifier(), SNMClassifier(), CalibratedTopKClassifier()]


def quick_elias(**parameters: Any) -> EliasClassifier:
    """Several clusters, both stages, trained in a tenth of a second."""
    defaults = {
        "encoder": BagOfWords(embedding_dim=16, scale=1.0),
        "stage1_epochs": 5,
        "stage2_epochs": 2,
        "max_leaf": 8,
        "alpha": 3.0,
        "beta": 100.0,  # so that some labels pass the threshold this early
        "batch_size": 16,
        "lr_labels": 0.3,
        "dropout": 0.0,
        "random_state": 0,
    }
    return EliasClassifier(**{**defaults, **parameters})


def quick_snm(**parameters: Any) -> SNMClassifier:
    """Negatives mined from pools that are no whole label set."""
    defaults = {
        "encoder": BagOfWords(embedding_dim=16, scale=1.0),
        "max_epochs": 6,
        "pool_size": 32,
        "n_negatives": 8,
        "batch_size": 16,
        "lr_labels": 0.3,
        "dropout": 0.0,
        "random_state": 0,
    }
    return SNMClassifier(**{**defaults, **parameters})


class Kind(NamedTuple):
    """What the contract's tests need to know of an estimator."""

    make: Callable[..., Any]
    """Makes an instance that trains fast, from parameters of the estimator."""
    threshold: float
    """Score above which `predict` takes a label."""
    predict_only: dict[str, Any]
    """Parameters that matter in prediction, with values that search less."""
    exhaustive: dict[str, Any]
    """Parameters under which labels with the same rows are treated the same."""
    batch_rtol: float
    """How far a row's scores may depend on the other rows: 0, or what BLAS does."""


KINDS = {
    "EliasClassifier": Kind(
        quick_elias,
        threshold=RANKED_THRESHOLD,
        predict_only={"beam_width": 1, "shortlist_size": 3},
        exhaustive={"n_clusters": 1, "stage2_epochs": 0, "beta": 1e6},
        batch_rtol=0.0,
    ),
    "SNMClassifier": Kind(
        quick_snm,
        threshold=0.0,
        predict_only={},
        exhaustive={"pool_size": 1000, "n_negatives": 1000},
        batch_rtol=1e-5,
    ),
}


def data(n_samples=200, n_features=120, n_labels=60, seed=0):
    """Sparse features and an int8 CSR indicator, too noisy to be learned by heart."""
    return make_xmc_classification(
        n_samples=n_samples,
        n_features=n_features,
        n_labels=n_labels,
        n_labels_per_row=2.0,
        noise=0.5,
        random_state=seed,
    )


def single_labels(Y, names=None) -> np.ndarray:
    """One label a row: the first of those it has."""
    first = np.asarray(Y.toarray().argmax(axis=1))
    return first if names is None else np.asarray(names)[first]


def assert_same_topk(one, other) -> None:
    np.testing.assert_array_equal(one.indices, other.indices)
    np.testing.assert_array_equal(one.scores, other.scores)
