"""What scikit-learn offers around an estimator, over raw strings and sparse y in both containers.

The data are words, of which the first two of each row are its labels; an answer is good if it finds
them.
"""

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import TruncatedSVD
from sklearn.ensemble import StackingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    RandomizedSearchCV,
    cross_val_predict,
    train_test_split,
)
from sklearn.pipeline import FeatureUnion, make_pipeline
from sklearn.preprocessing import MultiLabelBinarizer

from skxmc import EliasClassifier
from skxmc.encoders import BagOfWords
from skxmc.metrics import TopKScorer, precision_at_k
from skxmc.model_selection import cross_validate, prediction_curve

WORDS = ["apple", "bread", "cheese", "date", "egg", "fig", "grape", "honey"]
BEAM = "eliasclassifier__beam_width"
GRID = {BEAM: [1, 20]}
P2 = TopKScorer("precision", k=2)


def elias(**parameters):
    """Several clusters, both stages, trained in a tenth of a second."""
    return EliasClassifier(
        BagOfWords(embedding_dim=16, scale=1.0),
        **{"stage1_epochs": 8, "stage2_epochs": 1, "max_leaf": 4, **parameters},
        alpha=3.0,
        beta=100.0,
        batch_size=16,
        lr_labels=0.3,
        dropout=0.0,
        random_state=0,
    )


def text_pipeline():
    return make_pipeline(TfidfVectorizer(), elias())


@pytest.fixture
def corpus(csr_container):
    rng = np.random.default_rng(0)
    chosen = [rng.choice(len(WORDS), size=3, replace=False) for _ in range(90)]
    names = [[WORDS[word] for word in words[:2]] for words in chosen]
    pairs = zip(names, chosen, strict=True)
    texts = [" ".join(pair * 2 + [WORDS[words[2]]]) for pair, words in pairs]
    Y = MultiLabelBinarizer(sparse_output=True).fit_transform(names)
    return texts, csr_container(Y), names


@pytest.mark.parametrize(
    "search",
    [
        GridSearchCV(text_pipeline(), GRID, scoring=P2, cv=2),
        RandomizedSearchCV(text_pipeline(), GRID, n_iter=2, scoring=P2, cv=2, random_state=0),
        # its own smallest resource counts the rows of y in a way that sparse y refuses
        HalvingGridSearchCV(text_pipeline(), GRID, scoring=P2, cv=2, min_resources=30),
    ],
    ids=lambda search: type(search).__name__,
)
def test_searches(corpus, search):
    texts, Y, _ = corpus
    search.fit(texts, Y)
    assert search.best_score_ > 0.6
    assert type(search.predict(texts)) is type(Y)
    assert P2(search, texts, Y) > 0.8


def test_multi_metric_search_with_refit(corpus):
    texts, Y, _ = corpus
    scorer = TopKScorer(["precision", "psp"], k=[1, 2])
    search = GridSearchCV(text_pipeline(), GRID, scoring=scorer, refit="psp_at_2", cv=2)
    search.fit(texts, Y)
    assert search.best_score_ == search.cv_results_["mean_test_psp_at_2"].max() > 0.6


def test_nested_cross_validation(corpus):
    texts, Y, _ = corpus
    search = GridSearchCV(text_pipeline(), GRID, scoring=P2, cv=2)
    assert cross_validate(search, texts, Y, scoring=P2, cv=2)["test_score"].min() > 0.6


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_joblib_backends(corpus, backend):
    texts, Y, _ = corpus
    one = cross_validate(text_pipeline(), texts, Y, scoring=P2, cv=2)["test_score"]
    with joblib.parallel_backend(backend, n_jobs=2):
        two = cross_validate(text_pipeline(), texts, Y, scoring=P2, cv=2)["test_score"]
    np.testing.assert_array_equal(one, two)


def test_prediction_parameters_without_a_refit(corpus):
    texts, Y, _ = corpus
    grid = {"eliasclassifier__shortlist_size": [1, 8]}
    found = prediction_curve(text_pipeline(), texts, Y, param_grid=grid, scoring=P2, cv=2)
    search = GridSearchCV(text_pipeline(), grid, scoring=P2, cv=2, refit=False).fit(texts, Y)
    for key in ("split0_test_score", "split1_test_score", "mean_test_score"):
        np.testing.assert_array_equal(found[key], search.cv_results_[key])
    assert found["mean_test_score"][0] <= 0.5 < found["mean_test_score"][1]


def test_beam_width_is_set_on_the_model_trained_with_its_own(corpus):
    """Unlike in a grid search, which trains with each beam width as well."""
    texts, Y, _ = corpus
    pipe = make_pipeline(TfidfVectorizer(), elias(max_leaf=2, kappa=2))
    pipe.fit(texts[:60], Y[:60])
    grid = {BEAM: [20, 1]}
    found = prediction_curve(pipe, texts[60:], Y[60:], param_grid=grid, scoring=P2, cv="prefit")
    for candidate, score in zip(found["params"], found["split0_test_score"], strict=True):
        assert score == P2(pipe.set_params(**candidate), texts[60:], Y[60:])
    assert found["split0_test_score"][0] > found["split0_test_score"][1]


