"""Breakdown by label frequency and bootstrap intervals."""

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from skxmc.metrics import (
    bootstrap_interval,
    breakdown_by_frequency,
    ndcg_at_k,
    precision_at_k,
    psp_at_k,
)


def problem(seed=0, n=200, n_labels=15):
    rng = np.random.default_rng(seed)
    Y = (rng.random((n, n_labels)) < 0.2).astype(int)
    top = rng.permuted(np.tile(np.arange(n_labels), (n, 1)), axis=1)[:, :5]
    top[:10, 3:] = -1
    return Y, top, rng.integers(0, 150, n_labels)


def test_breakdown_against_loops():
    Y, top, counts = problem()
    weights = np.arange(len(Y)) % 4
    bins = (0, 10, 50, 100)
    table = breakdown_by_frequency(Y, top, counts, 3, bins=bins, sample_weight=weights)
    for place, (low, high) in enumerate(zip(bins, (*bins[1:], np.inf), strict=True)):
        inside = [label for label, count in enumerate(counts) if low <= count < high]
        true = predicted = correct = 0
        covered, present = set(), set()
        for row, ranked, weight in zip(Y, top[:, :3], weights, strict=True):
            for label in inside:
                true += weight * row[label]
                predicted += weight * (label in ranked)
                correct += weight * (label in ranked and row[label])
                if weight and row[label]:
                    present.add(label)
                    covered |= {label} & set(ranked)
        assert table["n_labels"][place] == len(inside)
        assert table["n_true"][place] == true
        assert table["n_predicted"][place] == predicted
        assert table["n_correct"][place] == correct
        assert table["precision"][place] == pytest.approx(correct / predicted)
        assert table["recall"][place] == pytest.approx(correct / true)
        assert table["coverage"][place] == pytest.approx(len(covered) / len(present))
    total = precision_at_k(Y, top, 3, sample_weight=weights)
    assert table["contribution"].sum() == pytest.approx(total)


def test_breakdown_table_and_empty_bins():
    Y, top, _ = problem()
    table = breakdown_by_frequency(sp.csr_matrix(Y), top, np.full(15, 7))
    frame = pd.DataFrame(table).set_index("bin")
    assert frame.index.tolist() == ["0", "1-5", "6-20", "21-100", ">=101"]
    assert frame["n_labels"].tolist() == [0, 0, 15, 0, 0]
    assert frame.loc["0", "recall"] == 0


@pytest.mark.parametrize("bins", [(), (1, 5), (0, 5, 5), (0, 1.5), 5, "0", [[0, 1]]])
def test_refused_bins(bins):
    Y, top, counts = problem()
    with pytest.raises(ValueError, match="bins must be rising ints that start with 0"):
        breakdown_by_frequency(Y, top, counts, bins=bins)


def test_refused_counts_and_k():
    Y, top, counts = problem()
    for wrong in (counts[1:], -counts - 1, counts[None]):
        with pytest.raises(ValueError, match=r"15 counts >= 0.*Y_train"):
            breakdown_by_frequency(Y, top, wrong)
    with pytest.raises(TypeError, match="k must be an int"):
        breakdown_by_frequency(Y, top, counts, [1, 3])


def test_interval_matches_drawing_the_rows_themselves():
    Y, top, _ = problem()
    p = np.linspace(0.1, 1, 15)
    got = bootstrap_interval(
        Y, top, "psp", 3, propensities=p, n_resamples=50, confidence=0.8, random_state=3
    )
    rng = np.random.RandomState(3)
    values = []
    for _ in range(50):
        rows = rng.randint(len(Y), size=len(Y))
        values.append(psp_at_k(Y[rows], top[rows], 3, propensities=p))
    assert got.value == pytest.approx(psp_at_k(Y, top, 3, propensities=p))
    assert (got.low, got.high) == pytest.approx(tuple(np.quantile(values, [0.1, 0.9])))


def test_interval_in_several_chunks_is_the_same(monkeypatch):
    Y, top, _ = problem()
    whole = bootstrap_interval(Y, top, "ndcg", n_resamples=20, random_state=0)
    monkeypatch.setattr("skxmc.metrics._bootstrap._CELLS", 3 * len(Y))
    chunked = bootstrap_interval(Y, top, "ndcg", n_resamples=20, random_state=0)
    assert chunked == pytest.approx(whole)
    assert whole.low < whole.value < whole.high
    assert whole.value == pytest.approx(ndcg_at_k(Y, top, 5))


def test_interval_width_is_that_of_the_normal_approximation():
    Y, top, _ = problem(n=2000)
    got = bootstrap_interval(Y, top, "precision", 1, n_resamples=2000, random_state=0)
    spread = np.sqrt(got.value * (1 - got.value) / 2000)
    assert got.high - got.low == pytest.approx(2 * 1.96 * spread, rel=0.1)


def test_interval_with_weights():
    Y, top, _ = problem()
    weights = np.arange(len(Y)) % 3
    got = bootstrap_interval(Y, top, sample_weight=weights, n_resamples=20, random_state=0)
    assert got.value == pytest.approx(precision_at_k(Y, top, sample_weight=weights))
    one = np.eye(1, len(Y))[0]  # most resamples miss the only row that counts
    got = bootstrap_interval(Y, top, sample_weight=one, n_resamples=20, random_state=0)
    assert np.isfinite(got).all()


def test_global_random_state_is_untouched():
    Y, top, _ = problem()
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    bootstrap_interval(Y, top, n_resamples=3, random_state=1)
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize(
    ("kwargs", "error", "message"),
    [
        ({"metric": "coverage"}, ValueError, "average over rows.*biased downwards"),
        ({"metric": "macro_f1"}, ValueError, "average over rows"),
        ({"metric": "f1"}, ValueError, "metric must be one of"),
        ({"metric": "psp"}, ValueError, "need propensities"),
        ({"k": [1, 3]}, TypeError, "k must be an int"),
        ({"confidence": 1}, ValueError, "confidence must be a number > 0 and < 1, got 1"),
        ({"n_resamples": 0}, ValueError, "n_resamples must be an int >= 1, got 0"),
    ],
)
def test_refused_bootstrap(kwargs, error, message):
    Y, top, _ = problem()
    with pytest.raises(error, match=message):
        bootstrap_interval(Y, top, **kwargs)
