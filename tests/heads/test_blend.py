"""Weighing the ranker's signals: finite differences, a grid, dense references, known answers."""

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn.metrics import ndcg_score
from sklearn.preprocessing import normalize

from skxmc.heads import SparseRanker, blend, ranker
from skxmc.heads.blend import Blend, blend_rows, fit_blend, is_relevant, label_signals
from skxmc.heads.svm import feature_thresholds
from skxmc.topk import TopK


def made_signals(weights, n_rows=400, k=6, seed=0):
    """Signals under whose weighted sum a candidate is right with the probability of a sigmoid."""
    rng = np.random.default_rng(seed)
    signals = rng.normal(size=(n_rows, k, 3)) * [1, 0.3, 4]
    found = rng.random((n_rows, k)) < 0.9
    odds = signals @ np.asarray(weights) - 1
    return signals, found, (rng.random((n_rows, k)) < 1 / (1 + np.exp(-odds))) & found


def softmax(scores, found):
    e = np.exp(scores) * found
    return e / e.sum()


def mean_cost(scores, found, relevant):
    """Mean -log softmax of the right candidates, row by row in plain Python."""
    rows = zip(scores, found, relevant, strict=True)
    return np.array([-np.log(softmax(s, f)[r]).mean() for s, f, r in rows])


def chance_of_error(scores, found, relevant):
    """-log of the softmax mass on right candidates, row by row."""
    rows = zip(scores, found, relevant, strict=True)
    return np.array([-np.log(softmax(s, f)[r].sum()) for s, f, r in rows])


def usable_rows(signals, found, relevant):
    usable = relevant.any(1) & (found & ~relevant).any(1)
    return signals[usable], found[usable], relevant[usable]


def test_losses():
    signals, found, relevant = usable_rows(*made_signals([1, 2, 0.1], n_rows=50))
    scores = signals.sum(-1)
    log_p = blend._log_softmax(scores, found)
    expected = mean_cost(scores, found, relevant)
    np.testing.assert_allclose(blend._each_right(log_p, relevant), expected, rtol=1e-10)
    expected = chance_of_error(scores, found, relevant)
    np.testing.assert_allclose(blend._one_right(log_p, relevant), expected, rtol=1e-10)


def test_no_direction_nearby_is_better():
    rows = usable_rows(*made_signals([1, 2, 0.2]))
    offset = np.random.default_rng(2).normal(size=rows[1].shape)
    best = blend._listwise(rows[0], offset, *rows[1:])
    ridge = blend._RIDGE * rows[0][rows[1]].std(axis=0) ** 2
    least = mean_cost(rows[0] @ best + offset, *rows[1:]).mean() + ridge @ best**2
    rng = np.random.default_rng(1)
    for step in (1.0, 0.1, 0.01):
        for _ in range(50):
            other = best * (1 + step * rng.normal(size=3))
            loss = mean_cost(rows[0] @ other + offset, *rows[1:]).mean() + ridge @ other**2
            assert loss > least


@pytest.mark.parametrize(
    ("loss", "by_hand"),
    [(blend._each_right, mean_cost), (blend._one_right, chance_of_error)],
)
@pytest.mark.parametrize("noise", [0.05, 1.0, 4.0])
def test_doubt_against_a_grid_of_scales(loss, by_hand, noise):
    """Scores are compared at their best scales, by three standard errors of the difference."""
    signals, found, relevant = usable_rows(*made_signals([1, 2, 0.1], n_rows=200))
    scores = 7 * signals @ [1, 2, 0.1]
    others = scores + noise * 7 * np.random.default_rng(3).normal(size=scores.shape)

    def best(values):
        grid = [by_hand(scale * values, found, relevant) for scale in np.geomspace(0.01, 1, 300)]
        return min(grid, key=np.mean)

    gain = best(others) - best(scores)
    expected = gain.mean() / (gain.std() / np.sqrt(gain.size))
    got = blend._gain(scores, others, found, relevant, loss)
    np.testing.assert_allclose(got, expected, rtol=0.02, atol=0.1)
    assert (got > 3) == (noise > 0.1)