def test_feature_union(corpus):
    texts, Y, _ = corpus
    union = FeatureUnion([("tfidf", TfidfVectorizer()), ("pairs", CountVectorizer(binary=True))])
    assert P2(make_pipeline(union, elias()).fit(texts, Y), texts, Y) > 0.8


def text_columns():
    return ColumnTransformer(
        [("title", TfidfVectorizer(), "title"), ("size", "passthrough", ["n"])]
    )


def test_column_transformer_of_a_data_frame(corpus):
    texts, Y, _ = corpus
    frame = pd.DataFrame({"title": texts, "n": np.zeros(len(texts))})
    search = GridSearchCV(make_pipeline(text_columns(), elias()), GRID, scoring=P2, cv=2)
    assert search.fit(frame, Y).best_score_ > 0.6


def test_pandas_strings(corpus):
    texts, Y, _ = corpus
    column = pd.Series(texts, index=np.arange(len(texts))[::-1])
    expected = cross_validate(text_pipeline(), texts, Y, scoring=P2, cv=2)["test_score"]
    found = cross_validate(text_pipeline(), column, Y, scoring=P2, cv=2)["test_score"]
    np.testing.assert_array_equal(found, expected)
    grid = {BEAM: [20]}
    curve = prediction_curve(text_pipeline(), column, Y, param_grid=grid, scoring=P2, cv=2)
    assert curve["mean_test_score"][0] == pytest.approx(expected.mean())


def test_polars_strings(corpus):
    pl = pytest.importorskip("polars")
    texts, Y, _ = corpus
    frame = pl.DataFrame({"title": texts, "n": np.zeros(len(texts))})
    expected = cross_validate(text_pipeline(), texts, Y, scoring=P2, cv=2)["test_score"]
    found = cross_validate(text_pipeline(), frame["title"], Y, scoring=P2, cv=2)["test_score"]
    np.testing.assert_array_equal(found, expected)
    columns = make_pipeline(text_columns(), elias())
    grid = {"eliasclassifier__shortlist_size": [1, 8]}
    found = prediction_curve(columns, frame, Y, param_grid=grid, scoring=P2, cv=2)
    assert found["mean_test_score"][1] > 0.6


def test_lists_of_names_and_back(corpus):
    texts, _, names = corpus
    with pytest.raises(ValueError, match=r"MultiLabelBinarizer\(sparse_output=True\)"):
        text_pipeline().fit(texts, names)
    binarizer = MultiLabelBinarizer(sparse_output=True)
    pipe = text_pipeline().fit(texts, binarizer.fit_transform(names))
    top = pipe[-1].predict_topk(pipe[:-1].transform(texts), k=2)
    ranked = binarizer.classes_[top.indices]
    hits = [len(set(row) & set(true)) for row, true in zip(ranked, names, strict=True)]
    assert np.mean(hits) > 1.6
    predicted = binarizer.inverse_transform(pipe.predict(texts))
    assert len(predicted) == len(names)
    assert set().union(*predicted) <= set(WORDS)


def test_set_output(corpus):
    texts, Y, _ = corpus
    svd = TruncatedSVD(6, random_state=0)
    pipe = make_pipeline(TfidfVectorizer(), svd, elias())
    pipe[1].set_output(transform="pandas")
    pipe.fit(texts, Y)
    assert pipe[-1].feature_names_in_.tolist() == [f"truncatedsvd{i}" for i in range(6)]
    assert 0 < P2(pipe, texts, Y) <= 1


def test_cross_val_predict(corpus):
    texts, Y, _ = corpus
    predicted = cross_val_predict(text_pipeline(), texts, Y, cv=2)
    by_hand = text_pipeline().fit(texts[45:], Y[45:]).predict(texts[:45])
    np.testing.assert_array_equal(predicted.toarray()[:45], by_hand.toarray())


def test_train_test_split_keeps_the_container(corpus):
    texts, Y, _ = corpus
    train, test, Y_train, Y_test = train_test_split(texts, Y, random_state=0)
    assert type(Y_train) is type(Y_test) is type(Y)
    pipe = text_pipeline().fit(train, Y_train)
    top = pipe[-1].predict_topk(pipe[:-1].transform(test), k=2)
    assert P2(pipe, test, Y_test) == precision_at_k(Y_test, top, 2)


@pytest.mark.parametrize("ensemble", [StackingClassifier, VotingClassifier])
def test_ensembles_of_one_label_a_row(corpus, csr_container, ensemble):
    """Only these make sense: for an indicator both ask for dense or one-dimensional y."""
    texts, _, names = corpus
    first = np.array([pair[0] for pair in names])
    X = csr_container(CountVectorizer().fit_transform(texts))
    models = [("elias", elias(stage1_epochs=15)), ("linear", LogisticRegression())]
    extra = {"cv": 2} if ensemble is StackingClassifier else {}
    fitted = ensemble(models, **extra).fit(X, first)
    assert set(fitted.predict(X)) <= set(WORDS)
    assert fitted.score(X, first) > 0.4  # two words a row are as likely
