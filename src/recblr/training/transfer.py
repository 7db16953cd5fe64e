"""Arrays of the host as tensors on the device."""

import numpy as np
import torch
from torch import Tensor

from recblr.data.packed import Int64Array


def tensors_on(device: torch.device, *arrays: Int64Array) -> tuple[Tensor, ...]:
    """Each array, ``(n,)`` int64, as a tensor on the device.

    On the CPU they share the arrays' memory.  Elsewhere all go in one copy, which the host does not wait
    for: of a step that takes a millisecond, a copy each would be a noticeable part.
    """
    if device.type == "cpu":
        return tuple(torch.from_numpy(array) for array in arrays)
    joined = torch.from_numpy(np.concatenate(arrays))
    if device.type == "cuda":
        joined = joined.pin_memory()  # or else the copy would not be left to the device
    return torch.split(joined.to(device, non_blocking=True), [array.size for array in arrays])
