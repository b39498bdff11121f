"""How much memory an encoder will take, before it is built."""

from typing import Any, NamedTuple

from torch import nn

from skxmc.encoders.base import Encoder, module_width

__all__ = ["EncoderSize", "encoder_size"]


class EncoderSize(NamedTuple):
    """Memory of an encoder in bytes, and the width of its embeddings.

    Attributes
    ----------
    embedding_dim : int
        Width of the embeddings.
    training : int
        Weights, gradients and the optimiser's state.
    rows : int
        What `prepare` makes of the training rows, beyond the rows themselves.
    start : int
        What `build` takes on top while it runs.
    """

    embedding_dim: int
    training: int
    rows: int = 0
    start: int = 0


def encoder_size(spec: Any, X: Any) -> EncoderSize | None:
    """Foresee the memory of the encoder that `build_encoder` would make.

    Parameters
    ----------
    spec : recipe, Encoder or torch.nn.Module
        As `build_encoder` takes it. A recipe answers by a method ``size(X)``.
    X : csr_array, ndarray or list of str
        Validated training rows.

    Returns
    -------
    size : EncoderSize or None
        None for a recipe that does not say.
    """
    if hasattr(spec, "build"):
        return spec.size(X) if hasattr(spec, "size") else None
    assert isinstance(spec, nn.Module)
    width = spec.embedding_dim if isinstance(spec, Encoder) else module_width(spec, X)
    # a weight, its gradient and two moments of AdamW
    trained = 16 * sum(p.numel() for p in spec.parameters() if p.requires_grad)
    frozen = [p for p in spec.parameters() if not p.requires_grad]
    fixed = sum(t.numel() * t.element_size() for t in [*frozen, *spec.buffers()])
    return EncoderSize(width, trained + fixed)