def test_what_costs_the_first_label_is_left_out():
    """The second signal finds the later labels of a row, and not its first."""
    rng = np.random.default_rng(0)
    n_rows, k = 1000, 12
    relevant = np.zeros((n_rows, k), bool)
    relevant[:, :4] = True
    signals = rng.normal(size=(n_rows, k, 3))
    signals[..., 2] = 0
    signals[:, 0, 0] += 4  # the margin is sure of one label
    signals[:, 1:4, 1] += 1.5
    signals[:, 0, 1] -= 1.5
    found = np.ones_like(relevant)
    direction = np.append(blend._listwise(signals[..., :2], 0.0, found, relevant), 0)
    compared = signals @ direction, signals[..., 0], found, relevant
    assert blend._gain(*compared, blend._each_right) > 3
    assert blend._gain(*compared, blend._one_right) < -3
    assert not blend._convinces(*compared)
    assert fit_blend(signals, found, relevant) is None


def test_order_against_scikit_learn():
    rng = np.random.default_rng(0)
    found = rng.random((40, 9)) < 0.8
    found[:, :2] = True
    relevant = found & (rng.random((40, 9)) < 0.3)
    relevant[:, 0] |= ~relevant.any(axis=1)
    scores = rng.normal(size=(40, 9))
    expected = [
        ndcg_score([own], [row], k=5)
        for own, row in zip(
            [r[f] for r, f in zip(relevant, found, strict=True)],
            [s[f] for s, f in zip(scores, found, strict=True)],
            strict=True,
        )
    ]
    precision, ndcg = blend._first_labels(scores, found, relevant)
    np.testing.assert_allclose(ndcg, expected)
    best = np.argsort(np.where(found, -scores, np.inf), axis=1)[:, :5]
    np.testing.assert_allclose(precision, np.take_along_axis(relevant, best, axis=1).sum(1) / 5)
    assert (blend._first_labels(scores[:, :3], found[:, :3], found[:, :3])[1] == 1).all()


@pytest.mark.parametrize(
    ("gains", "kept"),
    [
        ({"each": 2.0, "one": 0.6, "order": 0.0}, True),
        ({"each": 2.0, "one": 0.4, "order": 9.0}, False),
        ({"each": 9.0, "one": -0.9, "order": -0.9}, True),
        ({"each": 9.0, "one": -1.1, "order": 9.0}, False),
        ({"each": 9.0, "one": 9.0, "order": -1.1}, False),
    ],
)
def test_what_is_a_clear_gain(gains, kept, monkeypatch):
    of_loss = {blend._each_right: gains["each"], blend._one_right: gains["one"]}
    monkeypatch.setattr(blend, "_gain", lambda *args: of_loss[args[-1]])
    monkeypatch.setattr(blend, "_standard_errors", lambda _: gains["order"])
    nothing = np.zeros((2, 3))
    assert blend._convinces(nothing, nothing, nothing == 0, nothing == 0) is kept


def test_weights_and_odds_are_found():
    """Of enough rows: the weights that made them, intercept included."""
    found = fit_blend(*made_signals([1.5, 4, 0], n_rows=20_000))
    np.testing.assert_allclose(found[:2], [1.5, 4], rtol=0.15)
    assert -0.02 < found.frequency <= 0
    np.testing.assert_allclose(found.intercept, -1, rtol=0.15)


def test_frequency_counts_against_a_label_and_by_a_third():
    assert fit_blend(*made_signals([1.5, 4, 0.3], n_rows=2000)).frequency == 0
    signals, found, relevant = made_signals([1.5, 4, -0.3], n_rows=20_000)
    direction = fit_blend(signals, found, relevant)
    ratio = direction.frequency / direction.margin
    np.testing.assert_allclose(ratio, -0.1 / 1.5, rtol=0.25)


@pytest.mark.parametrize("seed", range(5))
def test_signals_of_no_use_are_left_out(seed):
    assert fit_blend(*made_signals([1.5, 0, 0], n_rows=1000, seed=seed)) is None


