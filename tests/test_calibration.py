"""CalibratedTopKClassifier against isotonic regression, thresholds and re-ranking by hand."""

import pickle

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from skxmc._sparse import as_csr
from skxmc.base import BaseXMCClassifier
from skxmc.calibration import CalibratedTopKClassifier
from skxmc.datasets import make_xmc_classification
from skxmc.metrics import TopKScorer, expected_calibration_error, get_scorer, propensities
from skxmc.model_selection import LabelCoverShuffleSplit
from skxmc.topk import TopK, topk_from_csr

N_LABELS = 20


class Centroids(BaseXMCClassifier):
    """Scores by inner products with the mean of a label's rows, to one digit: with many ties."""

    def __init__(self, digits=2, scale=1.0):
        self.digits = digits
        self.scale = scale

    def _fit(self, X, Y):
        self.centroids_ = (as_csr(X).T @ Y).toarray() / np.maximum(self.label_counts_, 1)

    def _topk(self, X, k):
        scores = np.round(self.scale * (as_csr(X) @ self.centroids_), self.digits)
        indices = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return TopK(indices, np.take_along_axis(scores, indices, 1).astype(np.float32))

    def _threshold(self):
        return 0.0


def rows(start, end):
    """Some rows of one data set."""
    return ALL_X[start:end], ALL_Y[start:end]


ALL_X, ALL_Y = make_xmc_classification(
    n_samples=1600,
    n_features=60,
    n_labels=N_LABELS,
    n_labels_per_row=2.0,
    noise=0.5,
    random_state=0,
)
X, Y = rows(0, 400)
NEW_X, NEW_Y = rows(400, 800)


def held_out(fraction=0.1, seed=0):
    splitter = LabelCoverShuffleSplit(1, test_size=fraction, random_state=seed)
    return next(splitter.split(Y, Y))


def pairs(model, rows_X, rows_Y, n_candidates):
    """Scores and truth of each candidate of each row."""
    top = model.predict_topk(rows_X, k=n_candidates)
    truth = np.take_along_axis(rows_Y.toarray(), top.indices, axis=1)
    return top.scores.ravel().astype(float), truth.ravel().astype(float)


def isotonic_by_hand(scores, truth):
    """The min-max formula: max over starts of the min over ends of the mean in between."""
    x = np.unique(scores)
    sums = np.array([truth[scores == value].sum() for value in x])
    counts = np.array([(scores == value).sum() for value in x])
    fitted = [
        max(
            min(sums[a : b + 1].sum() / counts[a : b + 1].sum() for b in range(i, x.size))
            for a in range(i + 1)
        )
        for i in range(x.size)
    ]
    return x, np.array(fitted)


@pytest.mark.parametrize("n_candidates", [3, N_LABELS, 100])
def test_isotonic_by_hand(n_candidates):
    model = CalibratedTopKClassifier(Centroids(), n_candidates=n_candidates, random_state=0)
    top = model.fit(X, Y).predict_topk(NEW_X, k=4)
    train, held = held_out()
    base = Centroids().fit(X[train], Y[train])
    x, fitted = isotonic_by_hand(*pairs(base, X[held], Y[held], min(n_candidates, N_LABELS)))
    expected = base.predict_topk(NEW_X, k=4)
    np.testing.assert_array_equal(top.indices, expected.indices)
    by_hand = np.maximum(np.interp(expected.scores, x, fitted), 1e-9)
    np.testing.assert_allclose(top.scores, by_hand, rtol=2e-6)
    assert top.scores.dtype == np.float32
    assert model.n_samples_calibration_ == held.size == 40


def platt_by_hand(x, truth):
    n_true, n_false = truth.sum(), (1 - truth).sum()
    targets = np.where(truth == 1, (n_true + 1) / (n_true + 2), 1 / (n_false + 2))

    def loss(parameters):
        z = parameters[0] * x + parameters[1]
        return (np.logaddexp(0, z) - targets * z).sum()

    return minimize(loss, [1.0, 0.0], tol=1e-10).x


