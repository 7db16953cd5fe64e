"""Autocast, written by hand: what is cheap in 16 bits is cast, what remembers is not.

The scan runs in float32.  bdlru and causal_conv1d take their large inputs in autocast's dtype and keep
decay, weights, states and sums in float32: bfloat16 turns a factor of 0.9985 into 1.
"""

from typing import Any

import torch
from torch import Tensor

from recblr.ops.schemas import LIBRARY

DEVICES = ("cpu", "cuda")
_KEYS = {device: f"Autocast{device.upper()}" for device in DEVICES}
# Without these an operator's own call inside its rule would meet the rule again.
_EXCLUDED = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU).add(torch._C.DispatchKey.AutocastCUDA)

_HALF = (torch.bfloat16, torch.float16)


def _wide(x: Tensor | None) -> Tensor | None:
    """16-bit tensors as float32; others as they are."""
    return x.float() if x is not None and x.dtype in _HALF else x


def _narrow(x: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """float32 and 16-bit tensors in autocast's dtype; others as they are."""
    return x.to(dtype) if x is not None and x.dtype in (torch.float32, *_HALF) else x


def _register(device: str) -> None:
    def scan_like(name: str) -> Any:
        def rule(
            a: Tensor, b: Tensor, initial: Tensor | None = None, offsets: Tensor | None = None,
            reverse: bool = False,
        ) -> Any:  # fmt: skip
            with torch._C._ExcludeDispatchKeyGuard(_EXCLUDED):
                operator = getattr(torch.ops.recblr, name)
                return operator(_wide(a), _wide(b), _wide(initial), offsets, reverse)

        return rule

    def bdlru(
        x: Tensor, gates: Tensor, decay: Tensor, z: Tensor | None = None, initial: Tensor | None = None,
        offsets: Tensor | None = None, scale: Tensor | None = None,
    ) -> Any:  # fmt: skip
        dtype = torch.get_autocast_dtype(device)
        with torch._C._ExcludeDispatchKeyGuard(_EXCLUDED):
            x, gates, z = (_narrow(tensor, dtype) for tensor in (x, gates, z))  # type: ignore[assignment]
            return torch.ops.recblr.bdlru(x, gates, decay, z, initial, offsets, scale)

    def causal_conv1d(
        x: Tensor, weight: Tensor, bias: Tensor | None = None, initial: Tensor | None = None,
        offsets: Tensor | None = None, silu: bool = True,
    ) -> Any:  # fmt: skip
        dtype = torch.get_autocast_dtype(device)
        with torch._C._ExcludeDispatchKeyGuard(_EXCLUDED):
            return torch.ops.recblr.causal_conv1d(_narrow(x, dtype), weight, bias, initial, offsets, silu)

    for name in ("scan", "scan_with_final"):
        LIBRARY.impl(name, scan_like(name), _KEYS[device])
    LIBRARY.impl("bdlru", bdlru, _KEYS[device])
    LIBRARY.impl("causal_conv1d", causal_conv1d, _KEYS[device])


def register() -> None:
    """Register the rules on every device that has autocast and is served here."""
    for device in DEVICES:
        _register(device)
