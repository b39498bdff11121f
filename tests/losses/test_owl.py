"""Ordered weighted losses against plain numpy, autograd, and what the theory says of them."""

from math import comb

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from skxmc.losses import (
    MARGINS,
    effective_hardness,
    expected_weights,
    margin_loss,
    ordered_weighted_loss,
    ordered_weights,
)


def phi(t, margin):
    """The margin functions, written out."""
    t = np.asarray(t, dtype=np.float64)
    if margin == "logistic":
        return np.logaddexp(0.0, -t)
    return np.maximum(0.0, 1.0 - t) ** (2 if margin == "squared_hinge" else 1)


def slow_loss(scores, positives, weights, margin, pairwise, treatment):
    """One row, all labels: a loop over positives and sorted negatives."""
    negatives = sorted((s for j, s in enumerate(scores) if j not in positives), reverse=True)
    theta = list(zip(weights, negatives, strict=False))
    against = sum(w * phi(-s, margin) for w, s in theta)
    if treatment == "one_vs_all":
        return sum(phi(scores[j], margin) for j in positives) + against
    if not positives:
        return 0.0
    if pairwise:
        costs = [sum(w * phi(scores[j] - s, margin) for w, s in theta) for j in positives]
    else:
        costs = [phi(scores[j], margin) + against for j in positives]
    return float(np.mean(costs))


def split(scores, positives):
    """Arguments of ordered_weighted_loss for one row of dense scores."""
    mask = np.zeros(scores.shape[-1], dtype=bool)
    mask[list(positives)] = True
    rows = torch.zeros(len(positives), dtype=torch.int64)
    return scores[torch.from_numpy(mask)], rows, scores[torch.from_numpy(~mask)][None]


@pytest.mark.parametrize("margin", MARGINS)
def test_margins_against_numpy_and_autograd(margin):
    t = torch.linspace(-3.3, 3.1, 41, dtype=torch.float64, requires_grad=True)
    value = margin_loss(t, margin)
    np.testing.assert_allclose(value.detach(), phi(t.detach(), margin), rtol=1e-12, atol=1e-15)
    (gradient,) = torch.autograd.grad(value.sum(), t)
    step = 1e-6
    x = t.detach().numpy()
    slope = (phi(x + step, margin) - phi(x - step, margin)) / (2 * step)
    np.testing.assert_allclose(gradient, slope, atol=1e-5)