@pytest.mark.parametrize("scale", [0.1, 10.0])
@pytest.mark.parametrize("n_rows", [4, 400])
def test_sigmoid_by_hand(scale, n_rows):
    base = FrozenEstimator(Centroids(digits=5, scale=scale).fit(X, Y))
    model = CalibratedTopKClassifier(base, method="sigmoid").fit(NEW_X[:n_rows], NEW_Y[:n_rows])
    scores, truth = pairs(base, NEW_X[:n_rows], NEW_Y[:n_rows], N_LABELS)
    inside = scores.min() >= 0 and scores.max() <= 1
    assert inside == (scale < 1), "both features of the sigmoid are seen"
    clipped = np.clip(scores, 1e-12, 1 - 1e-7)
    x = np.log(clipped / (1 - clipped)) if inside else scores
    slope, offset = platt_by_hand(x, truth)
    by_hand = 1 / (1 + np.exp(-(slope * x + offset)))
    got = model.predict_topk(NEW_X[:n_rows], k=N_LABELS).scores.ravel()
    np.testing.assert_allclose(got, np.maximum(by_hand, 1e-9), rtol=1e-2, atol=1e-4)


def test_sigmoid_of_misleading_scores_is_flat():
    base = FrozenEstimator(Centroids(scale=-1.0).fit(X, Y))
    model = CalibratedTopKClassifier(base, method="sigmoid").fit(NEW_X, NEW_Y)
    top = model.predict_topk(NEW_X, k=N_LABELS)
    np.testing.assert_allclose(top.scores, NEW_Y.sum() / NEW_Y.shape[0] / N_LABELS, rtol=0.05)


@pytest.mark.parametrize(("method", "bound"), [("isotonic", 0.05), ("sigmoid", 0.08)])
def test_probabilities_are_calibrated(method, bound):
    base = Centroids(digits=5, scale=3.0).fit(X, Y)
    model = CalibratedTopKClassifier(FrozenEstimator(base), method=method).fit(NEW_X, NEW_Y)
    other_X, other_Y = rows(800, 1600)
    after = expected_calibration_error(other_Y, model.predict_topk(other_X, k=5))
    raw = base.predict_topk(other_X, k=5)
    clipped = TopK(raw.indices, np.clip(raw.scores, 0, 1).astype(np.float32))
    assert after < bound < expected_calibration_error(other_Y, clipped) / 3


def test_order_is_that_of_the_estimator():
    base = Centroids().fit(X, Y)
    model = CalibratedTopKClassifier(FrozenEstimator(base)).fit(NEW_X, NEW_Y)
    raw, top = (m.predict_topk(NEW_X, k=N_LABELS) for m in (base, model))
    np.testing.assert_array_equal(top.indices, raw.indices)
    steps, raw_steps = np.diff(top.scores), np.diff(raw.scores)
    np.testing.assert_array_equal(steps == 0, raw_steps == 0)
    assert (steps <= 0).all()
    p = np.unique(model.calibrator_.predict(raw.scores.ravel()))
    assert p.size < np.unique(raw.scores).size, "the calibrator makes ties"
    # fewer labels, the same scores; the dense answer ranks the same
    np.testing.assert_array_equal(model.predict_topk(NEW_X, k=3).scores, top.scores[:, :3])
    dense = topk_from_csr(sp.csr_array(model.decision_function(NEW_X)), N_LABELS)
    np.testing.assert_array_equal(dense.indices, top.indices)
    assert model.score(NEW_X, NEW_Y) == base.score(NEW_X, NEW_Y)


@pytest.mark.parametrize("tail", [0.0, 0.7])
@pytest.mark.parametrize("n_candidates", [5, N_LABELS])
def test_threshold_is_the_best_of_all(tail, n_candidates):
    base = FrozenEstimator(Centroids().fit(X, Y))
    model = CalibratedTopKClassifier(base, tail=tail, n_candidates=n_candidates)
    model.fit(NEW_X, NEW_Y)
    truth = NEW_Y.toarray()
    scores = model.decision_function(NEW_X)
    reached = np.isfinite(scores)
    assert (reached.sum(axis=1) == n_candidates).all()
    # scores of labels that the calibrator makes equal differ by float32 steps only
    values = np.unique(scores[reached])
    cuts = [0.0, *values[:-1][np.diff(values) > 1e-4 * values[1:]] * 1.00005]
    best = max(f1_score(truth, scores > cut, average="micro", zero_division=0) for cut in cuts)
    predicted = model.predict(NEW_X)
    assert f1_score(truth, predicted.toarray(), average="micro") == pytest.approx(best)
    np.testing.assert_array_equal(predicted.toarray(), scores > model.threshold_)


