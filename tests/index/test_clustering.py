"""Balanced k-means and label centroids."""

import numba
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import adjusted_rand_score

from skxmc.index import balanced_kmeans, label_centroids, n_clusters_for


def unit_rows(dense):
    norms = np.linalg.norm(dense, axis=1, keepdims=True)
    return np.divide(dense, norms, out=np.zeros_like(dense), where=norms > 0)


def random_centroids(rng, n_labels, n_features=6, empty=0.2):
    dense = unit_rows(rng.normal(size=(n_labels, n_features)))
    dense[rng.random(dense.shape) < 0.4] = 0
    dense[rng.random(n_labels) < empty] = 0
    return sp.csr_array(dense.astype(np.float32))


def cohesion(dense, assignment):
    """Sum of cosines of members with the centre of their cluster."""
    sums = [dense[assignment == c].sum(axis=0) for c in np.unique(assignment)]
    return sum(np.linalg.norm(part) for part in sums)


@given(
    n_labels=st.integers(1, 40),
    log_clusters=st.integers(0, 6),
    seed=st.integers(0, 2**32 - 1),
    empty=st.sampled_from([0.0, 0.3, 1.0]),
)
def test_clusters_are_of_equal_size(n_labels, log_clusters, seed, empty):
    n_clusters = 2**log_clusters
    centroids = random_centroids(np.random.default_rng(seed), n_labels, empty=empty)
    assignment = balanced_kmeans(centroids, n_clusters, random_state=seed)
    assert assignment.shape == (n_labels,)
    assert assignment.dtype == np.int64
    sizes = np.bincount(assignment, minlength=n_clusters)
    assert sizes.size == n_clusters
    # halving rounds up or down at each level, so on every level two sizes occur at most
    for level in range(log_clusters + 1):
        merged = sizes.reshape(2**level, -1).sum(axis=1)
        assert merged.max() - merged.min() <= 1
    assert sizes.sum() == n_labels


def test_seed_decides():
    centroids = random_centroids(np.random.default_rng(0), 200)
    first = balanced_kmeans(centroids, 16, random_state=3)
    np.testing.assert_array_equal(first, balanced_kmeans(centroids, 16, random_state=3))
    others = [balanced_kmeans(centroids, 16, random_state=seed) for seed in range(4, 8)]
    assert any(adjusted_rand_score(first, other) < 0.9 for other in others)
    rng = np.random.RandomState(3)
    np.testing.assert_array_equal(first, balanced_kmeans(centroids, 16, random_state=rng))


def test_the_global_random_state_is_left_alone():
    before = np.random.get_state()[1].tolist()  # noqa: NPY002
    balanced_kmeans(random_centroids(np.random.default_rng(0), 20), 4, random_state=0)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


def test_input_is_not_changed():
    centroids = random_centroids(np.random.default_rng(0), 30)
    copy = centroids.copy()
    for part in (centroids.data, centroids.indices, centroids.indptr):
        part.flags.writeable = False
    balanced_kmeans(centroids, 8, random_state=0)
    assert (centroids != copy).nnz == 0


@pytest.mark.parametrize("n_clusters", [2, 4, 8])
def test_planted_clusters_are_found(n_clusters):
    rng = np.random.default_rng(0)
    truth = rng.permutation(np.repeat(np.arange(n_clusters), 25))
    dense = np.zeros((truth.size, n_clusters * 10))
    for label, cluster in enumerate(truth):
        dense[label, rng.integers(cluster * 10, cluster * 10 + 10, size=6)] = 1
    # 2-means from two random labels may stop at a poor split: the best of a few starts counts
    scores = [
        adjusted_rand_score(truth, balanced_kmeans(unit_rows(dense), n_clusters, random_state=seed))
        for seed in range(5)
    ]
    assert max(scores) == 1.0
    assert np.median(scores) > 0.5


def test_clusters_hold_together_better_than_chance():
    rng = np.random.default_rng(1)
    centroids = random_centroids(rng, 300, n_features=12, empty=0)
    dense = centroids.toarray()
    ours = cohesion(dense, balanced_kmeans(centroids, 16, random_state=0))
    random = [cohesion(dense, rng.permutation(np.arange(300) % 16)) for _ in range(20)]
    assert ours > max(random) + 10 * np.std(random)


