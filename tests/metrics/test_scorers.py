"""Scorers alone, in pipelines and in searches, with sparse y all the way."""

import copy
import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import config_context
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from toy_rankers import CentroidClassifier, DenseClassifier

from skxmc.metrics import (
    TopKScorer,
    evaluate_topk,
    get_scorer,
    get_scorer_names,
    precision_at_k,
    propensities,
    psp_at_k,
)

N, N_LABELS, N_FEATURES = 120, 30, 40


@pytest.fixture(params=[sp.csr_matrix, sp.csr_array])
def data(request):
    rng = np.random.default_rng(0)
    Y = (rng.random((N, N_LABELS)) < 3 / (np.arange(N_LABELS) + 3) ** 1.2).astype(np.int8)
    X = Y @ (rng.random((N_LABELS, N_FEATURES)) < 0.15) + 2 * (rng.random((N, N_FEATURES)) < 0.1)
    return request.param(X.astype(np.float32)), request.param(Y)


def test_plain_estimator_is_asked_once(data):
    X, Y = data
    model = CentroidClassifier().fit(X, Y)
    score = TopKScorer("precision", k=3)(model, X, Y)
    assert type(score) is float
    assert model.asked_ == [(N, 3)]
    assert score == precision_at_k(Y, model.predict_topk(X, 3), 3) > 0.2


def test_many_metrics_from_one_call(data):
    X, Y = data
    model = CentroidClassifier().fit(X, Y)
    scorer = TopKScorer(["precision", "ndcg", "coverage"], k=[1, 5])
    got = scorer(model, X, Y)
    assert model.asked_ == [(N, 5)]
    assert list(got) == scorer.names
    top = model.predict_topk(X, 5)
    assert got == evaluate_topk(Y, top, [1, 5], ["precision", "ndcg", "coverage"])


@pytest.mark.parametrize(
    ("metric", "k", "keys"),
    [
        (["precision"], 5, ["precision_at_5"]),
        ("recall", [1, 3], ["recall_at_1", "recall_at_3"]),
        ("recall", (3,), ["recall_at_3"]),
    ],
)
def test_a_sequence_gives_a_dict(data, metric, k, keys):
    X, Y = data
    assert list(TopKScorer(metric, k)(CentroidClassifier().fit(X, Y), X, Y)) == keys


def test_k_is_clipped_to_the_number_of_labels(data):
    X, Y = data
    model = CentroidClassifier().fit(X, Y)
    assert TopKScorer("recall", k=1000)(model, X, Y) > 0.9
    assert model.asked_ == [(N, N_LABELS)]


def test_sample_weight(data):
    X, Y = data
    model = CentroidClassifier().fit(X, Y)
    weights = np.arange(N) % 3
    rows = np.repeat(np.arange(N), weights)
    scorer = TopKScorer("precision", k=3)
    assert scorer(model, X, Y, sample_weight=weights) == pytest.approx(
        scorer(model, X[rows], Y[rows])
    )


