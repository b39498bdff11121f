"""The three ways of asking agree with one another and with their descriptions."""

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import skxmc.base

from .estimators import data, single_labels


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(k=st.integers(1, 60), first=st.integers(0, 150), n_rows=st.integers(1, 40))
def test_topk_contract(fitted, k, first, n_rows):
    model, X, _ = fitted
    rows = X[first : first + n_rows]
    indices, scores = top = model.predict_topk(rows, k=k)
    assert indices.shape == scores.shape == (n_rows, k)
    assert indices.dtype == np.int64
    assert scores.dtype == np.float32
    assert top.indices is indices
    for row, values in zip(indices.tolist(), scores.tolist(), strict=True):
        n_found = sum(label >= 0 for label in row)
        assert row[n_found:] == [-1] * (k - n_found)
        assert values[n_found:] == [-np.inf] * (k - n_found)
        assert np.isfinite(values[:n_found]).all()
        assert len(set(row[:n_found])) == n_found
        assert max(row, default=0) < model.n_labels_
        order = sorted(range(n_found), key=lambda i: (-values[i], row[i]))
        assert order == list(range(n_found)), "best first, ties by the smaller index"


def test_topk_of_fewer_is_the_beginning(fitted):
    model, X, _ = fitted
    whole = model.predict_topk(X, k=model.n_labels_)
    for k in (1, 4):
        part = model.predict_topk(X, k=k)
        np.testing.assert_array_equal(part.indices, whole.indices[:, :k])
        np.testing.assert_array_equal(part.scores, whole.scores[:, :k])


def test_default_k_is_5(fitted):
    model, X, _ = fitted
    assert model.predict_topk(X).indices.shape[1] == 5


def test_equal_rows_with_equal_labels_tie(kind):
    """Labels that always come together get equal scores, hence the order of their columns."""
    X, Y = data(n_samples=60, n_labels=6)
    twice = sp.hstack([Y, Y], format="csr")
    model = kind.make(**kind.exhaustive).fit(X, twice)
    indices, scores = model.predict_topk(X, k=12)
    # in training, two columns of one matrix product may round apart
    np.testing.assert_allclose(scores[:, 0::2], scores[:, 1::2], rtol=max(1e-6, kind.batch_rtol))
    equal = scores[:, 0::2] == scores[:, 1::2]
    assert equal.mean() > 0.5, "the test sees ties"
    assert (indices[:, 0::2] < indices[:, 1::2])[equal].all()


@pytest.mark.parametrize("dense", [False, True])
def test_predict_is_the_labels_above_the_threshold(kind, dense):
    X, Y = data()
    model = kind.make().fit(X, Y.toarray() if dense else Y)
    scores = model.decision_function(X)
    predicted = model.predict(X)
    predicted = predicted if dense else predicted.toarray()
    assert 0 < predicted.sum() < predicted.size, "the test sees both answers"
    np.testing.assert_array_equal(predicted, scores > kind.threshold)


def test_decision_function_holds_the_topk_scores(fitted):
    model, X, _ = fitted
    scores = model.decision_function(X)
    assert scores.dtype == np.float32
    assert scores.shape == (X.shape[0], model.n_labels_)
    indices, best = model.predict_topk(X, k=model.n_labels_)
    for i in range(X.shape[0]):
        order = sorted(range(model.n_labels_), key=lambda label: (-scores[i, label], label))
        n_found = int((indices[i] >= 0).sum())
        assert indices[i, :n_found].tolist() == order[:n_found]
        np.testing.assert_array_equal(scores[i, order], best[i])


def test_decision_function_shapes(kind):
    X, Y = data()
    many = single_labels(Y)
    model = kind.make().fit(X, many)
    scores = model.decision_function(X)
    assert scores.shape == (X.shape[0], np.unique(many).size)
    np.testing.assert_array_equal(model.classes_[scores.argmax(axis=1)], model.predict(X))
    two = np.where(many > 10, "yes", "no")
    model = kind.make().fit(X, two)
    scores = model.decision_function(X)
    assert scores.shape == (X.shape[0],)
    np.testing.assert_array_equal(np.where(scores > 0, "yes", "no"), model.predict(X))
    assert len(set(model.predict(X))) == 2, "the test sees both answers"


@pytest.mark.parametrize("rows", [1, 50])
def test_decision_function_refuses_what_is_too_large(fitted, monkeypatch, rows):
    model, X, _ = fitted
    monkeypatch.setattr(skxmc.base, "MAX_DENSE_BYTES", rows * model.n_labels_ * 4)
    assert model.decision_function(X[:rows]).shape[0] == rows
    with pytest.raises(ValueError, match=r"GiB.*predict_topk"):
        model.decision_function(X[: rows + 1])
    model.predict_topk(X), model.predict(X)  # bounded anyway


