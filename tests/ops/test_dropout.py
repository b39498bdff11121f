"""Dropout: shares, scaling, gradient, and the random state it hangs on."""

import pytest
import torch

from skxmc.ops.dropout import dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_share_and_scale(p):
    out = dropout(torch.ones(400, 300), p)
    kept = out > 0
    assert float(kept.float().mean()) == pytest.approx(1 - p, abs=0.01)
    # as binomial in rows and columns: no stripes
    for dim, n in ((0, 400), (1, 300)):
        spread = float(kept.float().mean(dim=dim).std())
        assert spread == pytest.approx((p * (1 - p) / n) ** 0.5, rel=0.15)
    assert torch.allclose(out[kept], torch.tensor(1 / (1 - p)))


def test_gradient_passes_where_values_passed():
    values = torch.randn(20, 30, requires_grad=True)
    out = dropout(values, 0.5)
    weights = torch.randn(20, 30)
    (out * weights).sum().backward()
    assert torch.allclose(values.grad, torch.where(out != 0, 2 * weights, 0.0))


def test_nothing_dropped_is_the_input():
    values = torch.randn(3)
    assert dropout(values, 0.0) is values


def test_the_mask_hangs_on_torchs_random_state():
    values = torch.ones(1000)
    torch.manual_seed(0)
    one, other = dropout(values, 0.5), dropout(values, 0.5)
    torch.manual_seed(0)
    assert torch.equal(dropout(values, 0.5), one)
    assert not torch.equal(one, other)


def test_inputs_that_are_not_contiguous():
    values = torch.arange(1.0, 13.0).reshape(3, 4).T
    out = dropout(values, 0.5)
    assert out.shape == (4, 3)
    assert torch.equal(out[out != 0], 2 * values[out != 0])
