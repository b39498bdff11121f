"""The sparse ranker against LinearSVC, a minimiser of the primal, and dense brute force."""

import pickle

import numba
import numpy as np
import pytest
import scipy.sparse as sp
from scipy.optimize import minimize
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.preprocessing import normalize
from sklearn.svm import LinearSVC

from skxmc._sparse import as_csr
from skxmc.heads import SparseRanker, candidate_dots, svm
from skxmc.heads._kernels import _signed_costs, _with_drawn
from skxmc.heads.ranker import _auto_share
from skxmc.heads.svm import training_pairs
from skxmc.search.parts import RankerColumns
from skxmc.search.ranking._kernels import find_margins, make_rank_scratch
from skxmc.topk import TopK

N_ROWS, N_FEATURES, N_LABELS, K = 60, 25, 7, 3
EXACT = {"tol": 1e-10, "max_iter": 20_000, "random_state": 0, "n_random": 0}
SHORTLISTS = {"random_state": 0, "n_random": 0}


def random_shortlist(rng, n_rows=N_ROWS, n_labels=N_LABELS, k=K):
    """Candidates without repetition, a third of the rows cut short, the first row empty."""
    indices = np.argsort(rng.random((n_rows, n_labels)), axis=1)[:, :k]
    indices[rng.random(n_rows) < 0.3, k - 1] = -1
    indices[0] = -1
    scores = np.where(indices >= 0, rng.random((n_rows, k)), -np.inf).astype(np.float32)
    return TopK(indices, scores)


@pytest.fixture
def data():
    """Features (two rows empty), labels (the last never met, the one before only positive)."""
    rng = np.random.default_rng(0)
    X = np.where(rng.random((N_ROWS, N_FEATURES)) < 0.3, rng.normal(size=(N_ROWS, N_FEATURES)), 0)
    X[:2] = 0
    Y = (rng.random((N_ROWS, N_LABELS)) < 0.25).astype(np.int64)
    Y[:, -1] = 0
    top = random_shortlist(rng)
    top.indices[np.isin(top.indices, [N_LABELS - 2, N_LABELS - 1])] = -1
    return X, Y, top


def rows_of(label, Y, top):
    return np.flatnonzero((Y[:, label] == 1) | (top.indices == label).any(axis=1))


def full_weights(fitted):
    return fitted.weight_.toarray(), fitted.bias_


@pytest.mark.parametrize(("positive", "negative"), [(1, 1), (2.5, 0.5)])
def test_weights_are_those_of_linear_svc(data, csr_container, positive, negative):
    X, Y, top = data
    fitted = SparseRanker(threshold=0, cost_positive=positive, cost_negative=negative, **EXACT).fit(
        csr_container(X), csr_container(Y), top
    )
    weight, bias = full_weights(fitted)
    assert weight.dtype == bias.dtype == np.float32
    for label in range(N_LABELS - 2):
        rows = rows_of(label, Y, top)
        svm = LinearSVC(
            loss="squared_hinge", dual=True, intercept_scaling=1, C=1, tol=1e-10,
            max_iter=100_000, class_weight={0: negative, 1: positive}, random_state=0,
        )  # fmt: skip
        svm.fit(normalize(X)[rows], Y[rows, label])
        np.testing.assert_allclose(weight[label], svm.coef_[0], atol=1e-5)
        np.testing.assert_allclose(bias[label], svm.intercept_[0], atol=1e-5)


def test_costs_of_each_label(data):
    """A label's weights are those that its own cost gives to all labels."""
    X, Y, top = data
    costs = np.linspace(0.2, 3, N_LABELS)
    found = full_weights(SparseRanker(threshold=0, cost_positive=costs, **EXACT).fit(X, Y, top))
    for label, cost in enumerate(costs):
        alone = SparseRanker(threshold=0, cost_positive=float(cost), **EXACT).fit(X, Y, top)
        np.testing.assert_array_equal(found[0][label], full_weights(alone)[0][label])
        assert found[1][label] == alone.bias_[label]


@pytest.mark.parametrize(
    ("costs", "message"),
    [
        (np.ones(3), r"a number or 7 numbers, one for each label, got an array of shape \(3,\)"),
        (np.array(["a"] * N_LABELS), "dtype <U1"),
        (np.zeros(N_LABELS), "> 0 and finite for each label, got 0.0 to 0.0"),
    ],
)
def test_wrong_costs_of_labels_are_refused(data, costs, message):
    with pytest.raises(ValueError, match=message):
        SparseRanker(cost_positive=costs).fit(*data)