def test_a_margin_that_misleads_is_left_out():
    assert fit_blend(*made_signals([-1.5, 2, 1])) is None


@pytest.mark.parametrize("weights", [[1.5, -4, 0], [0.2, 3, 0]])
def test_what_only_the_choice_of_candidates_can_have_taught_is_left_out(weights):
    signals, found, relevant = made_signals(weights, n_rows=2000)
    own, *rows = usable_rows(signals, found, relevant)
    assert blend._convinces(own @ np.array(weights), own[..., 0], *rows)
    assert fit_blend(signals, found, relevant) is None


def test_too_few_rows():
    signals, found, relevant = made_signals([1, 9, 1])
    assert fit_blend(signals, found, relevant) is not None
    assert fit_blend(signals[:49], found[:49], relevant[:49]) is None
    assert fit_blend(signals, found, np.zeros_like(relevant)) is None
    assert fit_blend(signals, found, found) is None


@pytest.fixture
def rows():
    rng = np.random.default_rng(0)
    X = normalize(np.where(rng.random((30, 12)) < 0.4, rng.random((30, 12)), 0))
    Y = (rng.random((30, 8)) < 0.2).astype(np.float32)
    Y[:, 5] = 0
    indices = np.argsort(rng.random((30, 8)), axis=1)[:, :4]
    indices[::7, 2:] = -1
    return X.astype(np.float32), Y, TopK(indices, np.zeros((30, 4), np.float32))


def centroids_of(X, Y):
    return normalize(Y.T @ X)


def test_relevance(rows):
    _, Y, top = rows
    expected = np.take_along_axis(Y, np.maximum(top.indices, 0), axis=1) * (top.indices >= 0)
    np.testing.assert_array_equal(is_relevant(sp.csr_array(Y), top), expected > 0)


def test_signals_are_those_of_dense_arrays(rows):
    X, Y, top = rows
    margins = np.where(top.indices >= 0, 0.5, -np.inf)
    held_out = X[::-1].copy()
    found = label_signals(sp.csr_array(X), sp.csr_array(Y), margins, top, sp.csr_array(held_out))
    labels = np.maximum(top.indices, 0)
    cosines = np.take_along_axis(held_out @ centroids_of(X, Y).T, labels, axis=1)
    expected = np.stack((margins, cosines, np.log1p(Y.sum(0))[labels]), axis=-1)
    expected[top.indices < 0] = 0
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("chunk", [1, 40, 10**6])
def test_merged_rows_are_the_weighted_sum(rows, chunk, monkeypatch):
    monkeypatch.setattr(blend, "_CHUNK", chunk)
    X, Y, _ = rows
    rng = np.random.default_rng(1)
    weight = np.where(rng.random((8, 12)) < 0.3, rng.normal(size=(8, 12)), 0).astype(np.float32)
    bias = rng.normal(size=8).astype(np.float32)
    args = sp.csr_array(weight), bias, sp.csr_array(X), sp.csr_array(Y)
    merged, biases = blend_rows(Blend(3.0, 8.0, -0.5, 0.25), *args, threshold=0.0)
    odds = 3 * (X @ weight.T + bias) + 8 * X @ centroids_of(X, Y).T - 0.5 * np.log1p(Y.sum(0))
    known = Y.any(axis=0)
    np.testing.assert_allclose(
        (X @ merged.toarray().T + biases)[:, known], (odds + 0.25)[:, known] / 2, atol=1e-5
    )
    assert merged.has_sorted_indices
    pruned, same = blend_rows(Blend(3.0, 8.0, -0.5, 0.25), *args, threshold=0.4)
    full, least = merged.toarray(), feature_thresholds(sp.csr_array(X), 0.4)
    np.testing.assert_allclose(pruned.toarray(), np.where(np.abs(full) < 1.5 * least, 0, full))
    np.testing.assert_array_equal(same, biases)


