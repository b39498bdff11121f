"""Reliability curve and calibration error against a dense loop."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.calibration import calibration_curve

from skxmc.metrics import expected_calibration_error, reliability_curve
from skxmc.topk import TopK, topk_to_csr


def problem(seed=0, n=60, n_labels=9, k=4):
    rng = np.random.default_rng(seed)
    top = rng.permuted(np.tile(np.arange(n_labels), (n, 1)), axis=1)[:, :k]
    scores = -np.sort(-(rng.random((n, k)) ** 2), axis=1).astype(np.float32)
    top[:5, 2:], scores[:5, 2:] = -1, -np.inf
    Y = (rng.random((n, n_labels)) < 0.3).astype(int)
    return Y, TopK(top, scores), rng.integers(0, 4, n)


def by_loops(Y, top, edges, weights):
    """Mean score, share true and count of each bin, one pair after the other."""
    sums = np.zeros((len(edges) - 1, 3))
    for i, row in enumerate(top.indices):
        for label, score in zip(row, top.scores[i], strict=True):
            if label < 0:
                continue
            place = 0
            while score > edges[place + 1]:
                place += 1
            sums[place] += weights[i] * np.array([score, Y[i][label], 1.0])
    return sums[:, 0], sums[:, 1], sums[:, 2]


@pytest.mark.parametrize("strategy", ["uniform", "quantile"])
@pytest.mark.parametrize("n_bins", [1, 7, 10])
@pytest.mark.parametrize("weighted", [False, True])
def test_against_loops(strategy, n_bins, weighted, csr_container):
    Y, top, weights = problem()
    weights = weights if weighted else np.ones(len(Y))
    arguments = {
        "n_bins": n_bins,
        "strategy": strategy,
        "sample_weight": weights if weighted else None,
    }
    curve = reliability_curve(csr_container(Y), top, **arguments)
    if strategy == "uniform":
        np.testing.assert_allclose(curve.edges, np.arange(n_bins + 1) / n_bins)
    else:
        held = np.sort(top.scores[top.indices >= 0].astype(float))
        inside = np.diff(np.searchsorted(held, curve.edges[1:-1], side="right"))
        assert set(inside) <= {held.size // n_bins, held.size // n_bins + 1}
    score, true, count = by_loops(Y, top, curve.edges, weights)
    np.testing.assert_allclose(curve.counts, count)
    np.testing.assert_allclose(curve.mean_score, score / count)
    np.testing.assert_allclose(curve.share_true, true / count)
    error = expected_calibration_error(csr_container(Y), top, **arguments)
    assert error == pytest.approx(np.abs(score - true).sum() / count.sum())
    as_csr = csr_container(topk_to_csr(top, Y.shape[1]))
    assert expected_calibration_error(Y, as_csr, **arguments) == pytest.approx(error)


def test_one_label_is_sklearns_curve():
    rng = np.random.default_rng(0)
    scores = rng.random(500).astype(np.float32)
    Y = (rng.random(500) < scores**2).astype(int)
    curve = reliability_curve(Y[:, None], TopK(np.zeros((500, 1), int), scores[:, None]))
    share, mean = calibration_curve(Y, scores, n_bins=10)
    np.testing.assert_allclose(curve.share_true, share)
    np.testing.assert_allclose(curve.mean_score, mean, rtol=1e-6)


def test_edges_belong_to_the_bin_below_and_empty_bins_are_nan():
    top = TopK(np.array([[0, 1, 2]]), np.array([[1.0, 0.5, 0.0]]))
    curve = reliability_curve([[1, 0, 0]], top, n_bins=4)
    assert curve.counts.tolist() == [1, 1, 0, 1]
    np.testing.assert_array_equal(curve.share_true, [0, 0, np.nan, 1])
    np.testing.assert_array_equal(curve.mean_score, [0, 0.5, np.nan, 1])
    assert expected_calibration_error([[1, 0, 0]], top, n_bins=4) == pytest.approx(0.5 / 3)


def test_equal_scores_are_one_quantile_bin():
    top = TopK(np.array([[0], [1]]), np.array([[0.25], [0.25]]))
    curve = reliability_curve(np.eye(2), top, strategy="quantile")
    assert [part.tolist() for part in curve[1:]] == [[0.25], [1.0], [2.0]]


@pytest.mark.parametrize(
    ("scores", "arguments", "error", "message"),
    [
        ([[1.5]], {}, ValueError, r"probabilities in \[0, 1\].*CalibratedTopKClassifier"),
        ([[-0.1]], {}, ValueError, r"probabilities in \[0, 1\]"),
        ([[np.nan]], {}, ValueError, r"probabilities in \[0, 1\]"),
        ([[0.5]], {"n_bins": 0}, ValueError, "n_bins must be an int >= 1, got 0"),
        ([[0.5]], {"strategy": "equal"}, ValueError, "strategy must be one of 'uniform', 'quant"),
        ([[0.5, 0.4]], {}, ValueError, "of the shape of its indices"),
    ],
)
def test_refused(scores, arguments, error, message):
    for function in (reliability_curve, expected_calibration_error):
        with pytest.raises(error, match=message):
            function([[1, 0]], TopK(np.array([[0]]), np.array(scores)), **arguments)


def test_refused_forms():
    with pytest.raises(TypeError, match=r"a TopK or a sparse array.*got ndarray"):
        reliability_curve([[1, 0]], np.array([[0.5, 0.2]]))
    with pytest.raises(ValueError, match="must have y_true's shape"):
        reliability_curve([[1, 0]], sp.csr_array([[0.5]]))
    with pytest.raises(ValueError, match="no label at all"):
        reliability_curve([[1, 0]], sp.csr_array((1, 2)))
    with pytest.raises(ValueError, match="must have 1 rows"):
        reliability_curve([[1, 0]], TopK(np.array([[0], [1]]), np.array([[0.5], [0.5]])))