def test_label_with_positives_only_minimises_the_primal(data):
    X, Y, top = data
    label = N_LABELS - 2
    rows = rows_of(label, Y, top)
    assert rows.size
    assert Y[rows, label].all()
    rows_with_bias = np.hstack([normalize(X)[rows], np.ones((rows.size, 1))])

    def primal(w):
        slack = np.maximum(0, 1 - rows_with_bias @ w)
        return w @ w / 2 + slack @ slack, w - 2 * rows_with_bias.T @ slack

    best = minimize(primal, np.zeros(N_FEATURES + 1), jac=True, options={"gtol": 1e-9}).x
    weight, bias = full_weights(
        SparseRanker(threshold=0, cost_positive=1, cost_negative=1, **EXACT).fit(X, Y, top)
    )
    np.testing.assert_allclose(np.append(weight[label], bias[label]), best, atol=1e-5)


def test_label_without_rows_has_no_weights(data):
    fitted = SparseRanker(threshold=0, n_random=0).fit(*data)
    assert fitted.weight_[[N_LABELS - 1]].nnz == 0
    assert fitted.bias_[-1] == -10  # never likely, whatever the others say


def test_loose_tolerance_comes_near_and_fewer_sweeps_less_so(data):
    exact, _ = full_weights(SparseRanker(threshold=0, **EXACT).fit(*data))
    errors = []
    for tol, max_iter in ((0.1, 1), (0.1, 100), (0.001, 1000)):
        fitted = SparseRanker(threshold=0, tol=tol, max_iter=max_iter, **SHORTLISTS).fit(*data)
        errors.append(np.abs(full_weights(fitted)[0] - exact).max())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 1e-3


def test_pruning_drops_small_weights_and_no_others(data):
    whole, bias = full_weights(SparseRanker(threshold=0, **EXACT).fit(*data))
    pruned = SparseRanker(threshold=0.1, **EXACT).fit(*data)
    assert 0 < pruned.weight_.nnz < np.count_nonzero(whole)
    assert pruned.weight_.has_canonical_format
    least = slow_thresholds(normalize(data[0]), 0.1)
    assert (np.abs(whole / least - 1) > 1e-5).all(), "no weight may be at its threshold"
    kept = np.where(np.abs(whole) < least, 0, whole)
    np.testing.assert_array_equal(pruned.weight_.toarray(), kept)
    np.testing.assert_array_equal(pruned.bias_, bias)


def slow_thresholds(X, threshold):
    """Larger for features whose values are small, where they have any."""
    X = X.toarray() if sp.issparse(X) else X
    overall = np.sqrt(np.mean(X[X != 0].astype(np.float64) ** 2))
    typical = [
        np.sqrt(np.mean(x[x != 0].astype(np.float64) ** 2)) if x.any() else overall for x in X.T
    ]
    return threshold * np.sqrt(overall / np.array(typical))


def test_thresholds_are_larger_where_values_are_smaller():
    rng = np.random.default_rng(0)
    X = sp.random_array((50, 30), density=0.2, rng=rng, dtype=np.float32, format="csr")
    X.data = X.data * rng.exponential(size=30).astype(np.float32)[X.indices]
    X.data[X.indices == 4] = 0  # stored, but nothing
    X[:, [9]] = 0
    found = svm.feature_thresholds(as_csr(X), 0.3)
    np.testing.assert_allclose(found, slow_thresholds(X, 0.3), rtol=1e-6)
    assert found[4] == found[9] == np.float32(0.3)
    for nothing in (as_csr(X) * np.float32(0), as_csr(X[:0])):
        assert (svm.feature_thresholds(as_csr(nothing), 0.3) == np.float32(0.3)).all()
    assert not svm.feature_thresholds(as_csr(X), 0.0).any()