def test_iterations_improve_the_split():
    """Each round assigns for the present centres and centres the present halves: never worse."""
    centroids = random_centroids(np.random.default_rng(5), 100, n_features=12, empty=0)
    dense = centroids.toarray()
    values = [
        cohesion(dense, balanced_kmeans(centroids, 2, n_iterations=n, random_state=0))
        for n in range(6)
    ]
    assert np.diff(values).min() >= -1e-4
    assert values[-1] > values[0]


def split_slowly(dense, seed_a, seed_b, n_iterations):
    """Halves of a balanced spherical 2-means split, from dense vectors."""
    half = (len(dense) + 1) // 2
    order = np.argsort(-(dense @ (dense[seed_a] - dense[seed_b])), kind="stable")
    for _ in range(n_iterations):
        centres = [unit_rows(dense[part].sum(0)[None])[0] for part in (order[:half], order[half:])]
        new = np.argsort(-(dense @ (centres[0] - centres[1])), kind="stable")
        if set(new[:half]) == set(order[:half]):
            break
        order = new
    return order[:half], order[half:]


def clusters_slowly(dense, n_clusters, n_iterations, rng):
    nodes = [np.arange(len(dense))]
    while len(nodes) < n_clusters:
        children = []
        for node in nodes:
            parts = (np.arange(node.size), np.arange(0))
            if node.size > 1:
                seeds = rng.choice(node.size, size=2, replace=False)
                parts = split_slowly(dense[node], *seeds, n_iterations)
            children += [node[part] for part in parts]
        nodes = children
    return [set(node.tolist()) for node in nodes]


@given(
    n_labels=st.integers(1, 60),
    n_clusters=st.sampled_from([1, 2, 8]),
    n_iterations=st.integers(0, 8),
    seed=st.integers(0, 2**32 - 1),
)
def test_clusters_against_dense_two_means(n_labels, n_clusters, n_iterations, seed):
    dense = random_centroids(np.random.default_rng(seed), n_labels, n_features=9, empty=0).toarray()
    assignment = balanced_kmeans(dense, n_clusters, n_iterations=n_iterations, random_state=seed)
    rng = np.random.RandomState(seed)
    expected = clusters_slowly(dense.astype(np.float64), n_clusters, n_iterations, rng)
    assert [set(np.flatnonzero(assignment == c).tolist()) for c in range(n_clusters)] == expected


@pytest.mark.parametrize("n_clusters", [0, -2, 3, 12])
def test_other_numbers_of_clusters_are_refused(n_clusters):
    with pytest.raises(ValueError, match=rf"power of two, got {n_clusters}"):
        balanced_kmeans(np.eye(4, dtype=np.float32), n_clusters)


@given(n_labels=st.integers(1, 10**7), max_leaf=st.integers(1, 5000))
def test_n_clusters_is_the_smallest_power_of_two(n_labels, max_leaf):
    n_clusters = n_clusters_for(n_labels, max_leaf)
    assert n_clusters.bit_count() == 1
    assert n_clusters * max_leaf >= n_labels
    assert n_clusters == 1 or n_clusters // 2 * max_leaf < n_labels


def test_published_numbers_of_clusters():
    published = {131_073: 2048, 670_091: 8192, 501_070: 8192, 2_812_281: 32768, 13_330: 256}
    assert {n: n_clusters_for(n, 100) for n in published} == published


@given(seed=st.integers(0, 2**32 - 1), shape=st.tuples(*[st.integers(1, 8)] * 3))
def test_label_centroids_against_dense(seed, shape):
    rng = np.random.default_rng(seed)
    n_rows, n_features, n_labels = shape
    X = np.where(rng.random((n_rows, n_features)) < 0.5, rng.random((n_rows, n_features)), 0)
    Y = (rng.random((n_rows, n_labels)) < 0.4).astype(np.int8)
    for container in (sp.csr_matrix, sp.csr_array):
        centroids = label_centroids(container(X.astype(np.float32)), container(Y))
        assert centroids.dtype == np.float32
        assert centroids.has_canonical_format
        np.testing.assert_allclose(centroids.toarray(), unit_rows(Y.T @ X), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_clusters_do_not_depend_on_the_number_of_threads(n_threads):
    centroids = random_centroids(np.random.default_rng(0), 500)
    expected = balanced_kmeans(centroids, 64, random_state=0)
    before = numba.get_num_threads()
    numba.set_num_threads(min(n_threads, numba.config.NUMBA_NUM_THREADS))
    try:
        found = balanced_kmeans(centroids, 64, random_state=0)
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(found, expected)
