"""The fused loss of ELIAS: against `elias_loss` and autograd in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skxmc.losses import elias_loss
from skxmc.losses._kernels import Entries, elias_losses, thin


def make_entries(rng, n_rows, k, spread=3.0):
    """Shortlists of up to k entries over beams of 4 of 6 clusters with 5 edges."""
    lengths = rng.integers(0, k + 1, n_rows)
    entries = Entries(
        np.concatenate(([0], np.cumsum(lengths))),
        np.array([rng.permutation(6)[:4] for _ in range(n_rows)]).reshape(n_rows, 4),
        -spread * rng.random((n_rows, 4), dtype=np.float32),
        -spread * rng.random((6, 5), dtype=np.float32),
        rng.integers(0, 4, (n_rows, k)).astype(np.int32),
        rng.integers(0, 5, (n_rows, k)).astype(np.int32),
        rng.random((n_rows, k)) < 0.3,
    )
    logits = rng.normal(size=lengths.sum(), scale=spread).astype(np.float32)
    return entries, logits


def run(entries, logits, power, weight):
    n_rows, k = entries.slots.shape
    costs, on_logits = np.empty((n_rows, 2)), np.empty_like(logits)
    on_paths = np.zeros((n_rows, k), dtype=np.float32)
    on_scores = np.empty((n_rows, 4), dtype=np.float32)
    elias_losses(entries, logits, power, weight, costs, on_logits, on_paths, on_scores)
    return costs, on_logits, on_paths, on_scores


def by_autograd(entries, logits, power, weight):
    n_rows = entries.slots.shape[0]
    lengths = np.diff(entries.indptr)
    rows = np.repeat(np.arange(n_rows), lengths)
    places = np.concatenate([np.arange(n) for n in lengths]).astype(int)
    scores, z = (torch.tensor(a, dtype=torch.float64).requires_grad_()
                 for a in (entries.scores, logits))  # fmt: skip
    slots = entries.slots[rows, places]
    edges = entries.log_weights[entries.clusters[rows, slots], entries.columns[rows, places]]
    log_path = scores[torch.tensor(rows), torch.tensor(slots).long()] + torch.tensor(edges)
    log_path.retain_grad()
    positive = torch.tensor(entries.positive[rows, places])
    parts = elias_loss(log_path, z, positive, torch.tensor(rows), n_rows, power)
    (parts[0] + weight * parts[1]).backward()
    on_paths = np.zeros(entries.slots.shape)
    on_paths[rows, places] = log_path.grad
    return [float(part.detach()) for part in parts], z.grad, on_paths, scores.grad


@given(
    seed=st.integers(0, 2**31 - 1),
    n_rows=st.integers(1, 5),
    power=st.sampled_from([1.0, 0.5]),
    weight=st.sampled_from([0.0, 0.05]),
)
def test_values_and_gradients_against_autograd(seed, n_rows, power, weight):
    entries, logits = make_entries(np.random.default_rng(seed), n_rows, k=7)
    costs, *gradients = run(entries, logits, power, weight)
    expected, *expected_gradients = by_autograd(entries, logits, power, weight)
    np.testing.assert_allclose(costs.mean(axis=0), expected, rtol=1e-6, atol=1e-9)
    for got, wanted in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("positive", [True, False])
@pytest.mark.parametrize("path", [0.0, -1e-8, -90.0, -600.0])
@pytest.mark.parametrize("logit", [-500.0, -20.0, 0.0, 20.0, 500.0])
def test_saturated_scores(path, logit, positive):
    """Finite, and what autograd finds."""
    entries, _ = make_entries(np.random.default_rng(0), 1, k=1)
    entries.scores[:], entries.log_weights[:] = path, 0
    entries = entries._replace(indptr=np.array([0, 1]), positive=np.array([[positive]]))
    logits = np.array([logit], dtype=np.float32)
    costs, *gradients = run(entries, logits, 1.0, 0.05)
    expected, *expected_gradients = by_autograd(entries, logits, 1.0, 0.05)
    np.testing.assert_allclose(costs[0], expected, rtol=1e-6, atol=1e-30)
    for got, wanted in zip(gradients, expected_gradients, strict=True):
        assert np.isfinite(got).all()
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-30)


def test_no_numbers_stay_none():
    entries, _ = make_entries(np.random.default_rng(1), 1, k=3)
    entries.log_weights[:] = np.nan
    entries = entries._replace(indptr=np.array([0, 3]))
    costs, *_ = run(entries, np.zeros(3, dtype=np.float32), 1.0, 0.0)
    assert np.isnan(costs[0, 0])


def test_thinning_keeps_expectations_and_what_is_large():
    least = np.float32(0.01)
    values = np.array([-1, 0.01, 0.009, -0.004, 1e-5, 0, -0.01], dtype=np.float32)
    draws = []
    for seed in range(4000):
        draw = values.copy()
        thin(draw, least, np.uint64(seed))
        draws.append(draw)
    draws = np.array(draws)
    np.testing.assert_array_equal(draws[:, [0, 1, 6]], np.tile(values[[0, 1, 6]], (4000, 1)))
    for column in range(2, 6):
        assert set(np.unique(draws[:, column])) <= {0, least * np.sign(values[column])}
    np.testing.assert_allclose(draws.mean(axis=0), values, atol=4 * 0.005 / np.sqrt(4000))
    # entries are drawn each for itself
    assert abs(np.corrcoef(draws[:, 2], draws[:, 3])[0, 1]) < 0.06


def test_nothing_is_thinned_below_zero():
    values = np.array([1e-20, 0, -3], dtype=np.float32)
    thin(values, np.float32(0), np.uint64(1))
    np.testing.assert_array_equal(values, np.array([1e-20, 0, -3], dtype=np.float32))