def test_chunks_and_threads_do_not_matter(data, monkeypatch):
    X, Y, top = data
    expected = full_weights(SparseRanker(random_state=3, n_random=9).fit(X, Y, top))
    margins = SparseRanker(random_state=3, n_random=9).fit(X, Y, top).margins(X, top)
    for chunk, n_jobs in ((1, 1), (60, 1), (svm._CHUNK, numba.config.NUMBA_NUM_THREADS)):
        monkeypatch.setattr(svm, "_CHUNK", chunk)
        fitted = SparseRanker(random_state=3, n_random=9, n_jobs=n_jobs).fit(X, Y, top)
        for array, other in zip(expected, full_weights(fitted), strict=True):
            np.testing.assert_array_equal(array, other)
        np.testing.assert_array_equal(margins, fitted.margins(X, top))


def test_seed_decides_the_order_of_visits(data):
    def weights(seed):
        return full_weights(SparseRanker(random_state=seed, n_random=0).fit(*data))[0]

    np.testing.assert_array_equal(weights(0), weights(0))
    assert np.abs(weights(0) - weights(1)).max() > 0


def test_repeated_candidates_count_once(data):
    X, Y, top = data
    doubled = TopK(np.hstack([top.indices, top.indices]), np.hstack([top.scores, top.scores]))
    for one, two in zip(
        full_weights(SparseRanker(**SHORTLISTS).fit(X, Y, top)),
        full_weights(SparseRanker(**SHORTLISTS).fit(X, Y, doubled)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, two)


def test_read_only_input_is_enough_and_stays_as_it_was(data):
    X, Y, top = data
    X, Y = sp.csr_array(X), sp.csr_array(Y)
    before = pickle.dumps((X, Y, top))
    for array in (X.data, X.indices, X.indptr, Y.data, Y.indices, Y.indptr, *top):
        array.flags.writeable = False
    fitted = SparseRanker(**SHORTLISTS).fit(X, Y, top)
    fitted.rerank(X, top)
    assert pickle.dumps((X, Y, top)) == before
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.margins(X, top), fitted.margins(X, top))


def test_margins_against_dense(data, csr_container):
    X, Y, top = data
    fitted = SparseRanker(**SHORTLISTS).fit(X, Y, top)
    weight, bias = full_weights(fitted)
    margins = fitted.margins(csr_container(X), top)
    assert margins.dtype == np.float32
    dense = normalize(X) @ weight.T + bias
    expected = np.where(top.indices >= 0, np.take_along_axis(dense, top.indices, axis=1), -np.inf)
    np.testing.assert_allclose(margins, expected, rtol=1e-5, atol=1e-6)
    assert np.isneginf(margins[0]).all()
    # an empty row leaves the bias
    np.testing.assert_array_equal(
        margins[1], np.where(top.indices[1] >= 0, bias[top.indices[1]], -np.inf)
    )


@pytest.mark.parametrize("share", [0, 0.6, 1])
@pytest.mark.parametrize("form", ["probability", "log_probability", "logit"])
def test_rerank_against_brute_force(data, share, form):
    X, Y, top = data
    to_form = {
        "probability": lambda p: p,
        "log_probability": np.log,
        "logit": lambda p: np.log(p / (1 - p)),
    }
    fitted = SparseRanker(share=share, **SHORTLISTS).fit(X, Y, top)
    p = np.where(top.indices >= 0, top.scores, 0.5).astype(np.float64)
    given = TopK(top.indices, np.where(top.indices >= 0, to_form[form](p), -np.inf))
    out = fitted.rerank(X, given, form=form)
    margins = fitted.margins(X, top).astype(np.float64)
    assert out.indices.dtype == np.int64
    assert out.scores.dtype == np.float32
    for i in range(N_ROWS):
        found = top.indices[i] >= 0
        mean = p[i, found] ** (1 - share) / (1 + np.exp(-2 * margins[i, found])) ** share
        expected = dict(zip(top.indices[i, found], mean, strict=True))
        n = len(expected)
        assert set(out.indices[i, :n]) == set(expected)
        means = [expected[label] for label in out.indices[i, :n]]
        np.testing.assert_allclose(np.exp(out.scores[i, :n]), means, rtol=1e-4)
        assert (np.diff(out.scores[i, :n]) <= 0).all()
        assert (out.indices[i, n:] == -1).all()
        assert np.isneginf(out.scores[i, n:]).all()


