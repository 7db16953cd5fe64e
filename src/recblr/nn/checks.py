"""Checks of what layers are given, so that a mistake is named before some matrix product stumbles on it."""

from torch import Tensor


def last_axis(name: str, x: Tensor, width: int, meaning: str) -> None:
    """Refuse a tensor of another width.

    Raises:
        ValueError: x's last axis is not `width` long.
    """
    if x.dim() == 0 or x.shape[-1] != width:
        raise ValueError(
            f"{name} must have a last axis of {width}, the layer's {meaning}, but has shape {tuple(x.shape)}"
        )
