"""The encoder seam: what a torch module must answer to stand in front of the label index.

Data flows in three steps, so that each happens as often as it has to and no oftener:

- `prepare(X)` once a fit or predict: turn validated input into something rows can be cut from;
- `collate(data, rows, device)` once a mini-batch: cut rows and make tensors;
- `forward(inputs)` once a mini-batch: embeddings of shape (n_rows, embedding_dim).
"""

import copy
import warnings
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from skxmc.ops._kernels import cut_rows
from skxmc.ops.row_table import CsrBatch
from skxmc.ops.transfer import to_device

__all__ = ["Encoder", "ModuleEncoder", "build_encoder", "csr_batch"]


class Encoder(nn.Module):
    """Base class of encoders: rows of X in, embeddings out.

    Subclass it when rows need a preparation of their own (tokenising, scaling); a plain
    `torch.nn.Module` from a feature tensor to an embedding needs no subclass, see `ModuleEncoder`.

    Attributes
    ----------
    embedding_dim : int
        Width of what `forward` returns.
    accepts_text : bool
        True if X is a list of strings; X is then handed to `prepare` as a list, unchecked but for
        its type. False (the default): X is a CSR array or a dense float32 array.

    Examples
    --------
    An encoder over dense features that scales them by what it saw in training:

    >>> import torch
    >>> from skxmc.encoders import Encoder
    >>> class Scaled(Encoder):
    ...     def __init__(self, n_features, embedding_dim):
    ...         super().__init__()
    ...         self.embedding_dim = embedding_dim
    ...         self.linear = torch.nn.Linear(n_features, embedding_dim)
    ...     def prepare(self, X):
    ...         return X / abs(X).max()
    ...     def collate(self, data, rows, device):
    ...         return torch.as_tensor(data[rows], device=device)
    ...     def forward(self, inputs):
    ...         return self.linear(inputs)
    >>> import numpy as np
    >>> encoder = Scaled(3, 2)
    >>> data = encoder.prepare(np.ones((4, 3), dtype=np.float32))
    >>> encoder(encoder.collate(data, np.array([0, 2]), "cpu")).shape
    torch.Size([2, 2])
    """

    embedding_dim: int
    accepts_text: ClassVar[bool] = False

    def prepare(self, X: Any) -> Any:
        """Turn validated input into a store that `collate` can cut rows from.

        Parameters
        ----------
        X : csr_array, ndarray or list of str
            Validated rows.

        Returns
        -------
        data : object
            Whatever `collate` understands; X itself by default.
        """
        return X

    def collate(self, data: Any, rows: np.ndarray, device: torch.device | str) -> Any:
        """Cut rows out of the store, as input of `forward`.

        Parameters
        ----------
        data : object
            What `prepare` returned.
        rows : ndarray of shape (n_rows,), int64
            Positions of the rows.
        device : torch.device
            Where the tensors are wanted.

        Returns
        -------
        inputs : object
            By default a dense float32 tensor for dense data, a sparse CSR tensor for CSR data.
        """
        if sp.issparse(data):
            part = data[rows]
            indptr, indices, values = (
                to_device(array, device) for array in (part.indptr, part.indices, part.data)
            )
            with warnings.catch_warnings():
                # torch says once that its sparse CSR is in beta; the user cannot choose another
                warnings.filterwarnings("ignore", "Sparse CSR tensor support", UserWarning)
                return torch.sparse_csr_tensor(
                    indptr, indices, values, size=part.shape, check_invariants=False
                )
        return to_device(data[rows], device)


class ModuleEncoder(Encoder):
    """A plain torch module from a feature tensor to embeddings, as an `Encoder`.

    Parameters
    ----------
    module : torch.nn.Module
        Takes a float32 tensor of shape (n_rows, n_features), sparse CSR where X is sparse, and
        returns a tensor of shape (n_rows, embedding_dim).
    embedding_dim : int
        Width of what the module returns.

    Examples
    --------
    >>> import torch
    >>> from skxmc.encoders import ModuleEncoder
    >>> ModuleEncoder(torch.nn.Linear(10, 4), embedding_dim=4).embedding_dim
    4
    """

    def __init__(self, module: nn.Module, embedding_dim: int):
        super().__init__()
        self.module = module
        self.embedding_dim = embedding_dim

    def forward(self, inputs: Tensor) -> Tensor:
        """Embed a batch of rows.

        Parameters
        ----------
        inputs : Tensor of shape (n_rows, n_features)
            What `collate` returned.

        Returns
        -------
        embeddings : Tensor of shape (n_rows, embedding_dim)
            As the module makes them.
        """
        return self.module(inputs)


