"""label_init: what a fit of either estimator begins with."""

import copy
from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from skxmc import EliasClassifier, SNMClassifier
from skxmc.datasets import make_xmc_classification
from skxmc.encoders import BagOfWords, Encoder
from skxmc.heads import start
from skxmc.ops import _torch_engine
from skxmc.ops.row_table import RowTable
from skxmc.training import elias_stages, fitting, snm_training
from skxmc.training.memory import Need

CPU = torch.device("cpu")
X, Y = make_xmc_classification(
    n_samples=120, n_features=40, n_labels=24, n_labels_per_row=2.0, random_state=0
)
Y = sp.csr_array(Y)


def elias(**parameters):
    quick = {"stage1_epochs": 1, "stage2_epochs": 1, "max_leaf": 6, "random_state": 0}
    return EliasClassifier(**{"encoder": BagOfWords(16), **quick, **parameters})


def snm(**parameters):
    quick = {"max_epochs": 1, "random_state": 0}
    return SNMClassifier(**{"encoder": BagOfWords(16), **quick, **parameters})


MAKERS = [elias, snm]


class Letters(Encoder):
    """Counts of the letters a to d."""

    accepts_text: ClassVar[bool] = True
    embedding_dim = 4

    def __init__(self):
        super().__init__()
        self.gain = nn.Parameter(torch.ones(4))

    def collate(self, data, rows, device):
        counts = [[data[i].count(letter) for letter in "abcd"] for i in rows]
        return torch.tensor(counts, dtype=torch.float32, device=device)

    def forward(self, inputs):
        return inputs * self.gain


TEXTS = ["".join(np.random.default_rng(i).choice(list("abcd"), 7)) for i in range(120)]
INPUTS = {
    "sparse": (X, BagOfWords(16)),
    "dense": (X.toarray(), BagOfWords(16)),
    "layers": (X, BagOfWords(16, n_layers=1, feature_dropout=0.5)),
    "module": (X.toarray(), nn.Sequential(nn.Linear(40, 8), nn.Dropout(0.5))),
    "sparse module": (X, nn.Linear(40, 8)),
    "text": (TEXTS, Letters()),
}


@pytest.fixture
def first(monkeypatch):
    """The module, and the rows and truth it is trained on, as the first stage begins."""
    seen = []

    def spy(title, objective, *args):
        if not seen:
            seen.extend((copy.deepcopy(objective.module), objective.data, objective.Y))
        return fitting.run_stage(title, objective, *args)

    for module in (elias_stages, snm_training):
        monkeypatch.setattr(module, "run_stage", spy)
    return seen


def expected_vectors(module, data, Y, length=None):
    """Centroids by dense matrices in float64, by default `GAIN` over the length of embeddings."""
    embeddings = fitting.embed_rows(module.encoder, data, Y.shape[0], CPU).astype(np.float64)
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    sums = Y.toarray().T @ (embeddings / np.where(lengths > 0, lengths, 1.0))
    sizes = np.linalg.norm(sums, axis=1, keepdims=True)
    length = start.GAIN / np.sqrt((lengths**2).mean()) if length is None else length
    return length * sums / np.where(sizes > 0, sizes, 1.0)


@pytest.mark.parametrize("make", MAKERS)
def test_zeros_by_default(make, first):
    assert make().label_init == "zeros"
    make().fit(X, Y)
    assert not first[0].head.rows.weight.any()


@pytest.mark.parametrize("kind", INPUTS)
@pytest.mark.parametrize("make", MAKERS)
def test_centroids_of_the_starting_embeddings(make, kind, first):
    rows, encoder = INPUTS[kind]
    model = make(encoder=encoder, label_init="centroids").fit(rows, Y)
    module, data, truth = first
    expected = expected_vectors(module, data, truth)
    np.testing.assert_allclose(module.head.rows.weight, expected, rtol=1e-4, atol=1e-5)
    assert np.isfinite(model.predict_topk(rows, k=2).scores).all()


@pytest.mark.parametrize("make", MAKERS)
def test_nothing_else_starts_otherwise(make, first):
    """The same encoder, clusters and biases, and the same random numbers ahead."""
    found = []
    for label_init in ("zeros", "centroids"):
        make(label_init=label_init).fit(X, Y)
        found.append(first[0].state_dict())
        first.clear()
    assert found[0].keys() == found[1].keys()
    differ = [name for name in found[0] if not torch.equal(found[0][name], found[1][name])]
    assert differ == ["head.rows.weight"]


@pytest.mark.parametrize("make", MAKERS)
def test_held_out_rows_take_no_part(make, first):
    make(label_init="centroids", early_stopping=True, validation_fraction=0.3).fit(X, Y)
    module, data, truth = first
    assert truth.shape[0] == 84
    expected = expected_vectors(module, data, truth)
    np.testing.assert_allclose(module.head.rows.weight, expected, rtol=1e-4, atol=1e-5)


def test_cosines(first):
    snm(label_init="centroids", normalize=True).fit(X, Y)
    module, data, truth = first
    expected = expected_vectors(module, data, truth, length=1.0)
    np.testing.assert_allclose(module.head.rows.weight, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", MAKERS)
def test_both_engines_start_alike(make, first, monkeypatch):
    found = []
    for engine in (None, _torch_engine):
        if engine is not None:
            monkeypatch.setattr(RowTable, "_engine", engine)
        make(label_init="centroids").fit(X, Y)
        found.append(first[0].head.rows.weight)
        first.clear()
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("make", MAKERS)
def test_a_warm_start_keeps_what_was_learned(make, first):
    model = make(label_init="centroids", warm_start=True).fit(X, Y)
    learned = model.model_.head.rows.weight.clone()
    first.clear()
    model.fit(X, Y)
    assert torch.equal(first[0].head.rows.weight, learned)


@pytest.mark.parametrize("make", MAKERS)
def test_memory(make):
    def needs(label_init) -> list[Need]:
        model = make(label_init=label_init)
        return model._training(np.random.RandomState(0), CPU).needs(X, Y)

    start_of_labels = {
        label_init: next(n for n in needs(label_init) if "start of the labels" in n.what)
        for label_init in ("zeros", "centroids")
    }
    assert start_of_labels["zeros"].n_bytes == 0
    asked = start_of_labels["centroids"]
    assert asked.n_bytes == start.start_bytes(120, 24, Y.nnz, 16)
    assert asked.passing
    assert asked.host
    assert asked.lower == "label_init='zeros'"
