"""Parameters that only SNMClassifier has: what is refused, and that each choice trains."""

import inspect
import re

import numpy as np
import pytest

from skxmc import EliasClassifier, SNMClassifier
from skxmc.datasets import make_xmc_classification
from skxmc.encoders import BagOfWords

X, Y = make_xmc_classification(
    n_samples=120, n_features=80, n_labels=24, n_labels_per_row=2.0, random_state=0
)

POSITIVE_INT = [0, -1, 2.5, "x", True]
BAD = {
    "pool_size": [*POSITIVE_INT, None],
    "n_negatives": [*POSITIVE_INT, None],
    "sampler": ["popular", None, 3],
    "loss": ["ternary", None],
    "margin": ["cubic", None],
    "weights": ["steep", [1.0, 2.0], [-1.0], [np.nan], []],
    "multilabel": ["pick_two", None],
    "anneal": [-0.1, 1.1, "x", None],
    "hardness_cap": [0, -1, 2.5, "x"],
    "normalize": ["yes", None, 1],
    "cosine_scale": [0, -0.1, "x", None, np.inf],
    "max_epochs": [-1, 1.5, "x", None],
}


def quick(**parameters):
    defaults = {
        "encoder": BagOfWords(embedding_dim=16),
        "max_epochs": 30,
        "pool_size": 12,
        "n_negatives": 4,
        "batch_size": 32,
        "lr_labels": 0.3,
        "dropout": 0.0,
        "random_state": 0,
    }
    return SNMClassifier(**{**defaults, **parameters})


def test_every_parameter_of_its_own_is_here():
    own = inspect.signature(SNMClassifier).parameters.keys()
    shared = inspect.signature(EliasClassifier).parameters.keys()
    assert BAD.keys() == (own - shared) | {"pool_size", "n_negatives"}


@pytest.mark.parametrize(("name", "value"), [(n, v) for n, values in BAD.items() for v in values])
def test_refused(name, value):
    with pytest.raises((ValueError, TypeError), match=r"^SNMClassifier: ") as info:
        quick(**{name: value}).fit(X, Y)
    message = str(info.value)
    assert re.search(rf"\b{name}\b", message)
    assert repr(value) in message


def test_pairs_are_not_counted_once():
    with pytest.raises(ValueError, match=r"SNMClassifier: multilabel='one_vs_all'.*'pick_all'"):
        quick(loss="pairwise", multilabel="one_vs_all").fit(X, Y)


def test_weights_of_another_number_than_is_kept():
    with pytest.raises(ValueError, match="one entry for each"):
        quick(weights=[1.0, 0.5], n_negatives=3).fit(X, Y)


CHOICES = [
    {},
    {"sampler": "in_batch"},
    {"sampler": "frequency"},
    {"sampler": "mixed"},
    {"loss": "pairwise"},
    {"loss": "pairwise", "multilabel": "pick_one"},
    {"multilabel": "pick_all"},
    {"multilabel": "pick_one"},
    {"margin": "hinge"},
    {"margin": "squared_hinge"},
    {"weights": "geometric"},
    {"weights": "linear"},
    {"weights": [1.0, 0.5, 0.5, 0.1]},
    {"anneal": 0.5},
    {"hardness_cap": 16},
    {"normalize": True},
    {"pool_size": 24, "n_negatives": 24},
]


def score_after(n_epochs, choice):
    """P@1 on the training rows."""
    top = quick(**choice, max_epochs=n_epochs).fit(X, Y).predict_topk(X, k=1)
    return Y.toarray()[np.arange(X.shape[0]), top.indices[:, 0]].mean()


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_every_choice_learns(choice):
    untrained, trained = score_after(0, choice), score_after(30, choice)
    assert trained > 0.75
    assert trained > untrained + 0.1


@pytest.mark.parametrize("normalize", [False, True])
def test_centroids_know_something_before_training(normalize):
    """Only `SNMClassifier` can be asked: without epochs the clusters of ELIAS lead anywhere."""
    zeros = score_after(0, {"normalize": normalize})
    choice = {"normalize": normalize, "label_init": "centroids"}
    untrained, trained = score_after(0, choice), score_after(30, choice)
    assert untrained > zeros + 0.2
    assert trained >= max(0.75, untrained)


def test_one_label_a_row():
    labels = np.array(["b", "a", "d", "c"])
    y = labels[np.asarray(Y[:, :4].toarray().argmax(axis=1))]
    clf = quick(pool_size=3, n_negatives=2).fit(X, y)
    assert clf.classes_.tolist() == ["a", "b", "c", "d"]
    assert (clf.predict(X) == y).mean() > 0.9
