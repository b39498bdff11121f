"""Bad input: what is said, and that a failed call leaves everything as it was."""

import re

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.exceptions import ConvergenceWarning, NotFittedError

from skxmc.training.loop import Trainer

from .estimators import assert_same_topk, data, single_labels

X, Y = data(n_samples=60)
DENSE_X, DENSE_Y = X.toarray(), Y.toarray()


def with_entry(array, value):
    out = np.array(array, dtype=float)
    out[np.unravel_index(np.abs(out).argmax(), out.shape)] = value
    return out


@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array, sp.csc_matrix])
def test_x_not_finite(kind, fitted, form, value):
    bad = form(with_entry(DENSE_X, value))
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        kind.make().fit(bad, Y)
    model = fitted[0]
    for ask in (model.predict, model.predict_topk, model.decision_function):
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            ask(bad)


@pytest.mark.parametrize("value", [np.nan, np.inf, -1, 0.5, 2])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array, sp.coo_matrix])
def test_y_not_an_indicator(kind, form, value):
    with pytest.raises(ValueError, match=r"^y .*(NaN or infinity|0/1 indicator)"):
        kind.make().fit(X, form(with_entry(DENSE_Y, value)))


@pytest.mark.parametrize("y", [[[1, 2]] * 60, [[1], [2, 3]] * 30, [["a", "b"]] * 60])
def test_lists_of_labels(kind, y):
    with pytest.raises(ValueError, match="MultiLabelBinarizer"):
        kind.make().fit(X, y)


def test_no_y(kind):
    with pytest.raises(ValueError, match="requires y"):
        kind.make().fit(X, None)
    with pytest.raises(TypeError, match="'y'"):
        kind.make().fit(X)


@pytest.mark.parametrize("n_rows", [1, 59, 61])
def test_lengths_of_x_and_y(kind, n_rows):
    y = sp.csr_array((n_rows, 4))
    with pytest.raises(ValueError, match=f"X has 60 rows, but y has {n_rows}"):
        kind.make().fit(X, y)


@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_no_rows(kind, fitted, form):
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        kind.make().fit(form(np.zeros((0, 4))), np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        fitted[0].predict_topk(form(np.zeros((0, fitted[0].n_features_in_))))


def test_no_features(kind):
    with pytest.raises(ValueError, match=r"0 feature\(s\)"):
        kind.make().fit(np.zeros((60, 0)), Y)


@pytest.mark.parametrize("n_features", [1, 119, 121])
@pytest.mark.parametrize("form", [np.asarray, sp.csr_array])
def test_other_number_of_features(fitted, form, n_features):
    model = fitted[0]
    other = form(np.ones((2, n_features)))
    for ask in (model.predict, model.predict_topk, model.decision_function):
        with pytest.raises(ValueError, match=f"X has {n_features} features.*expecting 120"):
            ask(other)


@pytest.mark.parametrize("wrong", [np.ones(120), np.ones((2, 3, 4)), "text", ["some", "texts"]])
def test_x_of_other_shapes_and_types(kind, wrong):
    with pytest.raises(ValueError, match=r"2D array|dim 3|Expected|convert"):
        kind.make().fit(wrong, Y)


@pytest.mark.parametrize("k", [0, -1])
def test_k_too_small(fitted, k):
    with pytest.raises(ValueError, match=f"k must be an int >= 1, got {k}"):
        fitted[0].predict_topk(X, k=k)


@pytest.mark.parametrize("k", [1.0, "1", None, True, [1]])
def test_k_of_another_type(fitted, k):
    with pytest.raises(TypeError, match=re.escape(f"k must be an int >= 1, got {k!r}")):
        fitted[0].predict_topk(X, k=k)


def test_k_too_large(fitted):
    model, rows, _ = fitted
    model.predict_topk(rows, k=np.int64(model.n_labels_))
    with pytest.raises(ValueError, match="k=61 is more than the 60 labels"):
        model.predict_topk(rows, k=61)


@pytest.mark.parametrize(
    "ask",
    [
        lambda model: model.predict(X),
        lambda model: model.predict_topk(X),
        lambda model: model.decision_function(X),
        lambda model: model.score(X, Y),
    ],
)
def test_unfitted(kind, ask):
    with pytest.raises(NotFittedError, match="not fitted"):
        ask(kind.make())


def test_a_failed_first_fit_is_no_fit(kind):
    model = kind.make()
    empty = dict(vars(model))
    for bad_X, bad_y in ((with_entry(DENSE_X, np.nan), Y), (X, DENSE_Y - 1), (X, Y[:3])):
        with pytest.raises(ValueError):  # noqa: PT011
            model.fit(bad_X, bad_y)
        assert vars(model) == empty
        with pytest.raises(NotFittedError):
            model.predict_topk(X)


class Interrupt(BaseException):
    """What ctrl-C is like."""


BAD_FITS = {
    "X": (with_entry(DENSE_X[:, :7], np.nan), DENSE_Y[:, :3]),
    "y": (DENSE_X[:, :7], DENSE_Y[:, :3] - 1),
    "lengths": (DENSE_X[:, :7], DENSE_Y[:9, :3]),
    "labels of mixed types": (DENSE_X[:, :7], np.array(["a", 1] * 30, dtype=object)),
    "interrupt": (DENSE_X[:, :7], single_labels(Y[:, :3])),
}


@pytest.mark.parametrize("case", BAD_FITS)
def test_a_failed_fit_leaves_the_old_model(kind, case, monkeypatch):
    model = kind.make().fit(X, Y)
    before = dict(vars(model))
    expected = model.predict_topk(X), model.predict(X).toarray()

    def stop(self, *args):
        raise Interrupt

    if case == "interrupt":
        monkeypatch.setattr(type(model), "_fit", stop)
    with pytest.raises((ValueError, TypeError, Interrupt)):
        model.fit(*BAD_FITS[case])
    monkeypatch.undo()
    assert vars(model).keys() == before.keys()
    assert all(vars(model)[name] is value for name, value in before.items())
    assert_same_topk(model.predict_topk(X), expected[0])
    np.testing.assert_array_equal(model.predict(X).toarray(), expected[1])


def test_an_interrupt_in_training_keeps_the_model_and_warns(kind, monkeypatch):
    step, done = Trainer._step, []

    def interrupted(*args):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return step(*args)

    monkeypatch.setattr(Trainer, "_step", interrupted)
    model = kind.make()
    with pytest.warns(ConvergenceWarning, match="interrupted after"):
        model.fit(X, Y)
    top = model.predict_topk(X, k=2)
    assert np.isfinite(top.scores[top.indices >= 0]).all()
    monkeypatch.undo()
    # the next fit is as if nothing had been
    again, fresh = model.fit(X, Y), kind.make().fit(X, Y)
    assert_same_topk(again.predict_topk(X, k=2), fresh.predict_topk(X, k=2))
