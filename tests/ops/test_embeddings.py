"""Rows of one length, and dropout: shares, scaling, gradients, random state."""

import pytest
import torch
from torch.nn import functional as F

from skxmc.ops.embeddings import dropout, to_length


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


@pytest.mark.parametrize("length", [0.5, 4.0])
def test_rows_of_one_length_as_torch_makes_them(length):
    values = torch.randn(7, 33)
    values[2] = 0
    values[3] *= 1e-20
    weights = torch.randn(7, 33)
    results = []
    for function in (to_length, lambda x, length: length * F.normalize(x)):
        x = values.clone().requires_grad_(True)
        out = function(x, length)
        (out * weights).sum().backward()
        results.append((out.detach(), x.grad))
    torch.testing.assert_close(results[0][0], results[1][0])
    real = torch.tensor([0, 1, 4, 5, 6])
    torch.testing.assert_close(results[0][1][real], results[1][1][real])
    assert torch.isfinite(results[0][1]).all()
