"""The cluster graph: against dense matrices, label by label."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from skxmc.index import (
    approximate_adjacency,
    best_parents,
    partition_adjacency,
    reachable_fraction,
)

from .oracles import adjacencies, approximate_slowly, best_parents_slowly


def rows_of(adjacency):
    """Lists of (label, weight); checks the padding on the way."""
    edges, weights = adjacency
    assert edges.shape == weights.shape
    assert edges.dtype == np.int32
    assert weights.dtype == np.float32
    rows = []
    for labels, values in zip(edges, weights, strict=True):
        used = int((labels >= 0).sum())
        assert (labels[:used] >= 0).all()
        assert (labels[used:] == -1).all()
        assert (values[used:] == 0).all()
        rows.append(list(zip(labels[:used].tolist(), values[:used].tolist(), strict=True)))
    return rows


@given(st.data())
def test_partition_adjacency(data):
    n_clusters = data.draw(st.integers(1, 6))
    assignment = np.array(data.draw(st.lists(st.integers(0, n_clusters - 1), min_size=1)))
    adjacency = partition_adjacency(assignment, n_clusters)
    expected = [
        [(label, 1.0) for label in np.flatnonzero(assignment == c)] for c in range(n_clusters)
    ]
    assert rows_of(adjacency) == expected
    assert adjacency.edges.shape == (n_clusters, np.bincount(assignment).max())


@st.composite
def memberships(draw):
    """Draw (Y, membership, assignment, kappa): labels without rows, rows without labels."""
    n_rows, n_labels, n_clusters = (draw(st.integers(low, 7)) for low in (0, 1, 1))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    Y = (rng.random((n_rows, n_labels)) < draw(st.sampled_from([0, 0.2, 0.7]))).astype(int)
    Y[:, rng.random(n_labels) < 0.2] = 0
    # few values, exact in float32: many ties, and ties in every order of summation
    membership = rng.choice([0.25, 0.5], (n_rows, n_clusters))
    membership[rng.random((n_rows, n_clusters)) < 0.5] = 0
    assignment = rng.integers(0, n_clusters, n_labels)
    return Y, membership.astype(np.float32), assignment, draw(st.integers(1, 9))


@given(problem=memberships())
def test_approximate_adjacency_against_dense_matrices(problem):
    Y, membership, assignment, kappa = problem
    adjacency = approximate_adjacency(sp.csr_array(Y), sp.csr_array(membership), assignment, kappa)
    rows, expected = rows_of(adjacency), approximate_slowly(*problem)
    assert [[label for label, _ in row] for row in rows] == [
        [label for label, _ in row] for row in expected
    ]
    for row, wanted in zip(rows, expected, strict=True):
        np.testing.assert_allclose([w for _, w in row], [w for _, w in wanted], rtol=1e-6)


@given(problem=memberships())
def test_every_label_keeps_an_edge_and_no_row_is_too_long(problem):
    Y, membership, assignment, kappa = problem
    edges, _ = approximate_adjacency(sp.csr_array(Y), sp.csr_array(membership), assignment, kappa)
    for label, cluster in enumerate(assignment):
        assert label in edges[cluster]
    assert reachable_fraction(edges, len(assignment)) == 1.0
    assert edges.shape[1] <= max(kappa, np.bincount(assignment).max())
    for row in edges:
        labels = row[row >= 0]
        assert np.unique(labels).size == labels.size


def test_the_partition_is_kept_where_kappa_is_smaller_than_a_cluster():
    Y = sp.csr_array(np.array([[1, 0, 0, 1]] * 3))
    membership = sp.csr_array(np.array([[0.0, 1.0]] * 3))
    edges, weights = approximate_adjacency(Y, membership, np.array([0, 0, 0, 1]), kappa=1)
    # labels 0 and 3 have all their mass in cluster 1, labels 1 and 2 have none anywhere
    np.testing.assert_array_equal(edges, [[1, 2, 0], [0, 3, -1]])
    np.testing.assert_array_equal(weights, [[1, 1, 0], [1, 1, 0]])


def test_weights_by_hand(csr_container):
    Y = csr_container(np.array([[1, 1], [1, 0], [0, 1]]))
    membership = csr_container(np.array([[0.5, 0.25], [0.25, 0.5], [0.0, 0.125]], dtype=np.float32))
    edges, weights = approximate_adjacency(Y, membership, np.array([0, 1]), kappa=2)
    # mass: label 0 has 0.75 and 0.75, label 1 has 0.5 and 0.375
    np.testing.assert_array_equal(edges, [[0, 1], [0, 1]])
    np.testing.assert_array_equal(weights, [[1, 1], [1, 0.75]])


def test_a_common_label_does_not_blur_the_weights_of_a_rare_one():
    """Masses differ by orders of magnitude between labels; each is a share of its own label's."""
    Y = sp.csr_array(np.array([[1, 0], [0, 1], [0, 1]]))
    membership = sp.csr_array(np.array([[3e7, 0], [0.3, 0.0], [0.0, 0.1]], dtype=np.float32))
    edges, weights = approximate_adjacency(Y, membership, np.array([0, 1]), kappa=2)
    np.testing.assert_array_equal(edges, [[0, 1], [1, -1]])
    np.testing.assert_allclose(weights, [[1, 1], [1 / 3, 0]], rtol=1e-6)


@given(graph=adjacencies(), data=st.data())
def test_best_parents_against_brute_force(graph, data):
    edges, n_labels = graph
    value = st.sampled_from([-np.inf, -2.0, -0.5, 0.0, 0.25, 1.0])  # many ties; logarithms too
    weights = [[data.draw(value) for _ in row] for row in edges]
    weights = np.array(weights, dtype=np.float32)
    parents = best_parents(edges, weights, n_labels)
    assert parents.dtype == np.int64
    np.testing.assert_array_equal(parents, best_parents_slowly(edges, weights, n_labels))


@given(graph=adjacencies())
def test_reachable_fraction_counts_labels(graph):
    edges, n_labels = graph
    reached = {label for row in edges.tolist() for label in row} - {-1}
    assert reachable_fraction(edges, n_labels) == pytest.approx(len(reached) / n_labels)
