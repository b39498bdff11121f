"""Dropout whose mask is a hash: torch draws one number after the other on a CPU, and that shows."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from skxmc.ops import _kernels

__all__ = ["dropout"]


def dropout(values: Tensor, p: float) -> Tensor:
    """Zero each entry with probability p, and scale the others up by 1 / (1 - p).

    Parameters
    ----------
    values : Tensor, float32
        Any shape.
    p : float
        In [0, 1).

    Returns
    -------
    dropped : Tensor
        Shaped like `values`; what is dropped depends on torch's random state.

    Examples
    --------
    >>> import torch
    >>> from skxmc.ops.dropout import dropout
    >>> sorted(set(dropout(torch.ones(100), 0.5).tolist()))
    [0.0, 2.0]
    """
    if p == 0:
        return values
    if values.device.type != "cpu":
        return F.dropout(values, p)
    return _HashDropout.apply(values, p, int(torch.randint(2**63 - 1, (1,))))


class _HashDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, p, seed):
        ctx.draw = p, seed
        return _drop(values, p, seed)

    @staticmethod
    def backward(ctx, grad):
        # the mask is not kept: the seed makes it again
        return _drop(grad, *ctx.draw), None, None


def _drop(values: Tensor, p: float, seed: int) -> Tensor:
    values = values.detach().contiguous()
    out = torch.empty_like(values)
    bound, scale = np.uint64(round(p * 2**32)), np.float32(1 / (1 - p))
    _kernels.drop(values.reshape(-1).numpy(), np.uint64(seed), bound, scale, out.view(-1).numpy())
    return out
