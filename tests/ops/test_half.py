"""The dense layer in bfloat16: about what float32 gives, and float32 where that is as fast."""

import pytest
import torch

from skxmc.ops import half


def gradients(linear, values, weight, bias, upstream):
    leaves = [part.clone().requires_grad_() for part in (values, weight, bias)]
    out = linear(*leaves)
    out.backward(upstream)
    return [out.detach(), *(leaf.grad for leaf in leaves)]


@pytest.fixture
def problem():
    generator = torch.Generator().manual_seed(0)
    shapes = (256, 256), (512, 256), (512,), (256, 512)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def test_close_to_float32(problem, monkeypatch):
    monkeypatch.setattr(half, "has_bfloat16", lambda: True)
    got = gradients(half.linear, *problem)
    expected = gradients(torch.nn.functional.linear, *problem)
    for one, exact in zip(got, expected, strict=True):
        assert one.dtype == torch.float32
        assert (one - exact).norm() < 0.01 * exact.norm()
    assert not torch.equal(got[0], expected[0])
    torch.testing.assert_close(got[3], expected[3])  # the bias is not rounded


@pytest.mark.parametrize("hardware", [False, True])
def test_float32_without_the_hardware_and_for_little_work(problem, monkeypatch, hardware):
    monkeypatch.setattr(half, "has_bfloat16", lambda: hardware)
    values, weight, bias, upstream = problem
    if hardware:
        values, upstream = values[:100], upstream[:100]
    got = gradients(half.linear, values, weight, bias, upstream)
    expected = gradients(torch.nn.functional.linear, values, weight, bias, upstream)
    for one, exact in zip(got, expected, strict=True):
        assert torch.equal(one, exact)
