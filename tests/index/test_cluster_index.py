"""ClusterIndex: scores and weights against probability space in float64, gradients by autograd."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skxmc.index import Adjacency, ClusterIndex, partition_adjacency

from .oracles import adjacencies

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def make_index(n_clusters, width, alpha, rng, device="cpu"):
    adjacency = partition_adjacency(np.arange(n_clusters), n_clusters)
    index = ClusterIndex(width, adjacency, alpha=alpha).to(device)
    with torch.no_grad():
        index.clusters.weight.copy_(torch.tensor(rng.normal(size=(n_clusters, width))))
        index.clusters.bias.copy_(torch.tensor(rng.normal(size=n_clusters)))
    return index


def softmax(logits):
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    return shares / shares.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("device", DEVICES)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_clusters=st.integers(1, 9),
    alpha=st.sampled_from([0.5, 1.0, 3.0, 10.0]),
)
def test_log_scores_against_probabilities(device, seed, n_clusters, alpha):
    rng = np.random.default_rng(seed)
    index = make_index(n_clusters, 4, alpha, rng, device)
    embeddings = rng.normal(size=(5, 4)).astype(np.float32)
    log_scores = index.log_scores(torch.tensor(embeddings, device=device))
    weight, bias = (p.detach().cpu().double().numpy() for p in index.clusters.parameters())
    expected = np.minimum(1, alpha * softmax(embeddings @ weight.T + bias))
    assert float(log_scores.detach().max()) <= 0
    np.testing.assert_allclose(log_scores.exp().detach().cpu(), expected, rtol=1e-5)


def test_log_scores_are_exact_where_probabilities_underflow():
    index = make_index(2, 1, 2.0, np.random.default_rng(0))
    with torch.no_grad():
        index.clusters.weight.copy_(torch.tensor([[0.0], [-500.0]]))
        index.clusters.bias.zero_()
    log_scores = index.log_scores(torch.ones(1, 1))
    np.testing.assert_allclose(log_scores.detach(), [[0, np.log(2) - 500]], rtol=1e-6)
    log_scores.sum().backward()
    assert torch.isfinite(index.clusters.weight.grad).all()


def learned(edges, logits, beta, n_clusters):
    """Index that learns `edges`, its logits overwritten."""
    weights = np.where(edges >= 0, 1.0, 0.0).astype(np.float32)
    index = ClusterIndex(2, partition_adjacency(np.arange(n_clusters), n_clusters), alpha=1.0)
    index.learn_edges(Adjacency(edges, weights), beta=beta)
    with torch.no_grad():
        index.edge_logits.copy_(torch.tensor(logits))
    return index


def weights_slowly(edges, logits, beta):
    """Edge weights as probabilities: a float64 autograd expression over the edges alone."""
    rows = [0.0 * logits[0]]  # so that a graph without edges has a gradient too
    for labels, values in zip(edges, logits, strict=True):
        used = torch.tensor(labels >= 0)
        row = torch.zeros(len(labels), dtype=torch.float64)
        if used.any():
            shares = torch.softmax(values[used], dim=0)
            row = row.masked_scatter(used, torch.clamp(beta * shares, max=1.0))
        rows.append(row)
    return torch.stack(rows[1:]) + rows[0]


@given(graph=adjacencies(), seed=st.integers(0, 2**32 - 1), beta=st.sampled_from([0.4, 1, 2.5]))
def test_padding_gets_no_mass_and_no_gradient(graph, seed, beta):
    edges, _ = graph
    rng = np.random.default_rng(seed)
    # padding is where an unmasked softmax would put all of its mass
    logits = np.where(edges >= 0, rng.normal(size=edges.shape), 50.0)
    upstream = np.where(edges >= 0, rng.normal(size=edges.shape), 0.0)
    index = learned(edges, logits, beta, len(edges))
    log_weights = index.log_weights()
    assert torch.equal(log_weights == -torch.inf, torch.tensor(edges < 0))

    exact = index.edge_logits.detach().double().requires_grad_()
    expected = weights_slowly(edges, exact, beta)
    np.testing.assert_allclose(log_weights.exp().detach(), expected.detach(), rtol=1e-5)
    (log_weights.exp() * torch.tensor(upstream)).sum().backward()
    (expected * torch.tensor(upstream)).sum().backward()
    gradient = index.edge_logits.grad
    np.testing.assert_allclose(gradient, exact.grad, rtol=1e-4, atol=1e-6)
    assert not gradient[torch.tensor(edges < 0)].any()


@given(graph=adjacencies(), seed=st.integers(0, 2**32 - 1), learn=st.booleans())
def test_some_rows_are_the_rows_of_all(graph, seed, learn):
    edges, _ = graph
    rng = np.random.default_rng(seed)
    index = learned(edges, rng.normal(size=edges.shape), 1.5, len(edges))
    if not learn:
        index.fix_edges(Adjacency(edges, rng.random(edges.shape, dtype=np.float32)))
    rows = torch.tensor(rng.permutation(len(edges))[: rng.integers(1, len(edges) + 1)])
    part, whole = index.log_weights(rows), index.log_weights()
    assert torch.equal(part, whole[rows])
    if learn:
        (part[part > -torch.inf] * torch.randn(int((part > -torch.inf).sum()))).sum().backward()
        others = np.setdiff1d(np.arange(len(edges)), rows)
        assert not index.edge_logits.grad[others].any()


@given(graph=adjacencies(), seed=st.integers(0, 2**32 - 1), beta=st.sampled_from([0.5, 1.0, 4.0]))
def test_learning_starts_from_the_weights_given(graph, seed, beta):
    """Scaled to a row sum of beta, and cut at 1."""
    edges, _ = graph
    weights = np.random.default_rng(seed).uniform(0.01, 1, edges.shape)
    weights = np.where(edges >= 0, weights, 0).astype(np.float32)
    index = ClusterIndex(2, partition_adjacency(np.zeros(1, int), 1), alpha=1.0)
    index.learn_edges(Adjacency(edges, weights), beta=beta)
    sums = np.maximum(weights.sum(axis=1, keepdims=True), 1e-9)
    expected = np.minimum(1, beta * weights / sums)
    np.testing.assert_allclose(index.log_weights().exp().detach(), expected, rtol=1e-5)
    # beta equal to a row's sum gives the row back
    for c, row in enumerate(weights):
        if row.any():
            index.beta = float(row.sum())
            got = index.log_weights(torch.tensor([c]))[0].exp().detach()
            np.testing.assert_allclose(got, row, rtol=1e-5)


def test_fixed_weights_are_given_back():
    edges = np.array([[2, 0, -1], [1, -1, -1]], dtype=np.int32)
    weights = np.array([[0.5, 1.0, 0.0], [0.25, 0.0, 0.0]], dtype=np.float32)
    index = ClusterIndex(3, Adjacency(edges, weights), alpha=1.0)
    assert index.edge_logits is None
    assert index.n_clusters == 2
    assert index.n_labels == 3
    np.testing.assert_allclose(index.log_weights().exp(), weights, rtol=1e-6)
    assert not index.log_weights().requires_grad


def test_an_edge_without_support_can_be_learned():
    edges, weights = np.array([[0, 1]], dtype=np.int32), np.array([[1, 0]], dtype=np.float32)
    index = ClusterIndex(3, Adjacency(edges, weights), alpha=1.0)
    np.testing.assert_allclose(index.log_weights().exp(), [[1, 1e-4]], rtol=1e-5)
    index.learn_edges(Adjacency(edges, weights), beta=0.5)
    index.log_weights()[0, 1].backward()
    assert float(index.edge_logits.grad[0, 1]) > 0.5


def test_a_full_weight_is_cut_and_gets_no_gradient():
    index = learned(np.array([[0, 1]], dtype=np.int32), np.array([[3.0, 0.0]]), 1.2, 1)
    log_weights = index.log_weights()
    assert float(log_weights[0, 0].detach()) == 0.0
    log_weights[0, 0].backward()
    assert not index.edge_logits.grad.any()


def test_opening_and_closing_the_graph():
    index = ClusterIndex(3, partition_adjacency(np.array([0, 1, 1, 0]), 2), alpha=1.0)
    assert dict(index.named_parameters()).keys() == {"clusters.weight", "clusters.bias"}
    wider = partition_adjacency(np.array([0, 0, 1, 0]), 2)
    index.learn_edges(wider, beta=1.0)
    assert "edge_logits" in dict(index.named_parameters())
    other = copy.deepcopy(index)
    with torch.no_grad():
        other.edge_logits += torch.randn(other.edge_logits.shape)
    assert not torch.equal(other.log_weights(), index.log_weights())
    index.fix_edges(wider)
    assert "edge_logits" not in dict(index.named_parameters())
    np.testing.assert_array_equal(index.log_weights().exp(), wider.weights)


def test_reachable_fraction_reports_lost_labels():
    index = ClusterIndex(3, partition_adjacency(np.array([0, 1, 1, 0]), 2), alpha=1.0)
    assert index.reachable_fraction_ == 1.0
    index.fix_edges(partition_adjacency(np.array([0, 1, 1]), 2))
    assert index.reachable_fraction_ == 0.75
    index.edges[index.edges == 0] = -1
    assert index.reachable_fraction_ == 0.5


def test_a_new_index_gives_every_cluster_the_same_score():
    index = ClusterIndex(3, partition_adjacency(np.arange(4), 4), alpha=2.0)
    np.testing.assert_allclose(index.log_scores(torch.randn(2, 3)).exp().detach(), 0.5, rtol=1e-6)