def test_given_threshold():
    model = CalibratedTopKClassifier(Centroids(), threshold=0.3, random_state=0).fit(X, Y)
    assert model.threshold_ == 0.3
    scores = model.decision_function(NEW_X)
    np.testing.assert_array_equal(model.predict(NEW_X).toarray(), scores > np.float32(0.3))


def test_nothing_true_predicts_nothing():
    base = FrozenEstimator(Centroids().fit(X, Y))
    model = CalibratedTopKClassifier(base).fit(NEW_X, sp.csr_array(NEW_Y.shape))
    assert model.predict(NEW_X).nnz == 0


@pytest.mark.parametrize("tail", [0.5, 1.0])
@pytest.mark.parametrize("k", [1, 4, 12])
def test_tail_by_hand(tail, k):
    base = Centroids().fit(X, Y)
    frozen = FrozenEstimator(base)
    plain = CalibratedTopKClassifier(frozen, n_candidates=8).fit(NEW_X, NEW_Y)
    model = CalibratedTopKClassifier(frozen, n_candidates=8, tail=tail).fit(NEW_X, NEW_Y)
    candidates = plain.predict_topk(NEW_X, k=max(k, 8))
    weights = propensities(Y) ** -tail
    top = model.predict_topk(NEW_X, k=k)
    for i, labels in enumerate(candidates.indices):
        scores = candidates.scores[i].astype(float) * weights[labels]
        order = sorted(range(labels.size), key=lambda j: (-np.float32(scores[j]), labels[j]))[:k]
        assert top.indices[i].tolist() == labels[order].tolist()
        np.testing.assert_allclose(top.scores[i], scores[order], rtol=1e-6)


class Given(BaseXMCClassifier):
    """Scores are the features."""

    def _fit(self, X, Y):
        self.fitted_ = True

    def _topk(self, X, k):
        return topk_from_csr(as_csr(X), k)

    def _threshold(self):
        return 0.5


def test_tail_trades_precision_for_propensity_scored_precision():
    rng = np.random.default_rng(0)
    seen = np.geomspace(1, 0.1, 20)  # propensities
    p = rng.random((2000, 20)) * seen
    truth = (rng.random(p.shape) < p).astype(int)
    base = FrozenEstimator(Given().fit(p, truth))
    scorer = TopKScorer(["precision", "psp"], k=3, propensities=seen)
    plain, half, full = (
        scorer(CalibratedTopKClassifier(base, tail=tail, propensities=seen).fit(p, truth), p, truth)
        for tail in (0.0, 0.5, 1.0)
    )
    assert plain["psp_at_3"] < half["psp_at_3"] < full["psp_at_3"]
    assert plain["precision_at_3"] > half["precision_at_3"] > full["precision_at_3"]


def test_propensities_of_the_tail():
    p = np.linspace(0.1, 1, N_LABELS)
    base = FrozenEstimator(Centroids().fit(X, Y))
    for given, expected in (
        (p, p),
        ({"a": 0.6, "b": 2.6}, propensities(Y, a=0.6, b=2.6)),
        (None, propensities(Y)),  # of the frozen model's rows
    ):
        model = CalibratedTopKClassifier(base, tail=2, propensities=given).fit(NEW_X, NEW_Y)
        np.testing.assert_allclose(model.label_weights_, expected**-2.0)
    model = CalibratedTopKClassifier(base, tail=1, propensities=p[1:])
    with pytest.raises(ValueError, match=r"propensities must have shape \(20,\)"):
        model.fit(NEW_X, NEW_Y)


def test_frozen_estimator_is_calibrated_on_all_rows():
    base = Centroids().fit(X, Y)
    model = CalibratedTopKClassifier(FrozenEstimator(base), refit=True).fit(NEW_X, NEW_Y)
    assert model.estimator_.estimator is base
    assert model.n_samples_calibration_ == NEW_X.shape[0]
    x, fitted = isotonic_by_hand(*pairs(base, NEW_X, NEW_Y, N_LABELS))
    np.testing.assert_allclose(model.calibrator_.predict(x), fitted, atol=1e-9)
    np.testing.assert_array_equal(model.label_counts_, base.label_counts_)
    assert model.n_samples_fit_ == X.shape[0]
    with pytest.raises(ValueError, match=r"y has 19 labels, but the frozen estimator .* with 20"):
        model.fit(NEW_X, NEW_Y[:, 1:])
    with pytest.raises(NotFittedError):
        CalibratedTopKClassifier(FrozenEstimator(Centroids())).fit(X, Y)


