"""What happens to embeddings between encoder and head, on the CPU in one sweep over them each."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from skxmc.ops import _kernels

__all__ = ["dropout", "to_length"]

_SMALLEST = 1e-12


def to_length(values: Tensor, length: float) -> Tensor:
    """Bring each row to the given length; a row of zeros stays one.

    Parameters
    ----------
    values : Tensor of shape (n_rows, width), float32
        Rows.
    length : float
        Their length afterwards.

    Returns
    -------
    scaled : Tensor
        Shaped like `values`.

    Examples
    --------
    >>> import torch
    >>> from skxmc.ops.embeddings import to_length
    >>> to_length(torch.tensor([[3.0, 4.0], [0.0, 0.0]]), 10.0)
    tensor([[6., 8.],
            [0., 0.]])
    """
    if values.device.type != "cpu":
        return length * F.normalize(values, eps=_SMALLEST)
    return _ToLength.apply(values, length)


class _ToLength(torch.autograd.Function):
    @staticmethod
    def forward(ctx, values, length):
        values = values.contiguous()
        scaled, factors = torch.empty_like(values), torch.empty(values.shape[0])
        arrays = (values.numpy(), scaled.numpy(), factors.numpy())
        _kernels.to_length(*arrays, np.float32(length), np.float32(_SMALLEST))
        ctx.save_for_backward(scaled, factors)
        ctx.length = length
        return scaled

    @staticmethod
    def backward(ctx, grad):
        scaled, factors = ctx.saved_tensors
        grad, out = grad.contiguous(), torch.empty_like(scaled)
        arrays = (grad.numpy(), scaled.numpy(), factors.numpy(), out.numpy())
        _kernels.to_length_backward(*arrays, np.float32(ctx.length))
        return out, None


def dropout(values: Tensor, p: float) -> Tensor:
    """Zero each entry with probability p, and scale the others up by 1 / (1 - p).

    On a CPU torch draws one number of the mask after the other; here the mask is a hash.

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
    >>> from skxmc.ops.embeddings import dropout
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
