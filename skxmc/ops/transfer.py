"""From numpy to a device."""

import numpy as np
import torch
from torch import Tensor

__all__ = ["to_device"]


def to_device(array: np.ndarray, device: torch.device | str) -> Tensor:
    """Hand an array to a device: on the CPU without a copy, to CUDA without waiting for it.

    Parameters
    ----------
    array : ndarray
        Not to be changed afterwards.
    device : torch.device
        Where the tensor is wanted.

    Returns
    -------
    tensor : Tensor

    Examples
    --------
    >>> import numpy as np
    >>> from skxmc.ops.transfer import to_device
    >>> to_device(np.arange(2), "cpu")
    tensor([0, 1])
    """
    tensor = torch.from_numpy(array)
    if torch.device(device).type != "cuda":
        return tensor.to(device)
    # from pageable memory a copy to the device waits until it is done, from pinned memory not;
    # torch keeps the pinned block until the device has read it
    return tensor.pin_memory().to(device, non_blocking=True)
