"""Cloning, copying, storing, and scikit-learn's compositions."""

import copy
import io
import pickle

import joblib
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline

from skxmc.metrics import TopKScorer, get_scorer

from .estimators import assert_same_topk, data

WORDS = ["apple", "bread", "cheese", "date", "egg", "fig", "grape", "honey", "ice", "jam"]


def texts_and_labels(n_rows=120, seed=0):
    """Rows of words, whose labels are their first two words."""
    rng = np.random.default_rng(seed)
    chosen = [rng.choice(len(WORDS), size=4, replace=False) for _ in range(n_rows)]
    Y = np.zeros((n_rows, len(WORDS)), dtype=np.int64)
    for i, words in enumerate(chosen):
        Y[i, words[:2]] = 1
    texts = [" ".join([WORDS[w] for w in words[:2]] * 2 + [WORDS[words[2]]]) for words in chosen]
    return texts, Y


def joblib_round_trip(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


COPIES = {
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "old pickle": lambda model: pickle.loads(pickle.dumps(model, protocol=2)),
    "joblib": joblib_round_trip,
    "deepcopy": copy.deepcopy,
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copies_of_a_fitted_model(fitted, copied):
    model, X, Y = fitted
    other = copied(model)
    assert_same_topk(other.predict_topk(X, k=7), model.predict_topk(X, k=7))
    np.testing.assert_array_equal(other.predict(X).toarray(), model.predict(X).toarray())
    assert other.score(X, Y) == model.score(X, Y)
    assert other.history_ == model.history_
    assert repr(other) == repr(model)


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_copies_of_an_unfitted_model(kind, copied):
    X, Y = data(n_samples=60)
    model = kind.make()
    other = copied(model)
    with pytest.raises(NotFittedError):
        other.predict_topk(X)
    assert_same_topk(other.fit(X, Y).predict_topk(X), model.fit(X, Y).predict_topk(X))


def test_a_copy_is_independent(kind):
    X, Y = data(n_samples=60)
    model = kind.make().fit(X, Y)
    before = model.predict_topk(X)
    copy.deepcopy(model).fit(X[:30], Y[:30])
    assert_same_topk(model.predict_topk(X), before)


def test_clone_has_the_parameters_and_nothing_else(fitted):
    model, X, _ = fitted
    other = clone(model)
    assert not [name for name in vars(other) if name.endswith("_")]
    with pytest.raises(NotFittedError):
        other.predict(X)
    assert repr(other) == repr(model)
    assert other.get_params(deep=False).keys() == model.get_params(deep=False).keys()


def test_set_params_reads_back(kind):
    model = kind.make()
    for name, value in model.get_params(deep=False).items():
        sentinel = object()
        model.set_params(**{name: sentinel})
        assert getattr(model, name) is model.get_params()[name] is sentinel, "only stored"
        model.set_params(**{name: value})
    with pytest.raises(ValueError, match="no_such_parameter"):
        model.set_params(no_such_parameter=1)


def test_repr_names_what_differs_from_the_defaults(kind):
    model = type(kind.make())(random_state=12345)
    assert repr(model) == f"{type(model).__name__}(random_state=12345)"


def test_pipeline_over_strings(kind):
    texts, Y = texts_and_labels()
    pipeline = make_pipeline(TfidfVectorizer(), kind.make()).fit(texts, sp.csr_array(Y))
    test_texts, test_Y = texts_and_labels(seed=1)
    best = pipeline[-1].predict_topk(pipeline[:-1].transform(test_texts), k=1).indices[:, 0]
    by_hand = np.mean([test_Y[i, label] for i, label in enumerate(best)])
    assert by_hand > 0.8
    assert pipeline.score(test_texts, test_Y) == pytest.approx(by_hand)
    predicted = pipeline.predict(test_texts)
    assert isinstance(predicted, sp.csr_array)
    assert predicted.shape == test_Y.shape


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search(kind, csr_container, n_jobs):
    X, Y = data(n_samples=90)
    grid = {"beam_width" if "beam_width" in kind.predict_only else "verbose": [1, 20]}
    scorer = TopKScorer("precision", k=3)
    search = GridSearchCV(kind.make(), grid, scoring=scorer, cv=2, n_jobs=n_jobs, refit=True)
    search.fit(csr_container(X), csr_container(Y))
    means = search.cv_results_["mean_test_score"]
    assert np.isfinite(means).all()
    assert search.best_index_ == means.argmax()
    # the first fold of an unshuffled 2-fold split, by hand
    (name, values) = next(iter(grid.items()))
    for i, value in enumerate(values):
        model = kind.make(**{name: value}).fit(X[45:], Y[45:])
        top, truth = model.predict_topk(X[:45], k=3).indices, Y[:45].toarray()
        hits = sum(truth[row, label] for row in range(45) for label in top[row] if label >= 0)
        found = search.cv_results_["split0_test_score"][i]
        assert found == pytest.approx(hits / (45 * 3), abs=1e-6)
    predicted = search.predict(X)
    assert type(predicted) is csr_container


def test_grid_search_of_a_pipeline(kind):
    texts, Y = texts_and_labels()
    pipeline = make_pipeline(TfidfVectorizer(), kind.make())
    step = pipeline.steps[-1][0]
    search = GridSearchCV(
        pipeline,
        {"tfidfvectorizer__binary": [False, True], f"{step}__random_state": [0]},
        scoring=get_scorer("ndcg_at_2"),
        cv=2,
    ).fit(texts, sp.csr_matrix(Y))
    assert search.best_score_ > 0.8
    assert search.best_estimator_.predict(texts).shape == Y.shape


def test_cross_val_predict_keeps_the_container(kind, csr_container):
    X, Y = data(n_samples=60)
    predicted = cross_val_predict(kind.make(), X, csr_container(Y), cv=2)
    assert sp.issparse(predicted)
    assert predicted.shape == Y.shape
    by_hand = kind.make().fit(X[30:], csr_container(Y[30:])).predict(X[:30])
    np.testing.assert_array_equal(predicted.toarray()[:30], by_hand.toarray())
