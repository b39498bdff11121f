"""The encoder seam: users' modules and encoders, end to end."""

import re
import warnings
import zlib
from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from torch import nn

from skxmc import EliasClassifier
from skxmc.datasets import make_xmc_classification
from skxmc.encoders import BagOfWords, Encoder, ModuleEncoder
from skxmc.encoders.base import build_encoder
from skxmc.encoders.bow import BagOfWordsEncoder

X, Y = make_xmc_classification(
    n_samples=150, n_features=80, n_labels=12, n_labels_per_row=1.0, random_state=0
)
DENSE = X.toarray()
CHANCE = Y.toarray().mean(axis=0).max()


def classifier(encoder, **parameters):
    quick = {"stage1_epochs": 25, "stage2_epochs": 3, "lr_encoder": 0.02, "max_leaf": 6}
    return EliasClassifier(encoder, random_state=0, dropout=0.0, **{**quick, **parameters})


def linear(n_features=80, width=16, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Linear(n_features, width)


class SparseLinear(nn.Module):
    """A user's own product with a sparse batch."""

    def __init__(self, n_features=80, width=16):
        super().__init__()
        rng = np.random.default_rng(0)
        self.weight = nn.Parameter(
            torch.from_numpy(0.1 * rng.standard_normal((n_features, width)).astype(np.float32))
        )

    def forward(self, batch):
        assert batch.layout == torch.sparse_csr
        return torch.sparse.mm(batch, self.weight)


class HashedWords(Encoder):
    """Texts as sums of hashed word vectors: a toy of an encoder with a tokenizer."""

    accepts_text: ClassVar[bool] = True
    embedding_dim = 16
    n_buckets = 64

    def __init__(self):
        super().__init__()
        self.words = nn.EmbeddingBag(self.n_buckets, self.embedding_dim, mode="mean")
        nn.init.normal_(self.words.weight, generator=torch.Generator().manual_seed(0))
        self.prepared = 0

    def prepare(self, X):
        assert isinstance(X, list)
        self.prepared += 1
        return [[zlib.crc32(word.encode()) % self.n_buckets for word in text.split()] for text in X]

    def collate(self, data, rows, device):
        lists = [data[i] for i in rows]
        offsets = np.cumsum([0] + [len(tokens) for tokens in lists])[:-1]
        flat = torch.tensor([token for tokens in lists for token in tokens], dtype=torch.long)
        return flat.to(device), torch.from_numpy(offsets).to(device)

    def forward(self, inputs):
        return self.words(*inputs)


def texts():
    words = np.array([f"w{i}" for i in range(80)])
    return [" ".join(words[row > 0]) for row in DENSE]


MODULES = {
    "linear on dense": (linear, DENSE),
    "linear on sparse": (linear, X),
    "sparse.mm on sparse": (SparseLinear, X),
    "two layers on dense": (
        lambda: nn.Sequential(linear(width=24), nn.Tanh(), linear(24, 16, seed=1)),
        DENSE,
    ),
    "text": (HashedWords, texts()),
}


@pytest.mark.parametrize("case", MODULES)
def test_trains_and_predicts(case):
    make, data = MODULES[case]
    module = make()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    model = classifier(module).fit(data, Y)
    assert model.score(data, Y) > CHANCE + 0.3
    trained = model.model_.encoder.state_dict()
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name]), "the user's module is not trained"
        found = next(v for k, v in trained.items() if k.endswith(name))
        assert not torch.equal(found, value), "its copy is"
    assert module.training, "nor is its mode changed"
    one = data[:1]
    np.testing.assert_array_equal(
        model.predict_topk(one, k=3).indices, model.predict_topk(data, k=3).indices[:1]
    )
    again = classifier(module).fit(data, Y)
    np.testing.assert_array_equal(again.decision_function(data), model.decision_function(data))


def test_embeddings_come_from_the_trained_copy():
    """Without stages the module's own output, row by row, is what labels are scored on."""
    module = linear()
    model = classifier(module, stage1_epochs=0, stage2_epochs=0).fit(DENSE, Y)
    encoder = model.model_.encoder
    assert isinstance(encoder, ModuleEncoder)
    assert encoder.embedding_dim == 16
    batch = encoder.collate(encoder.prepare(DENSE), np.array([4, 2]), "cpu")
    with torch.no_grad():
        torch.testing.assert_close(encoder(batch), module(torch.from_numpy(DENSE[[4, 2]])))


