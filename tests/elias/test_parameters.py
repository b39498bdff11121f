"""Every constructor parameter: what is refused, with class, name and value in the message."""

import inspect
import pickle
import re

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from skxmc import EliasClassifier
from skxmc.datasets import make_xmc_classification
from skxmc.encoders import BagOfWords
from skxmc.heads import SparseRanker
from skxmc.model_selection import prediction_curve
from skxmc.search.beam import search_csr
from skxmc.search.graph import SearchGraph

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


@pytest.mark.parametrize("name", ["beam_width", "shortlist_size", "rerank_size", "n_jobs"])
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


# --- parameters of the ranker

QUICK = {"stage1_epochs": 1, "stage2_epochs": 1, "max_leaf": 4, "random_state": 0}


def test_parameters_of_the_ranker_are_those_of_the_estimator():
    model = EliasClassifier(ranker=SparseRanker())
    assert model.set_params(ranker__share=0.5).ranker.share == 0.5
    assert repr(model) == "EliasClassifier(ranker=SparseRanker(share=0.5))"
    copied = clone(model)
    assert copied.ranker is not model.ranker
    assert copied.get_params()["ranker__share"] == 0.5
    with pytest.raises(ValueError, match="SparseRanker: share must be"):
        model.set_params(ranker__share=2).fit(X, Y)


def test_fit_trains_a_clone_of_the_ranker():
    recipe = SparseRanker(share=0.5)
    model = EliasClassifier(BagOfWords(8), ranker=recipe, n_jobs=1, **QUICK).fit(X, Y)
    assert vars(recipe) == SparseRanker(share=0.5).get_params(), "neither trained nor changed"
    assert repr(model.ranker_) == "SparseRanker(n_jobs=1, random_state=0, share=0.5)"
    assert model.ranker_.n_features_in_ == X.shape[1]
    own = EliasClassifier(BagOfWords(8), ranker=SparseRanker(random_state=7, n_jobs=1), **QUICK)
    assert own.fit(X, Y).ranker_.random_state == 7


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_searches_over_parameters_of_the_ranker(n_jobs):
    model = EliasClassifier(BagOfWords(8), ranker=SparseRanker(), **QUICK)
    search = GridSearchCV(model, {"ranker__share": [0.0, 1.0]}, cv=2, n_jobs=n_jobs).fit(X, Y)
    best = search.best_params_["ranker__share"]
    assert search.best_estimator_.ranker_.share_ == best
    assert model.ranker.share == "auto"


# --- rerank_size


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def ranked():
    """A model of more labels than "auto" re-orders, with their truth."""
    rows, truth = make_xmc_classification(
        n_samples=200, n_features=100, n_labels=120, noise=0.5, random_state=0
    )
    parameters = {**QUICK, "encoder": BagOfWords(8), "max_leaf": 16, "beam_width": 8}
    return EliasClassifier(**parameters).fit(rows, truth), rows, truth


def test_rerank_size_takes_effect_after_fit(ranked):
    model, rows, truth = ranked
    model = pickle.loads(pickle.dumps(model))
    before = model.predict_topk(rows, k=3)
    once = model.predict_topk(rows, k=3, rerank_size=3)
    assert not np.array_equal(once.indices, before.indices)
    assert same(model.predict_topk(rows, k=3), before), "in that call only"
    after = model.set_params(rerank_size=3).predict_topk(rows, k=3)
    assert same(after, once)
    assert same(clone(model).fit(rows, truth).predict_topk(rows, k=3), once)
    assert same(pickle.loads(pickle.dumps(model)).predict_topk(rows, k=3), once)
    assert same(model.predict_topk(rows, k=3, rerank_size="auto"), before)
    all_of_them = model.set_params(rerank_size=10**12).predict_topk(rows, k=3)
    assert same(all_of_them, model.predict_topk(rows, k=3, rerank_size=model.n_labels_))
    assert same(model.set_params(rerank_size="auto").predict_topk(rows, k=3), before)


def test_graphs_know_the_rerank_size_of_their_estimator(ranked, tmp_path):
    model, rows, _ = ranked
    model = pickle.loads(pickle.dumps(model))
    sizes = {"beam_width": model.beam_width, "shortlist_size": 1000}
    rows = rows.astype(np.float32)
    for size in ("auto", 3, 20):
        model.set_params(rerank_size=size).graph_.save(tmp_path / "model")
        loaded = SearchGraph.load(tmp_path / "model")
        assert loaded.ranker.size == (0 if size == "auto" else size)
        expected = model.predict_topk(rows, k=3, shortlist_size=1000)
        assert same(search_csr(loaded, rows, 3, **sizes), expected)
        for asked in ("auto", 5):
            expected = model.predict_topk(rows, k=3, shortlist_size=1000, rerank_size=asked)
            assert same(search_csr(loaded, rows, 3, **sizes, rerank_size=asked), expected)


def test_wrong_rerank_sizes_are_refused_where_they_are_used(ranked):
    model, rows, _ = ranked
    model = pickle.loads(pickle.dumps(model))
    for value, error in ((0, ValueError), (2.5, TypeError), ("x", TypeError)):
        message = f"EliasClassifier: rerank_size must be an int >= 1, got {value!r}"
        with pytest.raises(error, match=message):
            model.predict_topk(rows, rerank_size=value)
        model.set_params(rerank_size=value)
        for use in (model.predict, model.decision_function, model.predict_topk):
            with pytest.raises(error, match=message):
                use(rows)
        with pytest.raises(error, match=message):
            _ = model.graph_
        pickle.loads(pickle.dumps(model)).set_params(rerank_size=3).predict_topk(rows)


def test_curve_over_the_rerank_size(ranked):
    model, rows, truth = ranked
    grid = {"rerank_size": [1, 100]}
    curve = prediction_curve(model, rows, truth, param_grid=grid, scoring="ndcg_at_3", cv="prefit")
    assert curve["mean_test_score"][0] != curve["mean_test_score"][1]
    assert model.rerank_size == "auto"
