"""The synthetic problem: its law of frequencies, its topics, and that it can be learned."""

import time

import numpy as np
import pytest
import scipy.sparse as sp

from skxmc._sparse import normalize_rows
from skxmc.datasets import make_xmc_classification

from .oracles import assert_same


def label_frequencies(Y):
    return np.bincount(Y.indices, minlength=Y.shape[1])


def precision_at_1(X, Y, n_train):
    """Precision@1 on the rest of a centroid classifier, and of always the most frequent label."""
    rest = np.arange(Y.shape[0] - n_train)
    truth = Y[n_train:].toarray()
    centroids = normalize_rows(sp.csr_array(Y[:n_train].T.astype(np.float32) @ X[:n_train]))
    best = (X[n_train:] @ centroids.T).toarray().argmax(axis=1)
    return truth[rest, best].mean(), truth[:, label_frequencies(Y[:n_train]).argmax()].mean()


@pytest.mark.parametrize(
    "sizes", [{}, {"n_samples": 1, "n_features": 1, "n_labels": 1, "n_labels_per_row": 1}]
)
def test_form(sizes):
    X, Y, topics = make_xmc_classification(**sizes, random_state=0, return_topics=True)
    shape = sizes.get("n_samples", 1000), sizes.get("n_labels", 500)
    assert X.shape == (shape[0], sizes.get("n_features", 2000))
    assert Y.shape == shape
    assert topics.shape == shape[1:]
    assert_same(X, X.toarray(), np.float32)
    assert_same(Y, Y.toarray(), np.int8)
    assert (Y.data == 1).all()
    assert np.diff(Y.indptr).min() >= 1
    assert X.data.min() > 0
    np.testing.assert_allclose(X.multiply(X).sum(axis=1), 1, rtol=1e-5)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.3])
def test_frequencies_follow_the_power_law(exponent):
    n_samples, n_labels, n_per_row = 50_000, 2000, 3.0
    _, Y = make_xmc_classification(
        n_samples, 500, n_labels, n_labels_per_row=n_per_row, exponent=exponent, random_state=0
    )
    counts = np.sort(label_frequencies(Y))[::-1]
    ranks = np.arange(1, n_labels + 1)
    expected = ranks**-exponent / (ranks**-exponent).sum() * n_samples * n_per_row
    expected = np.minimum(expected, n_samples)
    # Counts spread less than those of independent draws do: six deviations are plenty.
    head = expected > 100
    assert (np.abs(counts - expected)[head] < 6 * np.sqrt(expected)[head]).all()
    slope = np.polyfit(np.log(ranks[2:200]), np.log(counts[2:200]), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.05)


@pytest.mark.parametrize("n_per_row", [1.0, 2.5, 6.0])
def test_labels_per_row(n_per_row):
    _, Y = make_xmc_classification(20_000, 50, 1000, n_labels_per_row=n_per_row, random_state=1)
    lengths = np.diff(Y.indptr)
    assert lengths.mean() == pytest.approx(n_per_row, rel=0.01)
    assert (lengths.max() > n_per_row) == (n_per_row > 1)


def test_head_labels_are_limited_by_the_rows():
    _, Y = make_xmc_classification(500, 50, 10, n_labels_per_row=5, exponent=2.0, random_state=0)
    assert label_frequencies(Y).max() <= 500
    assert 2 < Y.nnz / 500 < 5


def test_centroids_beat_popularity_by_far():
    X, Y = make_xmc_classification(5000, 4000, 1000, random_state=0)
    centroid, popularity = precision_at_1(X, Y, n_train=4000)
    assert centroid > 0.8
    assert popularity < 0.5


def test_noise_makes_it_harder():
    scores = []
    for noise in (0.0, 0.7, 1.0):
        X, Y = make_xmc_classification(2000, 4000, 300, noise=noise, exponent=0.5, random_state=0)
        scores.append(precision_at_1(X, Y, n_train=1500)[0])
    assert scores[0] > scores[1] + 0.05
    assert scores[1] > scores[2] + 0.3


def test_topics_show_in_labels_and_features():
    X, Y, topics = make_xmc_classification(
        5000, 5000, 200, exponent=0.3, n_topics=10, random_state=0, return_topics=True
    )
    assert np.bincount(topics).tolist() == [20] * 10
    same = topics[:, None] == topics
    np.fill_diagonal(same, False)
    other = topics[:, None] != topics
    together = (Y.T.astype(int) @ Y).toarray()
    assert together[same].mean() > 10 * together[other].mean()
    # Rows with a single label show that labels of a topic share features, whoever comes with them.
    single = np.diff(Y.indptr) == 1
    centroids = normalize_rows(sp.csr_array(Y[single].T.astype(np.float32) @ X[single]))
    similar = (centroids @ centroids.T).toarray()
    assert similar[same].mean() > 1.5 * similar[other].mean()


def test_seed():
    def draw(seed):
        X, Y = make_xmc_classification(100, 200, 50, random_state=seed)
        return X.toarray().tobytes(), Y.toarray().tobytes()

    assert draw(0) == draw(0) == draw(np.random.RandomState(0))
    assert draw(0)[0] != draw(1)[0]
    assert draw(0)[1] != draw(1)[1]


def test_scales_without_densifying():
    start = time.perf_counter()
    X, Y = make_xmc_classification(100_000, 500_000, 1_000_000, random_state=0)
    assert X.nnz < 2_500_000
    assert Y.nnz == pytest.approx(300_000, rel=0.01)
    assert time.perf_counter() - start < 20


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"n_samples": 0}, ValueError, "n_samples must be an int >= 1, got 0"),
        ({"n_features": 2.5}, TypeError, "n_features must be an int"),
        ({"n_labels": 2}, ValueError, "n_labels_per_row must be a number >= 1 and <= 2, got 3.0"),
        ({"n_labels_per_row": 0.5}, ValueError, "n_labels_per_row"),
        ({"n_features_per_row": 0}, ValueError, "n_features_per_row"),
        ({"exponent": -1}, ValueError, "exponent"),
        ({"exponent": np.nan}, ValueError, "exponent"),
        ({"noise": 1.5}, ValueError, "noise"),
        ({"n_topics": 501}, ValueError, "n_topics must be an int >= 1 and <= 500, got 501"),
    ],
)
def test_parameters(parameters, error, message):
    with pytest.raises(error, match=message):
        make_xmc_classification(**parameters)
