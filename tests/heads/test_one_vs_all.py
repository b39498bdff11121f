"""One-vs-all SVMs, trained a block at a time, against LinearSVC and against the label by itself."""

import tracemalloc

import numba
import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.svm import LinearSVC

from skxmc._sparse import as_csr
from skxmc.heads import SparseRanker
from skxmc.heads import ranker as ranker_module
from skxmc.heads.one_vs_all import WIDTH, block_bytes, fit_one_vs_all
from skxmc.heads.svm import SvmSettings, feature_thresholds, fit_svms, training_pairs
from skxmc.topk import TopK

N_ROWS, N_FEATURES, N_LABELS = 90, 21, 2 * WIDTH + 5
NOBODYS = 70


@pytest.fixture(scope="module")
def data():
    """Rows of 0 to 13 features (blocks of four and what is left), three blocks of labels."""
    rng = np.random.default_rng(0)
    X = np.where(rng.random((N_ROWS, N_FEATURES)) < 0.3, rng.random((N_ROWS, N_FEATURES)), 0)
    X /= np.maximum(np.linalg.norm(X, axis=1, keepdims=True), 1e-9)
    X[:2] = 0
    Y = (rng.random((N_ROWS, N_LABELS)) < 0.2).astype(np.int8)
    Y[:, NOBODYS] = 0
    return as_csr(sp.csr_array(X.astype(np.float32))), as_csr(sp.csr_array(Y))


def settings(n_labels=N_LABELS, positive=2.0, tol=1e-5, threshold=0.0, max_iter=2000):
    return SvmSettings(0.5, np.full(n_labels, positive), tol, max_iter, threshold)


def fit(X, Y, how=None, seed=0, n_threads=1):
    weight, bias = fit_one_vs_all(X, Y, how or settings(Y.shape[1]), seed, n_threads)
    assert weight.shape == (Y.shape[1], X.shape[1])
    assert weight.dtype == bias.dtype == np.float32
    return weight.toarray(), bias


def test_weights_are_those_of_linear_svc(data):
    X, Y = data
    weight, bias = fit(X, Y)
    for label in (0, WIDTH - 1, WIDTH, 2 * WIDTH, N_LABELS - 1):
        svc = LinearSVC(
            C=1, class_weight={0: 0.5, 1: 2.0}, tol=1e-10, max_iter=100_000, random_state=0
        ).fit(X, Y.toarray()[:, label])
        np.testing.assert_allclose(weight[label], svc.coef_[0], atol=2e-5)
        np.testing.assert_allclose(bias[label], svc.intercept_[0], atol=2e-5)


def test_weights_are_those_of_labels_with_rows_of_their_own(data):
    X, Y = data
    pairs = training_pairs(Y, np.full((N_ROWS, 1), -1))
    every = np.full(N_LABELS, N_ROWS)
    other, other_bias = fit_svms(X, pairs, every, settings(), seed=5, n_threads=1)
    weight, bias = fit(X, Y)
    has_rows = np.arange(N_LABELS) != NOBODYS
    np.testing.assert_allclose(weight[has_rows], other.toarray()[has_rows], atol=2e-5)
    np.testing.assert_allclose(bias[has_rows], other_bias[has_rows], atol=2e-5)


def test_each_label_has_a_cost_of_its_own(data):
    X, Y = data
    costs = np.linspace(0.2, 3, N_LABELS)
    weight, _ = fit(X, Y, settings()._replace(cost_positive=costs))
    for label in (3, WIDTH + 1):
        alone, _ = fit(X, Y, settings(positive=costs[label]))
        np.testing.assert_array_equal(weight[label], alone[label])


@pytest.mark.parametrize("cost", [1e-300, 1e300])
def test_costs_beyond_single_precision(data, cost):
    weight, bias = fit(*data, settings(positive=cost))
    assert np.isfinite(weight).all()
    assert np.isfinite(bias).all()


def test_a_label_does_not_depend_on_its_company(data):
    X, Y = data
    how = settings(tol=0.1, max_iter=100)  # where labels end after different numbers of sweeps
    weight, bias = fit(X, Y, how)
    order = np.random.default_rng(1).permutation(N_LABELS)
    moved, moved_bias = fit(X, as_csr(Y[:, order]), how)
    np.testing.assert_array_equal(moved, weight[order])
    np.testing.assert_array_equal(moved_bias, bias[order])
    alone, _ = fit(X, as_csr(Y[:, [9]]), settings(1, tol=0.1, max_iter=100))
    np.testing.assert_array_equal(alone[0], weight[9])


def test_threads_do_not_matter_and_the_seed_does(data):
    X, Y = data
    how = settings(tol=0.1)
    weight, _ = fit(X, Y, how)
    threads = max(2, numba.config.NUMBA_NUM_THREADS)
    np.testing.assert_array_equal(fit(X, Y, how, n_threads=threads)[0], weight)
    assert np.abs(fit(X, Y, how, seed=1)[0] - weight).max() > 0


def test_a_label_that_no_row_has_learns_nothing(data):
    weight, bias = fit(*data)
    assert not weight[NOBODYS].any()
    assert bias[NOBODYS] == 0


