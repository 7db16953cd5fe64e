"""Autocast, written by hand: what is cheap in 16 bits is cast, what remembers is not.

The scan runs in float32.  bdlru and causal_conv1d take their large inputs in autocast's dtype and keep
decay, weights, states and sums in float32: bfloat16 turns a factor of 0.9985 into 1.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from recblr.ops.common.library import LIBRARY
from recblr.ops.common.torch_internals import without_autocast

DEVICES = ("cpu", "cuda")

_HALF = (torch.bfloat16, torch.float16)


def wide(x: Tensor | None) -> Tensor | None:
    """16-bit tensors as float32; others as they are."""
    return x.float() if x is not None and x.dtype in _HALF else x


def narrow(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """float32 and 16-bit tensors in autocast's dtype; others as they are."""
    return x.to(dtype) if x is not None and x.dtype in (torch.float32, *_HALF) else x


def register_autocast(name: str, cast: Callable[..., tuple[Any, ...]]) -> None:
    """Register an operator's rule on every device that has autocast and is served here.

    cast: from autocast's dtype and the operator's arguments, of which defaults may be left out, to what it is
    called with.
    """
    for device in DEVICES:
        LIBRARY.impl(name, _rule(name, cast, device), f"Autocast{device.upper()}")


def _rule(name: str, cast: Callable[..., tuple[Any, ...]], device: str) -> Callable[..., Any]:
    def rule(*arguments: Any) -> Any:
        dtype = torch.get_autocast_dtype(device)
        with without_autocast():
            return getattr(torch.ops.recblr, name)(*cast(dtype, *arguments))

    return rule