def single(indicator, names):
    return np.array(names)[indicator.toarray().argmax(axis=1)]


def test_frozen_estimator_of_named_classes():
    names = [f"label {i:02d}" for i in range(N_LABELS)]
    y, new_y = single(Y, names), single(NEW_Y, names)
    base = Centroids().fit(X, y)
    new_y[:5] = "unknown"
    few = np.isin(new_y, [*np.unique(new_y)[:6], "unknown"])
    model = CalibratedTopKClassifier(FrozenEstimator(base)).fit(NEW_X[few], new_y[few])
    np.testing.assert_array_equal(model.classes_, base.classes_)
    truth = sp.csr_array((new_y[few][:, None] == base.classes_).astype(float))
    x, fitted = isotonic_by_hand(*pairs(base, NEW_X[few], truth, base.n_labels_))
    np.testing.assert_allclose(model.calibrator_.predict(x), fitted, atol=1e-9)
    np.testing.assert_array_equal(model.predict(NEW_X), base.predict(NEW_X))


def test_named_classes_and_dense_targets():
    names = [f"label {i:02d}" for i in range(N_LABELS)]
    y = single(Y, names)
    model = CalibratedTopKClassifier(Centroids(), random_state=0).fit(X, y)
    assert set(model.estimator_.classes_) == set(y)
    np.testing.assert_array_equal(model.predict(X), model.estimator_.predict(X))
    assert model.score(X, y) == np.mean(model.predict(X) == y)
    for given in (Y.toarray().astype(np.uint8), sp.csc_matrix(Y), sp.csr_array(Y)):
        model = CalibratedTopKClassifier(Centroids(), random_state=0).fit(X, given)
        for fitted in (model, model.estimator_):
            predicted = fitted.predict(NEW_X)
            assert type(predicted) is type(given)
            assert predicted.dtype == given.dtype


def test_refit_keeps_the_calibrator():
    model, other = (
        CalibratedTopKClassifier(Centroids(), refit=refit, random_state=0).fit(X, Y)
        for refit in (False, True)
    )
    np.testing.assert_array_equal(other.estimator_.centroids_, Centroids().fit(X, Y).centroids_)
    grid = np.linspace(-1, 2)
    np.testing.assert_array_equal(model.calibrator_.predict(grid), other.calibrator_.predict(grid))
    assert model.threshold_ == other.threshold_
    assert model.estimator_.n_samples_fit_ == 360


TEXTS = [" ".join(f"w{column}" for column in X[[i]].indices) for i in range(X.shape[0])]


def test_pipeline_inside():
    pipeline = make_pipeline(CountVectorizer(), Centroids())
    for texts in (TEXTS, tuple(TEXTS), np.array(TEXTS), pd.Series(TEXTS, index=range(9, 409))):
        model = CalibratedTopKClassifier(pipeline, random_state=0).fit(texts, Y)
        assert not hasattr(model, "n_features_in_")
    train, _ = held_out()
    by_hand = clone(pipeline).fit([TEXTS[i] for i in train], Y[train])
    expected = by_hand[-1].predict_topk(by_hand[0].transform(TEXTS), k=3)
    np.testing.assert_array_equal(model.predict_topk(TEXTS, k=3).indices, expected.indices)
    assert model.predict(pd.Series(TEXTS)).shape == Y.shape
    by_hand = np.take_along_axis(Y.toarray(), expected.indices, axis=1).mean()
    assert get_scorer("precision_at_3")(model, TEXTS, Y) == pytest.approx(by_hand)