def test_a_label_of_all_rows_and_no_labels_at_all(data):
    X, _ = data
    weight, bias = fit(X, as_csr(sp.csr_array(np.ones((N_ROWS, 1), np.int8))), settings(1))
    margins = X @ weight[0] + bias[0]
    assert (margins > 0.9).all()
    weight, bias = fit(X, as_csr(sp.csr_array((N_ROWS, 0), dtype=np.int8)), settings(0))
    assert weight.size == bias.size == 0


def test_small_weights_are_dropped_and_no_others(data):
    X, Y = data
    whole, bias = fit(X, Y)
    least = feature_thresholds(X, 0.3)
    pruned, same_bias = fit(X, Y, settings(threshold=0.3))
    np.testing.assert_array_equal(pruned, np.where(np.abs(whole) < least, 0, whole))
    assert 0 < np.count_nonzero(pruned) < np.count_nonzero(whole)
    np.testing.assert_array_equal(bias, same_bias)


def test_tolerance_and_sweeps_say_when_to_stop(data):
    X, Y = data
    exact, _ = fit(X, Y)
    errors = [
        np.abs(fit(X, Y, settings(tol=tol, max_iter=sweeps))[0] - exact).max()
        for tol, sweeps in ((0.1, 1), (0.1, 100), (0.001, 1000))
    ]
    assert errors[0] > errors[1] > errors[2]


def test_a_bar_counts_the_labels(data, capsys):
    X, Y = data
    fit_one_vs_all(X, Y, settings(), 0, 1, verbose=1)
    assert f"{N_LABELS}/{N_LABELS}" in capsys.readouterr().err


def test_the_ranker_takes_this_way_where_labels_learn_from_all_rows(data):
    X, Y = data
    ranker = SparseRanker(n_holdout=0, random_state=0)
    assert ranker.takes_all_rows(4000, 5000)
    assert not ranker.takes_all_rows(4000, 5001)
    assert SparseRanker(n_random="all").takes_all_rows(10**6, 10**6)
    assert not SparseRanker(n_random=50).takes_all_rows(10, 10)
    seed = np.random.RandomState(0).randint(2**31 - 1)
    expected, _ = fit(X, Y, settings(positive=0.5, tol=0.1, threshold=0.1, max_iter=100), seed)
    np.testing.assert_allclose(ranker.fit(X, Y).weight_.toarray(), expected, atol=1e-6)


def test_what_is_held_out_does_not_change_the_way(data, monkeypatch):
    """Rows that are left would be few enough for all of them; together they are not."""
    X, Y = data
    top = TopK(np.zeros((N_ROWS, 1), np.int64), np.zeros((N_ROWS, 1), np.float32))
    monkeypatch.setattr(ranker_module, "_ALL_PAIRS", N_ROWS * N_LABELS - 1)
    monkeypatch.setattr(ranker_module, "fit_one_vs_all", None)
    SparseRanker(n_holdout=10, random_state=0).fit(X, Y, top)


def test_few_labels_are_trained_by_themselves(data, monkeypatch):
    X, Y = data
    few, more = as_csr(Y[:, :15]), as_csr(Y[:, :16])
    monkeypatch.setattr(ranker_module, "fit_one_vs_all", None)
    settings = {"tol": 1e-6, "threshold": 0, "n_random": "all", "random_state": 0}
    alone = SparseRanker(**settings).fit(X, few).weight_.toarray()
    monkeypatch.undo()
    np.testing.assert_allclose(
        SparseRanker(**settings).fit(X, more).weight_.toarray()[:15], alone, atol=2e-5
    )


@pytest.mark.parametrize("n_features", [0, 1])
def test_no_rows_and_hardly_a_feature(n_features):
    Y = as_csr(sp.csr_array(np.tile(np.array([[1, 0]], np.int8), (4, 10))))
    X = as_csr(sp.csr_array(np.ones((4, n_features), np.float32)))
    weight, bias = fit(X, Y)
    # the minimum of (n + 1) b^2 / 2 + 4 * 2 * (1 - (n + 1) b)^2
    np.testing.assert_allclose(bias[::2], 16 / (16 * (n_features + 1) + 1), rtol=1e-5)
    np.testing.assert_allclose(weight[::2], np.tile(bias[::2, None], n_features), rtol=1e-5)
    assert not bias[1::2].any()
    weight, bias = fit(as_csr(X[:0]), as_csr(Y[:0]))
    assert not weight.any()
    assert not bias.any()


@pytest.mark.parametrize(("n_rows", "n_features"), [(40_000, 100), (100, 40_000)])
def test_memory_by_the_allocator(n_rows, n_features):
    """What a block takes at its peak, beside rows, labels and the weights it returns."""
    X = as_csr(sp.random_array((n_rows, n_features), density=1e-3, dtype=np.float32, rng=0))
    Y = as_csr(sp.random_array((n_rows, WIDTH), density=0.02, rng=0).astype(np.int8))
    Y.data[:] = 1
    fit_one_vs_all(X, Y, settings(WIDTH, max_iter=1), 0, 1)
    tracemalloc.start()
    weight, _ = fit_one_vs_all(X, Y, settings(WIDTH, max_iter=1), 0, 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    given_back = 3 * (weight.data.nbytes + weight.indices.nbytes)
    assert 0.7 < (peak - given_back) / block_bytes(n_rows, n_features) < 1.3
