"""Gradients of a whole layer, which tests compare between devices and precisions."""

from __future__ import annotations

import torch
from torch import Tensor

from recblr.nn import RecBLRLayer


def gradients_of_a_layer(device: str, dtype: torch.dtype, autocast: bool) -> list[Tensor]:
    """The gradients of a fixed layer's parameters, moved to the CPU.

    The loss is a sum of the outputs with fixed random weights.  A mean of squares would not do: the output is
    normalised, so this mean is nearly constant, and its gradients are only rounding errors.
    """
    torch.manual_seed(0)
    layer = RecBLRLayer(32, dropout=0.0)
    x, weights = torch.randn(4, 60, 32), torch.randn(4, 60, 32)
    layer = layer.to(device, dtype)
    with torch.autocast(device.partition(":")[0], torch.bfloat16, enabled=autocast):
        y = layer(x.to(device, dtype))
    (y * weights.to(device, dtype)).mean().backward()
    return [p.grad.cpu() for p in layer.parameters() if p.grad is not None]


def assert_gradients_close(got: list[Tensor], wanted: list[Tensor], tolerance: float) -> None:
    """Assert that errors are at most `tolerance` times the largest number of each wanted gradient."""
    for g, w in zip(got, wanted, strict=True):
        size = float(w.abs().max())
        torch.testing.assert_close(g.double(), w.double(), rtol=tolerance, atol=tolerance * size)
