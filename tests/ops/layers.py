"""Gradients of a whole layer, to be compared between devices and precisions."""

from __future__ import annotations

import torch
from torch import Tensor

from recblr.nn import RecBLRLayer


def gradients_of_a_layer(device: str, dtype: torch.dtype, autocast: bool) -> list[Tensor]:
    """Those of a fixed layer's parameters, on the CPU.

    The output is weighted by fixed numbers: it is normalised, so that the mean of its squares is nearly
    constant and has no gradients but rounding errors.
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
    """Each within `tolerance` of the largest number in what is wanted."""
    for g, w in zip(got, wanted, strict=True):
        size = float(w.abs().max())
        torch.testing.assert_close(g.double(), w.double(), rtol=tolerance, atol=tolerance * size)