def test_inside_a_pipeline_and_a_search():
    pipeline = make_pipeline(MaxAbsScaler(), CalibratedTopKClassifier(Centroids(), random_state=0))
    grid = {
        "calibratedtopkclassifier__estimator__digits": [0, 3],
        "calibratedtopkclassifier__tail": [0.0, 0.5],
    }
    search = GridSearchCV(pipeline, grid, scoring=TopKScorer("precision", k=1), cv=2).fit(X, Y)
    assert search.best_params_["calibratedtopkclassifier__estimator__digits"] == 3
    assert np.unique(search.cv_results_["mean_test_score"]).size > 2
    assert search.predict(X).shape == Y.shape


def test_search_inside():
    search = GridSearchCV(Centroids(), {"digits": [0, 3]}, cv=2)
    model = CalibratedTopKClassifier(search, random_state=0).fit(X, Y)
    assert model.estimator_.best_params_ == {"digits": 3}
    assert model.n_features_in_ == 60
    train, _ = held_out()
    expected = Centroids(digits=3).fit(X[train], Y[train]).predict_topk(NEW_X, k=2)
    np.testing.assert_array_equal(model.predict_topk(NEW_X, k=2).indices, expected.indices)


def test_data_frames_keep_their_names():
    frame = pd.DataFrame(X.toarray(), columns=[f"f{i}" for i in range(60)], index=range(7, 407))
    model = CalibratedTopKClassifier(Centroids(), random_state=0).fit(frame, Y)
    assert model.feature_names_in_.tolist() == frame.columns.tolist()
    plain = CalibratedTopKClassifier(Centroids(), random_state=0).fit(X, Y)
    np.testing.assert_array_equal(model.predict(frame).toarray(), plain.predict(X).toarray())
    with pytest.raises(ValueError, match="feature names"):
        model.predict_topk(frame.rename(columns={"f0": "other"}))
    model.fit(X, Y)
    assert not hasattr(model, "feature_names_in_")


def test_default_estimator_copies_and_seeds():
    model = CalibratedTopKClassifier(random_state=3).fit(X, Y)
    assert type(model.estimator_).__name__ == "EliasClassifier"
    assert model.estimator is None
    top = model.predict_topk(NEW_X)
    for other in (pickle.loads(pickle.dumps(model)), clone(model).fit(X, Y)):
        again = other.predict_topk(NEW_X)
        np.testing.assert_array_equal(again.indices, top.indices)
        np.testing.assert_array_equal(again.scores, top.scores)
        assert other.threshold_ == model.threshold_


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"method": "beta"}, ValueError, "method must be one of 'isotonic', 'sigmoid'"),
        ({"validation_fraction": 1}, ValueError, "validation_fraction must be a number > 0"),
        ({"refit": 1}, TypeError, "refit must be True or False"),
        ({"n_candidates": 0}, ValueError, "n_candidates must be an int >= 1"),
        ({"threshold": "f1"}, ValueError, "threshold must be a number or 'micro_f1', got 'f1'"),
        ({"threshold": None}, TypeError, "threshold must be a number"),
        ({"tail": -1}, ValueError, "tail must be a number >= 0"),
        ({"random_state": "x"}, ValueError, "invalid random_state='x'"),
        ({"estimator": LogisticRegression()}, TypeError, "predict_topk.*got LogisticRegression"),
        ({"estimator": make_pipeline(MaxAbsScaler())}, TypeError, "predict_topk.*got Pipeline"),
    ],
)
def test_refused_parameters(parameters, error, message):
    model = CalibratedTopKClassifier(**{"estimator": Centroids(), **parameters})
    with pytest.raises(error, match=message):
        model.fit(X, Y)
    with pytest.raises(NotFittedError):
        model.predict(X)


def test_refused_data():
    model = CalibratedTopKClassifier(Centroids())
    with pytest.raises(ValueError, match="none can be held out"):
        model.fit(X[:20], np.eye(20))
    with pytest.raises(ValueError, match="needs at least 2, got 1 sample"):
        model.fit(X[:1], Y[:1])
    with pytest.raises(ValueError, match="X has 400 rows, but y has 399"):
        model.fit(X, Y[1:])
    for wrong in ("text", None):
        with pytest.raises(ValueError, match="X must be array-like or a list of strings"):
            model.fit(wrong, Y)
    search = GridSearchCV(Centroids(), {}, cv=2, refit=False)
    with pytest.raises(TypeError, match="with refit on"):
        CalibratedTopKClassifier(search).fit(X, Y)