def test_texts_are_prepared_once_a_fit_and_rows_are_cut_from_them():
    model = classifier(HashedWords()).fit(texts(), Y)
    after_fit = model.model_.encoder.prepared
    assert after_fit <= 2, "not once a batch or epoch"
    model.predict_topk(texts())
    assert model.model_.encoder.prepared == after_fit + 1


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("one text", "single string"),
        ([], "no rows"),
        (["a", 3], "an entry of type int"),
        ([b"a", "b"], "an entry of type bytes"),
        (DENSE, "an entry of type ndarray"),
    ],
)
def test_texts_must_be_texts(bad, words):
    with pytest.raises(ValueError, match=f"list of strings.*{words}"):
        classifier(HashedWords()).fit(bad, Y)


def test_any_iterable_of_texts():
    model = classifier(HashedWords(), stage1_epochs=2).fit(texts(), Y)
    expected = model.predict_topk(texts())
    for form in (tuple(texts()), np.array(texts()), np.array(texts(), dtype=object)):
        np.testing.assert_array_equal(model.predict_topk(form).scores, expected.scores)


def test_text_needs_a_text_encoder():
    with pytest.raises(ValueError, match=r"could not convert|Expected 2D|2D array"):
        classifier(linear()).fit(texts(), Y)


# --- batches of the default collate


def test_default_collate():
    encoder = ModuleEncoder(nn.Identity(), 80)
    rows = np.array([7, 0, 7])
    dense = encoder.collate(DENSE, rows, "cpu")
    sparse = encoder.collate(X, rows, "cpu")
    assert dense.dtype == sparse.dtype == torch.float32
    assert sparse.layout == torch.sparse_csr
    np.testing.assert_array_equal(dense.numpy(), DENSE[rows])
    np.testing.assert_array_equal(sparse.to_dense().numpy(), DENSE[rows])


def test_sparse_batches_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        classifier(SparseLinear(), stage1_epochs=1).fit(X, Y).predict(X)


# --- what is no encoder


class NoWidth(Encoder):
    def forward(self, inputs):
        return inputs


class WrongWidth(NoWidth):
    embedding_dim = 3


class Returns(nn.Module):
    def __init__(self, what):
        super().__init__()
        self.what = what

    def forward(self, inputs):
        return self.what(inputs)


@pytest.mark.parametrize("encoder", ["bow", 3, BagOfWords, nn.Linear, [nn.Linear(2, 2)], object()])
def test_wrong_type(encoder):
    with pytest.raises(TypeError, match="must be None, an encoder recipe") as info:
        classifier(encoder).fit(X, Y)
    assert re.search(r"EliasClassifier.*encoder", str(info.value))
    assert repr(encoder) in str(info.value)


@pytest.mark.parametrize(
    ("encoder", "got"),
    [
        (Returns(lambda x: x.sum(dim=1)), r"shape \(2,\)"),
        (Returns(lambda x: x.mean(dim=0, keepdim=True)), r"shape \(1, 80\)"),
        (Returns(lambda x: x[None]), r"shape \(1, 2, 80\)"),
        (Returns(lambda x: {"embedding": x}), "got dict"),
        (NoWidth(), "NoWidth must have an int attribute embedding_dim"),
        (WrongWidth(), r"of shape \(\d+, 3\), got shape \(\d+, 80\)"),
    ],
)
def test_wrong_shape(encoder, got):
    with pytest.raises(ValueError, match=f"encoder.*{got}"):
        classifier(encoder).fit(DENSE, Y)


def test_module_for_other_features_says_so():
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        classifier(linear(5)).fit(DENSE, Y)


def test_build_encoder():
    rng = np.random.RandomState(0)
    module = linear()
    wrapped = build_encoder(module, DENSE, rng)
    assert isinstance(wrapped, ModuleEncoder)
    assert wrapped.module is not module
    assert wrapped.embedding_dim == 16
    own = HashedWords()
    built = build_encoder(own, texts(), rng)
    assert isinstance(built, HashedWords)
    assert built is not own
    assert isinstance(build_encoder(BagOfWords(4), X, rng), BagOfWordsEncoder)


def test_recipe_of_the_users_own():
    class Recipe:
        def build(self, X, random_state):
            assert sp.issparse(X)
            assert isinstance(random_state, np.random.RandomState)
            return ModuleEncoder(SparseLinear(), 16)

    assert classifier(Recipe()).fit(X, Y).score(X, Y) > CHANCE + 0.3


def test_module_in_evaluation_mode_stays_so():
    module = nn.Sequential(linear(), nn.Dropout(0.5)).eval()
    classifier(module, stage1_epochs=1).fit(DENSE, Y)
    assert not module.training
    assert not module[1].training


def test_frozen_and_parameterless_modules():
    frozen = linear().requires_grad_(False)
    model = classifier(frozen).fit(DENSE, Y)
    assert torch.equal(model.model_.encoder.module.weight, frozen.weight)
    assert model.score(DENSE, Y) > CHANCE
    assert classifier(nn.Identity()).fit(DENSE, Y).score(DENSE, Y) > CHANCE
