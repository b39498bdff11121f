"""Kernels of the edges: the exponential against NumPy, weights against torch."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from skxmc.index import Adjacency, ClusterIndex, _kernels, partition_adjacency

from .oracles import adjacencies


@given(values=st.lists(st.floats(-80, 0, width=32), max_size=40), shift=st.floats(0, 7, width=32))
def test_exponential(values, shift):
    values, out = np.array(values, dtype=np.float32), np.empty(len(values), dtype=np.float32)
    _kernels.exp_row(values, np.float32(shift), out)
    expected = np.exp((values - np.float32(shift)).astype(np.float64))
    np.testing.assert_allclose(out, expected, rtol=3e-7)


def test_exponential_at_the_ends():
    values = np.array([0, -0.0, -87, -88, -1000, -np.inf, 80], dtype=np.float32)
    out = np.empty_like(values)
    _kernels.exp_row(values, np.float32(0), out)
    expected = np.exp(np.maximum(values.astype(np.float64), -87))
    np.testing.assert_allclose(out, expected, rtol=3e-7)


@given(graph=adjacencies(), seed=st.integers(0, 2**32 - 1), beta=st.sampled_from([0.4, 1, 2.5]))
def test_edge_weights_against_torch(graph, seed, beta):
    """Some rows; the others stay as they are."""
    edges, _ = graph
    rng = np.random.default_rng(seed)
    index = ClusterIndex(2, partition_adjacency(np.arange(len(edges)), len(edges)), alpha=1.0)
    index.learn_edges(Adjacency(edges, np.ones(edges.shape, dtype=np.float32)), beta=beta)
    logits = np.where(edges >= 0, rng.normal(size=edges.shape, scale=4), 0).astype(np.float32)
    upstream = np.where(edges >= 0, rng.normal(size=edges.shape), 0).astype(np.float32)
    with torch.no_grad():
        index.edge_logits.copy_(torch.tensor(logits))
    rows = rng.permutation(len(edges))[: rng.integers(1, len(edges) + 1)]
    others = np.setdiff1d(np.arange(len(edges)), rows)
    gain = np.float32(np.log(beta))
    weights, sums = np.full(edges.shape, 9, np.float32), np.full(len(edges), 9, np.float32)
    _kernels.edge_weights(logits, edges, rows, gain, weights, sums)
    expected = index.log_weights()
    used = (edges >= 0) & np.isin(np.arange(len(edges)), rows)[:, None]
    np.testing.assert_allclose(weights[used], expected.detach().numpy()[used], rtol=1e-5, atol=1e-6)
    assert (weights[~used] == 9).all()

    expected[torch.tensor(used)].backward(torch.tensor(upstream[used]))
    grad = np.where(used, upstream, 0).astype(np.float32)
    grad[others] = 0
    _kernels.edge_weights_backward(logits, edges, rows, gain, sums, grad)
    # at the edge of the cut rounding decides
    at_cut = np.isclose(expected.detach().numpy(), 0, atol=1e-6) & ~(weights == 0)
    if not at_cut.any():
        np.testing.assert_allclose(grad, index.edge_logits.grad, rtol=1e-4, atol=1e-5)