def build_encoder(spec: Any, X: Any, random_state: np.random.RandomState) -> Encoder:
    """Make the encoder of one fit from what the user gave; the user's own object stays untouched.

    Parameters
    ----------
    spec : object with a `build(X, random_state)` method, Encoder or torch.nn.Module
        A recipe such as `BagOfWords`, which sizes itself from the data, or a ready module, which
        is copied.
    X : csr_array, ndarray or list of str
        Validated training input.
    random_state : RandomState
        Source of the recipe's random numbers.

    Returns
    -------
    encoder : Encoder

    Raises
    ------
    TypeError
        If `spec` is none of these.
    ValueError
        If a module does not return a 2-d tensor for a batch of two rows.
    """
    check_encoder(spec)
    if hasattr(spec, "build"):
        return spec.build(X, random_state)
    if isinstance(spec, Encoder):
        return copy.deepcopy(spec)
    module = copy.deepcopy(spec)
    return ModuleEncoder(module, module_width(module, X))


def check_encoder(spec: Any) -> None:
    """Raise unless `build_encoder` can make an encoder of `spec`.

    Parameters
    ----------
    spec : object
        What the user gave.

    Raises
    ------
    TypeError
        If `spec` is no recipe, Encoder or module.
    ValueError
        If an Encoder does not say how wide its embeddings are.
    """
    if isinstance(spec, type) or not (hasattr(spec, "build") or isinstance(spec, nn.Module)):
        raise TypeError(
            "encoder must be None, an encoder recipe such as skxmc.encoders.BagOfWords(), an "
            f"skxmc.encoders.Encoder or a torch.nn.Module, got {spec!r}."
        )
    if isinstance(spec, Encoder) and not isinstance(getattr(spec, "embedding_dim", None), int):
        raise ValueError(
            f"encoder: {type(spec).__name__} must have an int attribute embedding_dim, the width "
            "of what its forward returns."
        )


def check_embeddings(encoder: Encoder, out: Any, n_rows: int) -> None:
    """Raise unless `out` is a tensor of shape (n_rows, encoder.embedding_dim)."""
    expected = (n_rows, encoder.embedding_dim)
    if not isinstance(out, Tensor) or out.shape != expected:
        got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(
            f"encoder: {n_rows} rows must become a tensor of embeddings of shape {expected}, "
            f"got {got}."
        )


def module_width(module: nn.Module, X: Any) -> int:
    """Find the width of a plain module's embeddings by embedding the first row twice.

    Parameters
    ----------
    module : torch.nn.Module
        Left in the mode it was in.
    X : csr_array or ndarray
        Validated training rows.

    Returns
    -------
    width : int

    Raises
    ------
    ValueError
        If the module does not return a 2-d tensor of two rows.
    """
    encoder = ModuleEncoder(module, embedding_dim=0)
    was_training = module.training
    module.eval()
    with torch.no_grad():
        out = encoder(encoder.collate(encoder.prepare(X), np.array([0, 0]), "cpu"))
    module.train(was_training)
    if not isinstance(out, Tensor) or out.ndim != 2 or out.shape[0] != 2:
        got = f"shape {tuple(out.shape)}" if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(
            f"encoder: the module must turn 2 rows into a 2-d tensor of 2 embeddings, got {got}."
        )
    return out.shape[1]


def csr_batch(X: sp.csr_array, rows: np.ndarray, device: torch.device | str) -> CsrBatch:
    """Cut rows out of a canonical CSR array as tensors on `device`."""
    arrays = cut_rows(X.indptr, X.indices, X.data, rows)
    return CsrBatch(*(to_device(array, device) for array in arrays))