def test_share_falls_with_the_log_of_the_rows(data):
    assert SparseRanker(**SHORTLISTS).fit(*data).share_ == 0.9  # a few dozen rows
    assert SparseRanker(share=0.3, **SHORTLISTS).fit(*data).share_ == 0.3
    for n_rows in (2000, 8000, 20_000, 32_000):
        expected = 0.75 + 0.15 * np.log(32_000 / n_rows) / np.log(16)
        np.testing.assert_allclose(_auto_share(n_rows), expected)
    assert _auto_share(10**7) == 0.75


def test_the_search_finds_the_same_margins(data):
    """The columns that the search reads against the rows of the ranker."""
    X, Y, top = data
    fitted = SparseRanker(**SHORTLISTS).fit(X, Y, top)
    features = as_csr(X)
    ranker = RankerColumns.from_rows(fitted.weight_, fitted.bias_, share=fitted.share_, size=0)
    expected = candidate_dots(features, fitted.weight_, top, bias=fitted.bias_)
    scratch = make_rank_scratch(N_LABELS, K)
    # half of a step for each weight, and a row of unit length
    off = np.sqrt(N_FEATURES) * abs(fitted.weight_).max() / 65534
    for i in range(N_ROWS):
        found = top.indices[i] >= 0
        labels = top.indices[i][found].astype(np.int32)
        find_margins(
            features.indptr, features.indices, features.data, i, ranker.arrays, labels,
            labels.size, scratch,
        )  # fmt: skip
        np.testing.assert_allclose(
            scratch.margin[: labels.size], expected[i][found], rtol=1e-5, atol=off + 1e-6
        )


def test_all_rows_are_one_vs_all(data, csr_container):
    X, Y, _ = data
    settings = {**EXACT, "n_random": "all"}
    fitted = SparseRanker(threshold=0, **settings).fit(csr_container(X), csr_container(Y))
    weight, bias = full_weights(fitted)
    for label in range(N_LABELS - 2):
        svm = LinearSVC(C=0.5, tol=1e-10, max_iter=100_000, random_state=0).fit(
            normalize(X), Y[:, label]
        )
        np.testing.assert_allclose(weight[label], svm.coef_[0], atol=1e-5)
        np.testing.assert_allclose(bias[label], svm.intercept_[0], atol=1e-5)
    drawn = SparseRanker()._n_draws(sp.csr_array((10**5, 10**4)))
    np.testing.assert_array_equal(drawn, 50)


def test_drawn_rows_stand_for_the_others(data):
    """The mean over draws of the loss of given weights is the loss over all rows."""
    _, Y, top = data
    pairs = training_pairs(sp.csr_array(Y), top.indices)
    label, n_drawn = 2, 10
    rows, positive = pairs[[label]].indices, pairs[[label]].data > 1
    losses = np.random.default_rng(0).random(N_ROWS)
    means = []
    for seed in np.random.default_rng(1).integers(1, 2**63, 3000).astype(np.uint64):
        used = np.zeros(N_ROWS, np.bool_)
        taken = _with_drawn(rows, n_drawn, used, seed)
        assert not used.any()
        assert len(set(taken)) == len(taken) <= len(rows) + n_drawn
        np.testing.assert_array_equal(taken[: len(rows)], rows)
        cost = _signed_costs(positive, len(taken), N_ROWS, (2.0, 3.0))
        np.testing.assert_array_equal(cost[: len(rows)], np.where(positive, 3.0, -2.0))
        means.append(-(cost[len(rows) :] @ losses[taken[len(rows) :]]))
    others = np.setdiff1d(np.arange(N_ROWS), rows)
    np.testing.assert_allclose(np.mean(means), 2 * losses[others].sum(), rtol=0.02)


def test_ranker_moves_the_true_labels_up():
    """Labels are features here, and the first search knows nothing."""
    rng = np.random.default_rng(0)
    Y = (rng.random((300, 20)) < 0.1).astype(np.int64)
    X = sp.csr_array(Y + 0.1 * rng.random(Y.shape))
    top = TopK(np.tile(np.arange(20), (300, 1)), np.full((300, 20), 0.5, dtype=np.float32))
    fitted = SparseRanker(**SHORTLISTS).fit(X[:200], Y[:200], TopK(*(a[:200] for a in top)))
    out = fitted.rerank(X[200:], TopK(*(a[200:] for a in top)))
    some = Y[200:].any(axis=1)
    first = np.take_along_axis(Y[200:], out.indices[:, :1], axis=1)[some]
    assert first.mean() > 0.95


