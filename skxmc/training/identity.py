"""What makes two fits the same: version, parameters, data, and the model they start from."""

import hashlib
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.base import BaseEstimator
from torch import nn

from skxmc import __version__

__all__ = ["describe", "differences", "fit_identity"]

# Parameters that do not decide what is learned.
FREE = ("checkpoint_dir", "memory_limit", "n_jobs", "verbose")


def fit_identity(
    estimator: BaseEstimator, X: Any, Y: sp.csr_array, model: nn.Module | None, device: torch.device
) -> dict[str, str]:
    """Describe all that decides what a fit learns.

    Parameters
    ----------
    estimator : estimator
        Its parameters count, but for those in `FREE`.
    X : csr_array, ndarray or list of str
        Validated rows.
    Y : csr_array of shape (n_rows, n_labels)
        Their truth.
    model : torch.nn.Module or None
        What training starts from under `warm_start`.
    device : torch.device
        Where training happens.

    Returns
    -------
    identity : dict of str
        One short text an aspect.
    """
    parameters = estimator.get_params(deep=False)
    return {
        "estimator": type(estimator).__name__,
        "version of skxmc": __version__,
        "version of torch": version("torch"),
        "device": device.type,
        **{name: describe(v) for name, v in sorted(parameters.items()) if name not in FREE},
        "X": describe(X),
        "y": describe(Y),
        "model of the last fit": describe(model),
    }


def differences(one: dict[str, str], other: dict[str, str]) -> list[str]:
    """List what differs between two identities, in words.

    Parameters
    ----------
    one, other : dict of str
        Of the checkpoint, and of the fit that found it.

    Returns
    -------
    listed : list of str

    Examples
    --------
    >>> from skxmc.training.identity import differences
    >>> differences({"dropout": "0.5", "X": "a"}, {"dropout": "0.6", "X": "a"})
    ['dropout was 0.5 and is 0.6']
    """
    names = [*one, *(name for name in other if name not in one)]
    if one.get("estimator") != other.get("estimator"):
        names = ["estimator"]  # which has other parameters altogether
    return [
        f"{name} was {one.get(name, 'absent')} and is {other.get(name, 'absent')}"
        for name in names
        if one.get(name) != other.get(name)
    ]


def describe(value: Any) -> str:
    """Describe a parameter or data in a short text that is the same for what trains the same.

    Parameters
    ----------
    value : object
        Numbers and strings are shown; arrays, modules, generators and lists of texts by a digest
        of their content; other objects by their class and attributes.

    Returns
    -------
    text : str

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.training.identity import describe
    >>> describe(np.float64(0.5)), describe(None)
    ('0.5', 'None')
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return repr(value)
    if hasattr(value, "__qualname__"):  # a class or a function
        return f"{value.__module__}.{value.__qualname__}"
    if sp.issparse(value):
        arrays = (value.indptr, value.indices, value.data)
        return f"sparse {value.shape} with digest {_digest(arrays)}"
    if isinstance(value, np.ndarray):
        return f"array {value.shape} with digest {_digest([value])}"
    if isinstance(value, np.random.RandomState):
        key = value.get_state(legacy=False)["state"]
        return f"RandomState with digest {_digest([np.frombuffer(repr(key).encode(), np.uint8)])}"
    if isinstance(value, nn.Module):
        tensors = [t.detach().cpu().contiguous() for t in value.state_dict().values()]
        digest = _digest(t.reshape(-1).view(torch.uint8).numpy() for t in tensors if t.numel())
        return f"{type(value).__name__} with digest {digest}"
    if isinstance(value, list | tuple):
        texts = [v if isinstance(v, str) else describe(v) for v in value]
        if len(texts) <= 8:
            return f"[{', '.join(texts)}]"
        encoded = (np.frombuffer(f"{len(t)} {t}".encode(), np.uint8) for t in texts)
        return f"list of {len(texts)} with digest {_digest(encoded)}"
    parametric = isinstance(value, BaseEstimator)
    attributes = value.get_params() if parametric else getattr(value, "__dict__", {})
    inner = ", ".join(f"{name}={describe(v)}" for name, v in sorted(attributes.items()))
    return f"{type(value).__qualname__}({inner})"


def _digest(arrays: Iterable[np.ndarray]) -> str:
    found = hashlib.blake2b(digest_size=8)
    for array in arrays:
        found.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return found.hexdigest()