def test_unwraps_pipelines_searches_and_frozen_ones(data):
    X, Y = data
    scorer = TopKScorer("ndcg", k=5)
    model = CentroidClassifier()
    scaled = MaxAbsScaler().fit_transform(X)
    expected = scorer(clone(model).fit(scaled, Y), scaled, Y)
    pipe = make_pipeline(MaxAbsScaler(), model).fit(X, Y)
    assert scorer(pipe, X, Y) == pytest.approx(expected)
    assert scorer(FrozenEstimator(pipe), X, Y) == pytest.approx(expected)
    assert scorer(Pipeline([("only", pipe)]), X, Y) == pytest.approx(expected)
    nested = make_pipeline("passthrough", make_pipeline(MaxAbsScaler(), model)).fit(X, Y)
    assert scorer(nested, X, Y) == pytest.approx(expected)
    search = GridSearchCV(pipe, {"centroidclassifier__power": [0.0]}, scoring=scorer, cv=2)
    assert scorer(search.fit(X, Y), X, Y) == pytest.approx(expected)
    inside = make_pipeline(
        MaxAbsScaler(), GridSearchCV(model, {"power": [0.0]}, scoring=scorer, cv=2)
    )
    assert scorer(inside.fit(X, Y), X, Y) == pytest.approx(expected)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_grid_search(data, n_jobs):
    X, Y = data
    search = GridSearchCV(
        make_pipeline(MaxAbsScaler(), CentroidClassifier()),
        {"centroidclassifier__power": [-3.0, 0.0]},
        scoring=TopKScorer("precision", k=3),
        cv=KFold(3),
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(X, Y)
    by_hand = [
        TopKScorer("precision", k=3)(clone(search.best_estimator_).fit(X[a], Y[a]), X[b], Y[b])
        for a, b in KFold(3).split(X)
    ]
    assert search.best_score_ == pytest.approx(np.mean(by_hand))
    assert search.best_params_ == {"centroidclassifier__power": 0.0}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_multi_metric_grid_search_with_refit(data, n_jobs):
    X, Y = data
    scorer = TopKScorer(["precision", "psp"], k=[1, 5])
    search = GridSearchCV(
        CentroidClassifier(),
        {"power": [-3.0, 0.0, 0.5]},
        scoring=scorer,
        refit="psp_at_5",
        cv=3,
        n_jobs=n_jobs,
        error_score="raise",
    ).fit(X, Y)
    for name in scorer.names:
        means = search.cv_results_[f"mean_test_{name}"]
        assert means.shape == (3,)
        assert ((means >= 0) & (means <= 1)).all()
    assert search.best_index_ == search.cv_results_["mean_test_psp_at_5"].argmax()
    assert list(scorer(search, X, Y)) == scorer.names


def test_raw_text_pipeline(data):
    X, Y = data
    texts = [" ".join(f"word{j}" for j in row.nonzero()[-1]) for row in X.toarray()]
    pipe = make_pipeline(TfidfVectorizer(), CentroidClassifier())
    search = GridSearchCV(
        pipe,
        {"tfidfvectorizer__sublinear_tf": [True, False]},
        scoring=get_scorer("recall_at_5"),
        cv=3,
        error_score="raise",
    ).fit(texts, Y)
    assert search.best_score_ > 0.2


def test_cross_validate_with_dense_y(data):
    X, Y = data
    out = cross_validate(
        CentroidClassifier(), X, Y.toarray(), scoring=TopKScorer("recall", [1, 5]), cv=3
    )
    assert (out["test_recall_at_5"] >= out["test_recall_at_1"]).all()


def test_propensities_come_from_the_training_fold(data):
    X, Y = data
    train, test = np.arange(80), np.arange(80, N)
    model = CentroidClassifier().fit(X[train], Y[train])
    top = model.predict_topk(X[test], 5)

    def expected(p):
        return pytest.approx(psp_at_k(Y[test], top, 5, propensities=p))

    assert get_scorer("psp_at_5")(model, X[test], Y[test]) == expected(propensities(Y[train]))
    amazon = {"a": 0.6, "b": 2.6}
    scorer = TopKScorer("psp", propensities=amazon)
    assert scorer(model, X[test], Y[test]) == expected(propensities(Y[train], **amazon))
    given = np.linspace(0.1, 1, N_LABELS)
    scorer = TopKScorer("psp", propensities=given)
    assert scorer(model, X[test], Y[test]) == expected(given)
    del model.n_samples_fit_
    assert scorer(model, X[test], Y[test]) == expected(given)
    with pytest.raises(ValueError, match=r"lacks label_counts_ or n_samples_fit_.*Y_train"):
        get_scorer("psp_at_5")(model, X[test], Y[test])
    assert get_scorer("precision_at_5")(model, X[test], Y[test]) > 0


def test_decision_function_where_small(data, monkeypatch):
    X, Y = data
    model = DenseClassifier().fit(X, Y)
    scorer = TopKScorer("precision", k=5)
    assert scorer(model, X, Y) == pytest.approx(scorer(model.model_, X, Y))
    rest = OneVsRestClassifier(LogisticRegression()).fit(X, Y[:, :5])
    assert scorer(rest, X, Y[:, :5]) == pytest.approx(Y[:, :5].sum() / N / 5)
    monkeypatch.setattr("skxmc.metrics._scorers._DENSE_CELLS", 10)
    with pytest.raises(ValueError, match="no predict_topk, and its dense scores would take"):
        scorer(model, X, Y)


def test_estimators_that_cannot_rank(data):
    X, Y = data
    scorer = TopKScorer()
    with pytest.raises(TypeError, match="predict_topk or decision_function, got MaxAbsScaler"):
        scorer(make_pipeline(MaxAbsScaler()).fit(X), X, Y)
    search = GridSearchCV(CentroidClassifier(), {}, scoring=scorer, cv=2, refit=False).fit(X, Y)
    with pytest.raises(TypeError, match="refit on"):
        scorer(search, X, Y)
    with pytest.raises(NotFittedError):
        scorer(CentroidClassifier(), X, Y)
    with pytest.raises(ValueError, match="MultiLabelBinarizer"):
        scorer(CentroidClassifier().fit(X, Y), X, [[0]] * 60 + [[1, 2]] * 60)


@pytest.mark.parametrize(
    "scorer",
    [
        TopKScorer(),
        TopKScorer(["psp", "map"], k=[1, 3], propensities={"a": 0.6, "b": 2.6}),
        TopKScorer("psndcg", k=5, propensities=np.full(N_LABELS, 0.5)),
    ],
)
@pytest.mark.parametrize("twin", [copy.copy, copy.deepcopy, None, "clone"])
def test_copies_score_alike(data, scorer, twin):
    X, Y = data
    if twin == "clone":
        twin_scorer = clone(GridSearchCV(CentroidClassifier(), {}, scoring=scorer)).scoring
    else:
        twin_scorer = twin(scorer) if twin else pickle.loads(pickle.dumps(scorer))
    model = CentroidClassifier().fit(X, Y)
    assert twin_scorer(model, X, Y) == scorer(model, X, Y)
    assert repr(twin_scorer) == repr(scorer)


def test_repr():
    assert repr(TopKScorer()) == "TopKScorer('precision', k=5)"
    assert repr(TopKScorer(["psp"], [1, 5])) == "TopKScorer(['psp'], k=[1, 5])"
    with_array = TopKScorer("psp", 3, propensities=np.ones(100_000))
    assert repr(with_array) == "TopKScorer('psp', k=3, propensities=<array of shape (100000,)>)"
    assert "{'a': 0.6}" in repr(TopKScorer("psp", propensities={"a": 0.6}))


def test_refused_arguments():
    with pytest.raises(ValueError, match="metric must be one of 'precision'"):
        TopKScorer("p")
    with pytest.raises(ValueError, match="k must be an int >= 1"):
        TopKScorer("precision", 0)
    with pytest.raises(TypeError, match="k must be an int >= 1"):
        TopKScorer("precision", 2.5)


def test_get_scorer():
    names = get_scorer_names()
    assert len(names) == len(set(names)) == 33
    assert [get_scorer(name).names for name in names] == [[name] for name in names]
    assert repr(get_scorer("macro_f1_at_100")) == "TopKScorer('macro_f1', k=100)"
    for name in ("precision", "precision_at_0", "precision_at_k", "accuracy_at_5", "p@5", None):
        with pytest.raises(ValueError, match=r"'<metric>_at_<k>'.*Metrics are precision"):
            get_scorer(name)


def test_metadata_routing(data):
    X, Y = data
    weights = np.arange(N) % 3 + 0.5
    with config_context(enable_metadata_routing=True):
        plain = GridSearchCV(
            make_pipeline(MaxAbsScaler(), CentroidClassifier()),
            {},
            scoring=TopKScorer("recall", 3),
            cv=3,
            error_score="raise",
        )
        unweighted = plain.fit(X, Y).best_score_
        assert 0 < plain.score(X, Y) <= 1
        search = GridSearchCV(
            CentroidClassifier().set_fit_request(sample_weight=False),
            {},
            scoring=TopKScorer("recall", 3).set_score_request(sample_weight=True),
            cv=3,
            error_score="raise",
        ).fit(X, Y, sample_weight=weights)
        folds = [
            TopKScorer("recall", 3)(
                CentroidClassifier().fit(X[a], Y[a]), X[b], Y[b], sample_weight=weights[b]
            )
            for a, b in KFold(3).split(X)
        ]
        assert search.best_score_ == pytest.approx(np.mean(folds))
        assert search.best_score_ != unweighted
        with pytest.raises(ValueError, match=r"sample_weight.* not explicitly set"):
            clone(plain).set_params(estimator=search.estimator).fit(X, Y, sample_weight=weights)
