"""Checks of what layers are given, so that a mistake is named before some matrix product stumbles on it."""

from torch import Tensor


def count(name: str, value: int) -> None:
    """Refuse a size that is no whole number, or less than 1.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, but is {value!r}")


def last_axis(name: str, x: Tensor, width: int, meaning: str) -> None:
    """Refuse a tensor of another width.

    Raises:
        ValueError: x's last axis is not `width` long.
        TypeError: x is no tensor.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, but is of the type {type(x).__name__}")
    if x.dim() == 0 or x.shape[-1] != width:
        raise ValueError(
            f"{name} must have a last axis of {width}, the layer's {meaning}, but has shape {tuple(x.shape)}"
        )
