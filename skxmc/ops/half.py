"""A dense layer in half precision, where the CPU multiplies that in hardware and it pays."""

from functools import cache

import torch
from llvmlite.binding import get_host_cpu_features
from torch import Tensor
from torch.nn import functional as F

__all__ = ["HALF_WORK", "has_bfloat16", "linear"]

# Multiply-adds of a product above which vectors are worth rounding to bfloat16 first.
HALF_WORK = 2**24


@cache
def has_bfloat16() -> bool:
    """Whether the CPU multiplies bfloat16 in hardware; if not, float32 is faster."""
    return bool(get_host_cpu_features().get("avx512bf16"))


def linear(values: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Multiply by a matrix and add a bias, forward and backward in bfloat16 where that pays.

    Weights, sums and the answer stay float32, as in mixed precision: only what is multiplied is
    rounded.

    Parameters
    ----------
    values : Tensor of shape (n_rows, width), float32
        Rows.
    weight : Tensor of shape (n_outputs, width), float32
        As in `torch.nn.Linear`.
    bias : Tensor of shape (n_outputs,), float32
        As in `torch.nn.Linear`.

    Returns
    -------
    outputs : Tensor of shape (n_rows, n_outputs)

    Examples
    --------
    >>> import torch
    >>> from skxmc.ops.half import linear
    >>> linear(torch.ones(1, 2), torch.eye(2), torch.zeros(2))
    tensor([[1., 1.]])
    """
    work = values.numel() * weight.shape[0]
    if values.device.type == "cpu" and work >= HALF_WORK and has_bfloat16():
        return _HalfLinear.apply(values, weight, bias)
    return F.linear(values, weight, bias)


class _HalfLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, weight, bias):
        values, weight = values.bfloat16(), weight.bfloat16()
        ctx.save_for_backward(values, weight)
        return (values @ weight.T).float().add_(bias)

    @staticmethod
    def backward(ctx, grad):
        values, weight = ctx.saved_tensors
        half = grad.bfloat16()
        return (half @ weight).float(), (half.T @ values).float(), grad.sum(dim=0)
