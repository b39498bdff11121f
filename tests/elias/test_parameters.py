"""Every constructor parameter: what is refused, with class, name and value in the message."""

import inspect
import re

import numpy as np
import pytest
from sklearn.exceptions import NotFittedError

from skxmc import EliasClassifier
from skxmc.datasets import make_xmc_classification
from skxmc.encoders import BagOfWords
from skxmc.heads import SparseRanker

X, Y = make_xmc_classification(n_samples=40, n_features=30, n_labels=8, random_state=0)

POSITIVE_NUMBER = [0, -0.1, "x", None, np.nan, np.inf, True]
POSITIVE_INT = [0, -1, 2.5, "x", True]
FLAG = ["yes", None, 1]
BAD = {
    "encoder": ["bow", 3, BagOfWords],
    "ranker": ["none", 3, SparseRanker, True],
    "rerank_size": [*POSITIVE_INT, None],
    "n_clusters": [*POSITIVE_INT, None, 3, 6],
    "max_leaf": [*POSITIVE_INT, None, "auto"],
    "alpha": POSITIVE_NUMBER,
    "beta": POSITIVE_NUMBER,
    "kappa": [*POSITIVE_INT, None],
    "path_power": POSITIVE_NUMBER,
    "beam_width": [*POSITIVE_INT, None],
    "shortlist_size": [*POSITIVE_INT, None],
    "train_shortlist_size": [*POSITIVE_INT, None],
    "pool_size": [*POSITIVE_INT, None],
    "n_negatives": [*POSITIVE_INT, None],
    "lambda_shortlist": [-0.1, "x", None, np.nan],
    "dropout": [-0.1, 1, 1.5, "x", None],
    "stage1_epochs": [-1, 1.5, "x", None],
    "stage2_epochs": [-1, 1.5, "x", None],
    "recluster": FLAG,
    "label_init": ["svd", "centroid", None, True, 0],
    "batch_size": [*POSITIVE_INT, None],
    "lr_labels": POSITIVE_NUMBER,
    "lr_clusters": POSITIVE_NUMBER,
    "lr_edges": POSITIVE_NUMBER,
    "lr_encoder": POSITIVE_NUMBER,
    "stage2_factor": POSITIVE_NUMBER,
    "weight_decay": [-0.1, "x", None, np.nan],
    "warmup": [-0.1, 1.1, "x", None],
    "max_grad_norm": [0, -1, "x", np.inf],
    "early_stopping": FLAG,
    "validation_fraction": [0, 1, -0.5, "x", None],
    "validation_metric": ["accuracy", "ndcg_at_0", "ndcg", None, 5],
    "patience": [*POSITIVE_INT, None],
    "precision": ["float16", "auto", None],
    "device": ["gpu", "cuda:99", None, 1.5],
    "memory_limit": [0, -1, "x", np.nan, True],
    "checkpoint_dir": [3, True, ["a"]],
    "warm_start": FLAG,
    "n_jobs": [0, 1.5, "all", True],
    "random_state": [-1, 1.5, "x"],
    "verbose": [-1, 0.5, "x", None],
}


def test_every_parameter_is_here():
    assert BAD.keys() == inspect.signature(EliasClassifier).parameters.keys()


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_refused(name, value):
    model = EliasClassifier(**{name: value})
    with pytest.raises((ValueError, TypeError), match=r"^EliasClassifier: ") as info:
        model.fit(X, Y)
    message = str(info.value)
    assert re.search(rf"\b{name}\b", message)
    assert repr(value) in message
    with pytest.raises(NotFittedError):
        model.predict(X)


GOOD = {
    "n_clusters": [1, np.int64(2), 64],
    "beta": [0.5],
    "kappa": [1, 100],
    "dropout": [0, 0.9],
    "lambda_shortlist": [0],
    "weight_decay": [0],
    "warmup": [0, 1],
    "max_grad_norm": [None, 0.1],
    "verbose": [False, np.int64(0)],
    "recluster": [np.True_],
    "label_init": ["zeros", "centroids"],
    "validation_metric": ["psp_at_3"],
    "random_state": [None, np.random.RandomState(0), np.int64(3)],
    "device": ["cpu"],
    "memory_limit": [None, 1, 0.5],
    "n_jobs": [1, np.int64(1)],
    "batch_size": [1, 1000],
    "shortlist_size": [1, "auto"],
}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in GOOD.items() for v in values])
def test_edges_of_what_is_allowed(name, value):
    quick = {"encoder": BagOfWords(8), "stage1_epochs": 1, "stage2_epochs": 1, "max_leaf": 4}
    model = EliasClassifier(**{**quick, name: value}).fit(X, Y)
    assert np.isfinite(model.predict_topk(X, k=1).scores).all()
    assert getattr(model, name) is value, "fit changes no parameter"


@pytest.mark.parametrize("name", ["beam_width", "shortlist_size", "n_jobs"])
def test_parameters_of_prediction_are_checked_in_prediction(name):
    model = EliasClassifier(BagOfWords(8), stage1_epochs=1, stage2_epochs=1).fit(X, Y)
    model.set_params(**{name: 0})
    with pytest.raises(ValueError, match=rf"EliasClassifier: .*{name}"):
        model.predict_topk(X)


def test_parameters_of_the_encoder_name_the_encoder():
    with pytest.raises(ValueError, match="BagOfWords: embedding_dim must be an int >= 1, got 0"):
        EliasClassifier(BagOfWords(embedding_dim=0)).fit(X, Y)


def test_constructor_only_stores():
    parameters = {name: object() for name in BAD}
    model = EliasClassifier(**parameters)
    assert vars(model) == parameters
