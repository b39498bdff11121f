"""Cross-validation and curves on sparse y, each against fits and scores by hand."""

import numpy as np
import pytest
from sklearn import config_context, get_config
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler
from toy_rankers import CentroidClassifier

from skxmc.metrics import TopKScorer, precision_at_k
from skxmc.model_selection import (
    cross_validate,
    learning_curve,
    prediction_curve,
    validation_curve,
)

P3 = "precision_at_3"


class CountingClassifier(CentroidClassifier):
    """Has a parameter of prediction, and counts fits."""

    n_fits = 0

    def __init__(self, power=0.0, skipped=0):
        super().__init__(power)
        self.skipped = skipped

    def fit(self, X, y):
        CountingClassifier.n_fits += 1
        return super().fit(X, y)

    def predict_topk(self, X, k=5):
        top = super().predict_topk(X, k + self.skipped)
        return type(top)(top.indices[:, self.skipped :], top.scores[:, self.skipped :])


def by_hand(model, X, Y, train, test):
    fitted = model.fit(X[train], Y[train])
    return precision_at_k(Y[test], fitted.predict_topk(X[test], 3), 3)


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_cross_validate(data, n_jobs):
    X, Y = data
    before = get_config()
    found = cross_validate(CentroidClassifier(), X, Y, scoring=P3, cv=3, n_jobs=n_jobs)
    expected = [by_hand(CentroidClassifier(), X, Y, *split) for split in KFold(3).split(X)]
    np.testing.assert_allclose(found["test_score"], expected)
    assert get_config() == before


def test_cross_validate_with_many_metrics_and_everything_returned(data):
    X, Y = data
    scorer = TopKScorer(["precision", "psp"], k=[1, 3])
    found = cross_validate(
        CentroidClassifier(),
        X,
        Y,
        scoring=scorer,
        cv=3,
        return_train_score=True,
        return_estimator=True,
        return_indices=True,
    )
    for fold, model in enumerate(found["estimator"]):
        test = found["indices"]["test"][fold]
        for name, value in scorer(model, X[test], Y[test]).items():
            assert found[f"test_{name}"][fold] == pytest.approx(value)
    assert set(found) > {f"train_{name}" for name in scorer.names}


def test_metadata_routing(data):
    X, Y = data
    weights = np.arange(X.shape[0]) % 3 + 0.5
    scorer = TopKScorer("recall", 3)
    with config_context(enable_metadata_routing=True):
        found = cross_validate(
            CentroidClassifier().set_fit_request(sample_weight=False),
            X,
            Y,
            scoring=TopKScorer("recall", 3).set_score_request(sample_weight=True),
            cv=3,
            params={"sample_weight": weights},
        )
    for score, (train, test) in zip(found["test_score"], KFold(3).split(X), strict=True):
        model = CentroidClassifier().fit(X[train], Y[train])
        expected = scorer(model, X[test], Y[test], sample_weight=weights[test])
        assert score == pytest.approx(expected)


def test_nested_cross_validation(data):
    X, Y = data
    search = GridSearchCV(
        CentroidClassifier(), {"power": [-3.0, 0.0]}, scoring=TopKScorer("precision", 3), cv=2
    )
    found = cross_validate(search, X, Y, scoring=P3, cv=3, return_estimator=True)
    expected = [
        by_hand(CentroidClassifier(**inner.best_params_), X, Y, *split)
        for inner, split in zip(found["estimator"], KFold(3).split(X), strict=True)
    ]
    np.testing.assert_allclose(found["test_score"], expected)


def test_learning_curve(data):
    X, Y = data
    sizes, train_scores, test_scores = learning_curve(
        CentroidClassifier(), X, Y, train_sizes=[20, 60], cv=3, scoring=P3
    )
    assert sizes.tolist() == [20, 60]
    for fold, (train, test) in enumerate(KFold(3).split(X)):
        for place, size in enumerate(sizes):
            part = train[:size]
            expected = by_hand(CentroidClassifier(), X, Y, part, test)
            assert test_scores[place, fold] == pytest.approx(expected)
            expected = by_hand(CentroidClassifier(), X, Y, part, part)
            assert train_scores[place, fold] == pytest.approx(expected)


def test_validation_curve(data):
    X, Y = data
    values = [-3.0, 0.0]
    _, test_scores = validation_curve(
        CentroidClassifier(), X, Y, param_name="power", param_range=values, cv=3, scoring=P3
    )
    for fold, split in enumerate(KFold(3).split(X)):
        expected = [by_hand(CentroidClassifier(value), X, Y, *split) for value in values]
        np.testing.assert_allclose(test_scores[:, fold], expected)


def test_prediction_curve_is_a_grid_search_with_one_fit_a_fold(data):
    X, Y = data
    grid = {"countingclassifier__skipped": [0, 2]}
    pipe = make_pipeline(MaxAbsScaler(), CountingClassifier())
    scorer = TopKScorer(["precision", "ndcg"], k=3)
    search = GridSearchCV(pipe, grid, scoring=scorer, cv=3, refit=False).fit(X, Y)
    CountingClassifier.n_fits = 0
    found = prediction_curve(pipe, X, Y, param_grid=grid, scoring=scorer, cv=3)
    assert CountingClassifier.n_fits == 3
    timing = {"mean_fit_time", "mean_score_time"}
    for key in found.keys() - timing:
        np.testing.assert_array_equal(found[key], search.cv_results_[key], err_msg=key)
    assert found["mean_fit_time"].shape == found["mean_score_time"].shape == (2,)


def test_prediction_curve_on_a_fitted_model(data):
    X, Y = data
    model = CountingClassifier(skipped=1).fit(X[:60], Y[:60])
    CountingClassifier.n_fits = 0
    grid = [{"skipped": [0, 2]}, {"power": [0.0]}]
    found = prediction_curve(model, X[60:], Y[60:], param_grid=grid, scoring=P3, cv="prefit")
    assert CountingClassifier.n_fits == 0
    assert model.skipped == 1
    for candidate, score in zip([0, 2, 1], found["split0_test_score"], strict=True):
        top = model.set_params(skipped=candidate).predict_topk(X[60:], 3)
        assert score == precision_at_k(Y[60:], top, 3)


def test_prediction_curve_of_lists_in_workers(data):
    X, Y = data
    texts = [" ".join(f"w{j}" for j in row.nonzero()[-1]) for row in X.toarray()]
    pipe = make_pipeline(TfidfVectorizer(), CentroidClassifier())
    with pytest.warns(UserWarning, match="all candidates score the same.*GridSearchCV"):
        found = prediction_curve(
            pipe,
            texts,
            Y,
            param_grid={"centroidclassifier__power": [0.0, 1.0]},
            n_jobs=2,
            cv=2,
            scoring=P3,
        )
    assert found["mean_test_score"][0] == found["mean_test_score"][1] > 0


def test_prediction_curve_restores_the_model_after_an_error(data):
    X, Y = data
    model = CountingClassifier().fit(X, Y)
    with pytest.raises(TypeError):
        prediction_curve(model, X, Y, param_grid={"skipped": [1, "x"]}, scoring=P3, cv="prefit")
    assert model.skipped == 0