def test_decision_function_names_the_size(fitted, monkeypatch):
    model, X, _ = fitted
    monkeypatch.setattr(model, "n_labels_", 100_000_000)
    with pytest.raises(ValueError, match=r"a dense 200 x 100000000 array of 74\.5 GiB"):
        model.decision_function(X)


def test_predictions_do_not_depend_on_how_many_rows_are_looked_at_together(fitted, monkeypatch):
    model, X, _ = fitted
    expected = model.predict(X).toarray(), model.decision_function(X)
    monkeypatch.setattr(skxmc.base, "_BATCH", 7)
    np.testing.assert_array_equal(model.predict(X).toarray(), expected[0])
    np.testing.assert_array_equal(model.decision_function(X), expected[1])


def test_score_is_precision_at_1(fitted):
    model, X, Y = fitted
    truth, best = Y.toarray(), model.predict_topk(X, k=1).indices[:, 0]
    by_hand = np.mean([truth[i, label] == 1 for i, label in enumerate(best)])
    assert by_hand > 0.1
    others = sp.vstack([Y[1:], Y[:1]], format="csr")
    expected = np.mean([truth[(i + 1) % len(best), label] for i, label in enumerate(best)])
    assert model.score(X, others) == pytest.approx(expected, abs=1e-12)
    assert expected < by_hand
    for y in (Y, sp.csr_matrix(Y), sp.coo_array(Y), truth, truth.tolist(), truth.astype(bool)):
        assert model.score(X, y) == pytest.approx(by_hand, abs=1e-12)


def test_score_of_other_rows_and_shapes(fitted):
    model, X, Y = fitted
    with pytest.raises(ValueError, match="rows"):
        model.score(X, Y[:-1])
    with pytest.raises(ValueError, match="labels"):
        model.score(X, Y[:, :3])
    with pytest.raises(ValueError, match="2-d"):
        model.score(X, single_labels(Y))


def test_score_of_one_label_a_row(kind):
    X, Y = data()
    y = single_labels(Y)
    model = kind.make().fit(X, y)
    right = sum(a == b for a, b in zip(model.predict(X), y, strict=True))
    assert model.score(X, y) == pytest.approx(right / y.size, abs=1e-12)
    assert model.score(X, y[:, None]) == pytest.approx(right / y.size, abs=1e-12)
    with pytest.raises(ValueError, match="inconsistent"):
        model.score(X, y[:-1])


def test_a_row_does_not_see_its_neighbours(kind, fitted):
    model, X, _ = fitted
    together = model.predict_topk(X, k=10)
    for i in range(0, X.shape[0], 9):
        alone = model.predict_topk(X[[i]], k=10)
        np.testing.assert_array_equal(alone.indices[0], together.indices[i])
        np.testing.assert_allclose(alone.scores[0], together.scores[i], rtol=kind.batch_rtol)


def test_order_of_rows(fitted):
    model, X, _ = fitted
    order = np.random.default_rng(0).permutation(X.shape[0])
    whole, shuffled = model.predict_topk(X, k=10), model.predict_topk(X[order], k=10)
    np.testing.assert_array_equal(shuffled.indices, whole.indices[order])
    np.testing.assert_array_equal(shuffled.scores, whole.scores[order])
    again = model.predict_topk(X[np.r_[order, order]], k=10)
    np.testing.assert_array_equal(again.scores, np.r_[shuffled.scores, shuffled.scores])


def test_learns_something(fitted):
    """Better than naming the most frequent label for every row."""
    model, X, Y = fitted
    most = Y.toarray().mean(axis=0).max()
    assert model.score(X, Y) > most + 0.1


def test_predict_only_parameters_take_effect_after_fit(kind):
    X, Y = data()
    model = kind.make().fit(X, Y)
    before = model.decision_function(X)
    for name, value in kind.predict_only.items():
        old = model.get_params()[name]
        changed = model.set_params(**{name: value}).decision_function(X)
        assert not np.array_equal(changed, before), name
        assert np.isfinite(changed).sum() < np.isfinite(before).sum(), f"{name} searches less"
        np.testing.assert_array_equal(
            changed, pickle.loads(pickle.dumps(model)).decision_function(X)
        )
        back = model.set_params(**{name: old}).decision_function(X)
        np.testing.assert_array_equal(back, before)


def test_fitted_attributes(fitted):
    model, X, Y = fitted
    truth = Y.toarray()
    assert model.n_labels_ == truth.shape[1]
    assert model.n_features_in_ == X.shape[1]
    assert model.n_samples_fit_ == X.shape[0]
    np.testing.assert_array_equal(model.classes_, np.arange(truth.shape[1]))
    np.testing.assert_array_equal(model.label_counts_, truth.sum(axis=0))
    assert len(model.history_) == model.n_epochs_ > 0
    public = [name for name in vars(model) if not name.startswith("_")]
    fitted_state = set(public) - set(model.get_params(deep=False))
    assert all(name.endswith("_") for name in fitted_state)
