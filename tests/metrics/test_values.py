"""Every metric: the slow reference, scikit-learn where it has the same, figures by hand."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    f1_score,
    label_ranking_average_precision_score,
    ndcg_score,
    precision_score,
    recall_score,
    top_k_accuracy_score,
)

import skxmc.metrics as metrics
from skxmc.metrics import evaluate_topk
from skxmc.topk import TopK

from . import reference

PLAIN = ["precision", "recall", "ndcg", "mrr", "map"]
LABEL_WISE = ["coverage", "macro_precision", "macro_recall", "macro_f1"]
SCORED = ["psp", "psndcg"]
ALL = PLAIN + LABEL_WISE + SCORED


def function(name):
    return getattr(metrics, f"{name}_at_k")


def compute(name, Y, y_score, k, propensities=None, **kwargs):
    extra = {"propensities": propensities} if name in SCORED else {}
    return function(name)(Y, y_score, k, **extra, **kwargs)


def random_problem(rng, n=40, n_labels=12, density=0.2):
    Y = (rng.random((n, n_labels)) < density).astype(int)
    Y[:3] = 0  # rows without true labels
    scores = rng.integers(0, 4, (n, n_labels)).astype(float)  # many ties
    scores[rng.random(scores.shape) < 0.3] = -np.inf
    return Y, scores, rng.uniform(0.05, 1.0, n_labels)


@st.composite
def problems(draw):
    n, n_labels = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    cells = st.lists(st.integers(0, 1), min_size=n_labels, max_size=n_labels)
    score = st.sampled_from([-np.inf, -1.0, 0.0, 0.5, 2.0])
    scores = st.lists(score, min_size=n_labels, max_size=n_labels)
    return (
        np.array(draw(st.lists(cells, min_size=n, max_size=n))),
        np.array(draw(st.lists(scores, min_size=n, max_size=n))),
        np.array(draw(st.lists(st.floats(0.01, 1), min_size=n_labels, max_size=n_labels))),
        np.array(draw(st.lists(st.integers(0, 3), min_size=n, max_size=n))) + np.eye(1, n)[0],
        draw(st.lists(st.integers(1, 9), min_size=1, max_size=3)),
    )


@pytest.mark.parametrize("name", ALL)
@settings(max_examples=120, deadline=None)
@given(problem=problems())
def test_reference(name, problem):
    Y, scores, p, weights, ks = problem
    rankings = [reference.ranking_of(row) for row in scores]
    expected = [reference.value(name, Y.tolist(), rankings, k, p, weights) for k in ks]
    got = compute(name, Y, scores, ks, p, sample_weight=weights)
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-15)
    assert 0 <= min(got) <= max(got) <= 1 + 1e-12


@pytest.mark.parametrize("name", ALL)
def test_int_k_gives_a_float_and_a_sequence_an_array_in_its_order(name):
    Y, scores, p = random_problem(np.random.default_rng(0))
    several = compute(name, Y, scores, [5, 1, 3], p)
    assert isinstance(several, np.ndarray)
    assert several.dtype == np.float64
    for k, expected in zip([5, 1, 3], several, strict=True):
        single = compute(name, Y, scores, k, p)
        assert type(single) is float
        assert single == pytest.approx(expected, rel=1e-12)
    assert compute(name, Y, scores, np.int64(5), p) == pytest.approx(several[0])


@pytest.mark.parametrize("name", ALL)
def test_a_perfect_ranking(name):
    rng = np.random.default_rng(1)
    Y = (rng.random((30, 8)) < 0.4).astype(int)
    Y[:, 0] = 1
    p = rng.uniform(0.1, 1, 8)
    perfect = compute(name, Y, Y / p, 8, p)
    if name in ("precision", "macro_precision", "macro_f1"):  # wrong labels fill the first k
        assert perfect < 1
    else:
        assert perfect == pytest.approx(1.0)


@pytest.mark.parametrize("name", ALL)
def test_weights_are_repeated_rows(name):
    rng = np.random.default_rng(2)
    Y, scores, p = random_problem(rng)
    weights = rng.integers(0, 4, len(Y))
    rows = np.repeat(np.arange(len(Y)), weights)
    weighted = compute(name, Y, scores, [1, 3, 5], p, sample_weight=weights)
    repeated = compute(name, Y[rows], scores[rows], [1, 3, 5], p)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-12)


@pytest.mark.parametrize("name", ALL)
def test_no_true_label_anywhere_is_zero(name):
    assert compute(name, np.zeros((3, 4)), np.ones((3, 4)), 2, np.ones(4)) == 0.0


@pytest.mark.parametrize("name", ALL)
def test_nothing_predicted_is_zero(name):
    Y = np.ones((3, 4))
    assert compute(name, Y, np.full((3, 2), -1), 2, np.ones(4)) == 0.0
    assert compute(name, Y, sp.csr_array((3, 4)), 2, np.ones(4)) == 0.0


def test_propensity_scored_with_equal_propensities():
    Y, scores, _ = random_problem(np.random.default_rng(3))
    p = np.full(Y.shape[1], 0.3)
    precision = metrics.precision_at_k(Y, scores, [1, 3])
    possible = np.array([np.minimum(Y.sum(axis=1), k).mean() / k for k in (1, 3)])
    np.testing.assert_allclose(
        metrics.psp_at_k(Y, scores, [1, 3], propensities=p), precision / possible
    )
    filled = Y.any(axis=1)
    np.testing.assert_allclose(
        metrics.psndcg_at_k(Y, scores, [1, 3], propensities=p),
        metrics.ndcg_at_k(Y[filled], scores[filled], [1, 3]),
    )


def test_by_hand():
    Y = np.array([[1, 0, 1, 0], [0, 0, 0, 1], [0, 0, 0, 0]])
    top = TopK(np.array([[1, 2, 0], [3, 0, -1], [0, 1, 2]]), np.zeros((3, 3), np.float32))
    assert metrics.precision_at_k(Y, top, 3) == pytest.approx((2 / 3 + 1 / 3 + 0) / 3)
    assert metrics.recall_at_k(Y, top, 2) == pytest.approx((1 / 2 + 1 + 0) / 3)
    third, half = 1 / np.log2(3), 1 / np.log2(4)
    assert metrics.ndcg_at_k(Y, top, 3) == pytest.approx(((third + half) / (1 + third) + 1) / 3)
    assert metrics.mrr_at_k(Y, top, 3) == pytest.approx((1 / 2 + 1) / 3)
    assert metrics.map_at_k(Y, top, 3) == pytest.approx(((1 / 2 + 2 / 3) / 2 + 1) / 3)
    p = np.array([0.5, 1.0, 0.25, 0.2])
    assert metrics.psp_at_k(Y, top, 2, propensities=p) == pytest.approx((4 + 5) / (4 + 2 + 5))
    above = (4 * third) / (1 + third) + 5
    below = (4 + 2 * third) / (1 + third) + 5
    assert metrics.psndcg_at_k(Y, top, 2, propensities=p) == pytest.approx(above / below)
    assert metrics.coverage_at_k(Y, top, [1, 2, 3]).tolist() == [1 / 3, 2 / 3, 1.0]


@pytest.mark.parametrize("k", [1, 3, 12])
def test_scikit_learn_ndcg(k):
    rng = np.random.default_rng(4)
    Y = (rng.random((50, 12)) < 0.3).astype(int)
    scores = rng.permuted(np.tile(np.linspace(-1, 1, 12), (50, 1)), axis=1)
    weights = rng.random(50)
    expected = ndcg_score(Y, scores, k=k, sample_weight=weights)
    # scikit-learn, too, counts rows without true labels as 0 and averages over all rows.
    got = metrics.ndcg_at_k(Y, scores, k, sample_weight=weights)
    assert got == pytest.approx(expected)


def test_scikit_learn_label_ranking_average_precision():
    """MAP over the whole ranking. Rows without true labels count 0 here and 1 there."""
    rng = np.random.default_rng(8)
    Y = (rng.random((50, 12)) < 0.3).astype(int)
    Y[:3] = 0
    scores = rng.permuted(np.tile(np.linspace(-1, 1, 12), (50, 1)), axis=1)
    weights = rng.random(50)
    theirs = label_ranking_average_precision_score(Y, scores, sample_weight=weights)
    empty = weights[~Y.any(axis=1)].sum() / weights.sum()
    got = metrics.map_at_k(Y, scores, 12, sample_weight=weights)
    assert got == pytest.approx(theirs - empty)


@pytest.mark.parametrize("k", [1, 3])
def test_scikit_learn_top_k_accuracy(k):
    """With one label a row, recall at k is accuracy of the top k."""
    rng = np.random.default_rng(9)
    labels, scores = rng.integers(0, 6, 50), rng.random((50, 6))
    expected = top_k_accuracy_score(labels, scores, k=k, labels=np.arange(6))
    assert metrics.recall_at_k(np.eye(6)[labels], scores, k) == pytest.approx(expected)


def xclib_ratio(Y, scores, inverse, k, discount):
    """As pyxclib reports PSP and PSnDCG: over the same of a ranking by true weight, dense."""

    def mean_gain(ranked):
        best = np.argsort(-ranked, axis=1, kind="stable")[:, :k]
        gains = np.take_along_axis(Y * inverse, best, axis=1) * discount[:k]
        norm = np.array([discount[: min(k, n)].sum() for n in Y.sum(axis=1)])
        return (gains.sum(axis=1) / (norm if discount[-1] < 1 else k)).mean()

    return mean_gain(scores) / mean_gain(Y * inverse)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_pyxclib_propensity_scored(k):
    rng = np.random.default_rng(10)
    Y = (rng.random((50, 12)) < 0.3).astype(int)
    Y[np.arange(50), rng.integers(0, 12, 50)] = 1  # there, rows without a label are left to nan
    scores = rng.permuted(np.tile(np.linspace(-1, 1, 12), (50, 1)), axis=1)
    p = rng.uniform(0.05, 1, 12)
    for name, discount in (
        ("psp", np.ones(12)),
        ("psndcg", 1 / np.log2(np.arange(12) + 2)),
    ):
        expected = xclib_ratio(Y, scores, 1 / p, k, discount)
        assert function(name)(Y, scores, k, propensities=p) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("macro_precision", precision_score),
        ("macro_recall", recall_score),
        ("macro_f1", f1_score),
    ],
)
def test_scikit_learn_macro(name, theirs):
    rng = np.random.default_rng(5)
    Y, scores, _ = random_problem(rng)
    predicted = np.zeros_like(Y)
    for row, labels in enumerate(scores):
        predicted[row, reference.ranking_of(labels)[:3]] = 1
    weights = rng.random(len(Y))
    expected = theirs(Y, predicted, average="macro", zero_division=0, sample_weight=weights)
    assert function(name)(Y, scores, 3, sample_weight=weights) == pytest.approx(expected)


def test_evaluate_topk_gives_all_at_once():
    Y, scores, p = random_problem(np.random.default_rng(6))
    got = evaluate_topk(Y, scores, (1, 5), ALL, propensities=p)
    assert list(got) == [f"{name}_at_{k}" for name in ALL for k in (1, 5)]
    for name in ALL:
        for k in (1, 5):
            assert type(got[f"{name}_at_{k}"]) is float
            assert got[f"{name}_at_{k}"] == pytest.approx(compute(name, Y, scores, k, p))


def test_evaluate_topk_defaults():
    Y, scores, p = random_problem(np.random.default_rng(7))
    assert set(evaluate_topk(Y, scores, 5)) == {"precision_at_5", "recall_at_5", "ndcg_at_5"}
    with_p = evaluate_topk(Y, scores, 5, propensities=p)
    assert {"psp_at_5", "psndcg_at_5"} < set(with_p)
    with pytest.raises(ValueError, match=r"metric must be one of 'precision'.*got 'P'"):
        evaluate_topk(Y, scores, 5, ["P"])
    with pytest.raises(ValueError, match="at least one of"):
        evaluate_topk(Y, scores, 5, [])
    with pytest.raises(ValueError, match=r"need propensities.*propensities\(Y_train\)"):
        evaluate_topk(Y, scores, 5, ["psp"])
