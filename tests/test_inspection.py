"""Displays: what they draw, and what they say without matplotlib."""

import sys

import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MaxAbsScaler

from skxmc import EliasClassifier
from skxmc.datasets import make_xmc_classification
from skxmc.inspection import ReliabilityDisplay
from skxmc.metrics import reliability_curve
from skxmc.topk import TopK

TOP = TopK(np.array([[0, 1, 2]] * 4), np.linspace(0.95, 0.05, 12).reshape(4, 3))
TRUTH = np.array([[1, 1, 0], [1, 0, 0], [0, 1, 0], [0, 0, 0]])


@pytest.fixture
def pyplot():
    matplotlib = pytest.importorskip("matplotlib")
    backend = matplotlib.get_backend()
    from matplotlib import pyplot

    pyplot.switch_backend("agg")
    yield pyplot
    pyplot.close("all")
    pyplot.switch_backend(backend)


def test_draws_the_curve(pyplot):
    display = ReliabilityDisplay.from_predictions(TRUTH, TOP, n_bins=20, name="mine")
    curve = reliability_curve(TRUTH, TOP, n_bins=20)
    held = curve.counts > 0
    assert 0 < held.sum() < 20
    np.testing.assert_array_equal(display.line_.get_xdata(), curve.mean_score[held])
    np.testing.assert_array_equal(display.line_.get_ydata(), curve.share_true[held])
    assert display.line_.get_label() == "mine"
    assert [text.get_text() for text in display.ax_.get_legend().get_texts()] == ["mine"]
    assert display.figure_ is display.ax_.figure
    assert len(display.ax_.lines) == 2, "the curve and the diagonal"
    # a second one into the same axes
    other = display.plot(display.ax_, ref_line=False, line_kw={"color": "red", "label": "again"})
    assert other is display
    assert len(display.ax_.lines) == 3
    assert display.line_.get_color() == "red"


def test_from_estimator_walks_into_pipelines(pyplot):
    X, Y = make_xmc_classification(n_samples=200, n_labels=30, random_state=0)
    model = make_pipeline(
        MaxAbsScaler(), EliasClassifier(stage1_epochs=2, stage2_epochs=0, random_state=0)
    ).fit(X, Y)
    figure, ax = pyplot.subplots()
    display = ReliabilityDisplay.from_estimator(
        model, X, Y, k=3, n_bins=5, strategy="quantile", ax=ax
    )
    assert display.figure_ is figure
    assert display.name == "Pipeline"
    top = model[-1].predict_topk(model[0].transform(X), k=3)
    expected = reliability_curve(Y, top, n_bins=5, strategy="quantile")
    for one, other in zip(display.curve, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    every = ReliabilityDisplay.from_estimator(model, X, Y, k=1000, ax=ax)
    assert every.curve.counts.sum() == pytest.approx(Y.shape[0] * Y.shape[1], rel=0.5)


def test_no_name_no_legend(pyplot):
    display = ReliabilityDisplay(reliability_curve(TRUTH, TOP)).plot()
    assert display.ax_.get_legend() is None


def test_refused():
    with pytest.raises(ValueError, match="k must be an int >= 1, got 0"):
        ReliabilityDisplay.from_estimator(None, None, TRUTH, k=0)
    with pytest.raises(TypeError, match="predict_topk"):
        ReliabilityDisplay.from_estimator(MaxAbsScaler(), TRUTH, TRUTH)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r"ReliabilityDisplay.*pip install 'skxmc\[plot\]'"):
        ReliabilityDisplay.from_predictions(TRUTH, TOP)