def test_wrong_options_are_refused(data):
    X, Y, top = data
    fitted = SparseRanker().fit(X, Y, top)
    with pytest.raises(ValueError, match=r"form must be one of 'probability', .* got 'odds'"):
        fitted.rerank(X, top, form="odds")


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("cost_positive", 0, ValueError),
        ("cost_negative", -1.0, ValueError),
        ("threshold", -0.1, ValueError),
        ("tol", float("nan"), ValueError),
        ("share", 1.1, ValueError),
        ("n_random", -1, ValueError),
        ("n_random", "none", TypeError),
        ("n_holdout", -1, ValueError),
        ("n_holdout", "none", TypeError),
        ("max_iter", 0, ValueError),
        ("max_iter", 2.5, TypeError),
        ("cost_positive", "1", TypeError),
    ],
)
def test_wrong_parameters_are_refused(data, name, value, error):
    with pytest.raises(error, match=f"SparseRanker: {name} must be .*, got {value!r}"):
        SparseRanker(**{name: value}).fit(*data)


def test_data_that_do_not_fit_are_refused(data):
    X, Y, top = data
    with pytest.raises(ValueError, match="same rows, got 60 and 59"):
        SparseRanker().fit(X, Y[:-1], top)
    with pytest.raises(ValueError, match=r"shape \(60, k\), one row for each row of X, got .*59"):
        SparseRanker().fit(X, Y, TopK(top.indices[:-1], top.scores[:-1]))
    with pytest.raises(ValueError, match="integers of shape"):
        SparseRanker().fit(X, Y, TopK(top.scores, top.indices))
    with pytest.raises(ValueError, match=r"between -1 .* and 1, the last label, got -1 to 4"):
        SparseRanker().fit(X, Y[:, :2], top)
    with pytest.raises(ValueError, match="Y must be a 0/1 indicator"):
        SparseRanker().fit(X, Y * 2, top)
    with pytest.raises(ValueError, match="X must be finite"):
        SparseRanker().fit(np.where(X == 0, np.nan, X), Y, top)
    with pytest.raises(NotFittedError, match="SparseRanker instance is not fitted yet"):
        SparseRanker().margins(X, top)
    with pytest.raises(ValueError, match="X has 24 features, but SparseRanker is expecting 25"):
        SparseRanker().fit(X, Y, top).margins(X[:, :-1], top)


# --- the manners of scikit-learn


def test_parameters_are_read_set_and_shown():
    ranker = SparseRanker(share=0.5, n_random=3)
    assert repr(ranker) == "SparseRanker(n_random=3, share=0.5)"
    assert "SparseRanker" in ranker._repr_html_()
    assert ranker.set_params(share=0.25) is ranker
    assert ranker.get_params()["share"] == ranker.share == 0.25
    with pytest.raises(ValueError, match="Invalid parameter 'shares'"):
        ranker.set_params(shares=1)


def test_clones_have_the_parameters_and_nothing_learned(data):
    costs = np.full(N_LABELS, 0.25)
    ranker = SparseRanker(cost_positive=costs, **SHORTLISTS).fit(*data)
    copied = clone(ranker)
    assert vars(copied).keys() == ranker.get_params().keys()
    np.testing.assert_array_equal(copied.cost_positive, costs)
    assert copied.cost_positive is not costs
    for one, other in zip(full_weights(ranker), full_weights(copied.fit(*data)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_fit_changes_no_parameter(data):
    ranker = SparseRanker(n_random=np.int64(2), random_state=0)
    before = ranker.get_params()
    assert ranker.fit(*data) is ranker
    assert all(getattr(ranker, name) is value for name, value in before.items())


def test_features_are_remembered(data):
    pandas = pytest.importorskip("pandas")
    X, Y, top = data
    names = [f"word {j}" for j in range(N_FEATURES)]
    table = pandas.DataFrame(X, columns=names)
    ranker = SparseRanker(**SHORTLISTS).fit(table, Y, top)
    assert ranker.n_features_in_ == N_FEATURES
    assert list(ranker.feature_names_in_) == names
    np.testing.assert_array_equal(
        ranker.margins(table, top), SparseRanker(**SHORTLISTS).fit(X, Y, top).margins(X, top)
    )
    with pytest.raises(ValueError, match="feature names should match"):
        ranker.margins(table[names[::-1]], top)