def tail_data(n_rows=3000, n_labels=900, seed=0):
    """Labels of about three rows: each row shares some of its words with its label alone."""
    rng = np.random.default_rng(seed)
    of_row = rng.integers(n_labels, size=n_rows)
    words = rng.integers(2000, size=(n_labels, 8))
    kept = np.take_along_axis(
        words[of_row], rng.permuted(np.tile(np.arange(8), (n_rows, 1)), axis=1), axis=1
    )
    columns = np.hstack((kept[:, :3], rng.integers(2000, size=(n_rows, 6)))).ravel()
    entries = np.repeat(np.arange(n_rows), 9)
    X = sp.csr_array((np.ones(columns.size), (entries, columns)), shape=(n_rows, 2000))
    Y = sp.csr_array((np.ones(n_rows), (np.arange(n_rows), of_row)), shape=(n_rows, n_labels))
    indices = rng.integers(n_labels, size=(n_rows, 30))
    indices[np.arange(n_rows), rng.integers(30, size=n_rows)] = of_row
    return X, Y, TopK(indices, np.full(indices.shape, 0.5, dtype=np.float32))


def test_blend_lifts_rare_labels_and_is_reproducible():
    X, Y, top = tail_data()
    rest, new = slice(0, 2000), slice(2000, None)
    part = TopK(top.indices[rest], top.scores[rest])
    settings = {"n_random": 5, "random_state": 0}
    fitted = SparseRanker(**settings).fit(X[rest], Y[rest], part)
    alone = SparseRanker(**settings, n_holdout=0).fit(X[rest], Y[rest], part)
    assert alone.blend_ is None
    assert fitted.blend_.centroid > 0
    again = SparseRanker(**settings, n_jobs=2).fit(X[rest], Y[rest], part)
    assert (again.weight_ != fitted.weight_).nnz == 0
    np.testing.assert_array_equal(again.bias_, fitted.bias_)

    unseen = TopK(top.indices[new], top.scores[new])
    truth = Y[new].indices
    hits, hits_alone = (
        (model.rerank(X[new], unseen).indices[:, 0] == truth).mean() for model in (fitted, alone)
    )
    assert hits > hits_alone + 0.02


def test_held_out_rows_are_given_back(monkeypatch):
    """Where nothing is merged, labels of held-out rows end as if trained on all rows at once."""
    monkeypatch.setattr(ranker, "fit_blend", lambda *_: None)
    X, Y, top = tail_data(600, 300)
    settings = {"n_random": "all", "threshold": 0, "tol": 1e-5, "max_iter": 10_000}
    fitted = SparseRanker(**settings, random_state=0).fit(X, Y, top)
    full = SparseRanker(**settings, random_state=0, n_holdout=0).fit(X, Y, top)
    change = np.abs(fitted.weight_.toarray() - full.weight_.toarray()).max(axis=1)
    change = change[np.asarray(Y.sum(axis=0)).ravel() > 0]
    same = change < 1e-4
    # 60 rows of about as many labels; those of the others miss the held-out negatives
    assert 40 <= same.sum() <= 70
    assert change[~same].min() > 1e-4
    assert change.max() < 0.5


@pytest.mark.parametrize(("n_holdout", "again"), [(15, False), (21, True)])
def test_labels_that_miss_few_of_their_rows_are_not_trained_again(n_holdout, again, monkeypatch):
    X, Y, top = tail_data(600, 300)
    Y = sp.csr_array(sp.hstack((Y, np.ones((600, 1)))))  # the last one misses 2.5 or 3.5%
    trained, original = [], ranker.fit_svms

    def fit_svms(X, pairs, *others):
        trained.append(np.diff(pairs.indptr))
        return original(X, pairs, *others)

    monkeypatch.setattr(ranker, "fit_svms", fit_svms)
    SparseRanker(n_random=5, n_holdout=n_holdout, random_state=0).fit(X, Y, top)
    first, second = trained
    assert first.size == 301
    assert n_holdout // 2 < second.size <= n_holdout + again
    assert bool(second.max() == 600) is again


def test_holding_out_all_rows_is_refused():
    X, Y, top = tail_data(60, 30)
    with pytest.raises(ValueError, match="n_holdout must leave rows to learn from, got 60 of 60"):
        SparseRanker(n_holdout=60).fit(X, Y, top)