@pytest.mark.parametrize("margin", MARGINS)
def test_absent_negatives_cost_nothing(margin):
    scores = torch.tensor([[-torch.inf, 0.3]], requires_grad=True)
    loss = ordered_weighted_loss(
        torch.tensor([1.0]), torch.tensor([0]), scores, torch.ones(2), margin=margin
    )
    (gradient,) = torch.autograd.grad(loss, scores)
    np.testing.assert_allclose(loss.item(), phi(1.0, margin) + phi(-0.3, margin), rtol=1e-6)
    assert gradient[0, 0] == 0
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize(
    ("pairwise", "treatment"),
    [(False, "one_vs_all"), (False, "pick_all"), (True, "pick_all"), (True, "pick_one")],
)
@given(seed=st.integers(0, 10_000), n_positive=st.integers(0, 3), k=st.integers(1, 9))
def test_loss_against_a_loop(margin, pairwise, treatment, seed, n_positive, k):
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=(2, 8))
    n_positive = min(n_positive, 1) if treatment == "pick_one" else n_positive
    positives = [sorted(rng.choice(8, n_positive, replace=False).tolist()) for _ in range(2)]
    weights = ordered_weights("geometric", k, ratio=0.7)
    expected = sum(
        slow_loss(s, p, weights, margin, pairwise, treatment)
        for s, p in zip(scores, positives, strict=True)
    )
    tensor = torch.from_numpy(scores)
    parts = [split(tensor[i], positives[i]) for i in range(2)]
    found = ordered_weighted_loss(
        torch.cat([part[0] for part in parts]),
        torch.cat([part[1] + i for i, part in enumerate(parts)]),
        torch.cat([part[2] for part in parts]),
        torch.from_numpy(weights),
        margin=margin,
        pairwise=pairwise,
        treatment=treatment,
    )
    np.testing.assert_allclose(found.item(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("pairwise", [False, True])
def test_convex_along_random_segments_unless_weights_increase(margin, pairwise):
    rng = np.random.default_rng(0)
    falling = np.sort(rng.random(9))[::-1]
    treatment = "pick_all"

    def violations(weights):
        count = 0
        for _ in range(2000):
            a, b = rng.normal(scale=2, size=(2, 10))
            w = rng.random()
            ends = [slow_loss(s, [0], weights, margin, pairwise, treatment) for s in (a, b)]
            inside = slow_loss(w * a + (1 - w) * b, [0], weights, margin, pairwise, treatment)
            count += inside > w * ends[0] + (1 - w) * ends[1] + 1e-9
        return count

    assert violations(falling) == 0
    assert violations(falling[::-1]) > 20


@given(
    m=st.integers(1, 30),
    data=st.data(),
)
def test_expected_weights_closed_form(m, data):
    pool = data.draw(st.integers(1, m))
    k = data.draw(st.integers(1, pool))
    exact = [
        sum(comb(i - 1, r) * comb(m - i, pool - 1 - r) for r in range(k)) / comb(m, pool)
        for i in range(1, m + 1)
    ]
    theta = expected_weights(m, pool, k)
    np.testing.assert_allclose(theta, exact, atol=1e-12)
    assert (np.diff(theta) <= 1e-12).all()
    np.testing.assert_allclose(theta.sum(), k)


def test_expected_weights_special_cases():
    np.testing.assert_allclose(expected_weights(50, 10, 10), np.full(50, 0.2))
    np.testing.assert_allclose(expected_weights(50, 50, 3), [1.0] * 3 + [0.0] * 47, atol=1e-12)
    assert effective_hardness(670_000, 16_384, 10) == pytest.approx(10 * 670_000 / 16_384, rel=0.3)


def test_estimator_mean_is_the_ordered_loss():
    """The Monte-Carlo mean over pools equals the exact loss with the closed-form weights."""
    rng = np.random.default_rng(1)
    m, pool, k = 40, 10, 3
    scores = np.r_[0.4, rng.normal(size=m)]
    exact = slow_loss(scores, [0], expected_weights(m, pool, k), "logistic", False, "one_vs_all")
    n_draws = 20_000
    order = np.argsort(rng.random((n_draws, m)), axis=1)[:, :pool] + 1
    sampled = ordered_weighted_loss(
        torch.full((n_draws,), 0.4, dtype=torch.float64),
        torch.arange(n_draws),
        torch.from_numpy(scores[order]),
        torch.ones(k, dtype=torch.float64),
    )
    # the spread of one draw is about 0.6: five standard errors are 0.02
    assert sampled.item() / n_draws == pytest.approx(exact, abs=0.02)


@pytest.mark.parametrize(
    ("weights", "reason"),
    [
        ([1.0, 2.0], "must not increase"),
        ([1.0, -0.5], "non-negative"),
        ([0.0, 0.0], "not all zero"),
        ([np.nan, 0.0], "finite"),
        ([1.0, 1.0, 1.0], "one entry for each"),
    ],
)
def test_bad_weights(weights, reason):
    with pytest.raises(ValueError, match=reason):
        ordered_weights(weights, 2)


def test_bad_combinations():
    one = torch.ones(1)
    with pytest.raises(ValueError, match="pick_all"):
        ordered_weighted_loss(one, torch.zeros(1, dtype=torch.int64), one[None], one, pairwise=True)
    with pytest.raises(ValueError, match="one of 'topk'"):
        ordered_weights("steep", 3)
    with pytest.raises(ValueError, match="margin"):
        margin_loss(one, "cubic")
    for m, pool, k in ((5, 6, 1), (5, 2, 3), (0, 1, 1)):
        with pytest.raises(ValueError, match="expected_weights"):
            expected_weights(m, pool, k)
