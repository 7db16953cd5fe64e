"""The distribution that negatives are drawn from."""

import torch
from torch import Tensor


class Proposal:
    """A distribution q over the catalogue, in which every item has a chance.

    Args:
        weights: ``(V,)``, positive; q is proportional to them.

    Raises:
        ValueError: weights is empty or of another shape, or one is not a positive number.
    """

    def __init__(self, weights: Tensor) -> None:
        weights = weights.to(torch.float64)
        if weights.dim() != 1 or not weights.numel():
            raise ValueError(f"weights must be (V,) with an item at least, but is {tuple(weights.shape)}")
        if not bool(((weights > 0) & weights.isfinite()).all()):
            # What q never draws, no correction can make up for.
            raise ValueError("weights must be positive numbers, one an item")
        self._cumulative = weights.cumsum(0)
        self._cumulative /= self._cumulative[-1].clone()
        self.log_q = (weights.log() - weights.sum().log()).to(torch.float32)
        """``(V,)`` float32, log q."""

    @classmethod
    def uniform(cls, num_items: int) -> "Proposal":
        """Every item alike."""
        return cls(torch.ones(num_items))

    @classmethod
    def popularity(cls, items: Tensor, num_items: int) -> "Proposal":
        """In proportion to 1 + how often an item is in `items` (any shape, int64)."""
        return cls(1 + torch.bincount(items.flatten(), minlength=num_items))

    def to(self, device: torch.device) -> "Proposal":
        """Draw on this device from now on, by its own generator; returns self, as torch.nn.Module.to does."""
        self._cumulative, self.log_q = self._cumulative.to(device), self.log_q.to(device)
        return self

    def draw(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``(count,)`` int64 items, each drawn on its own: one may come again.

        generator: of the same device; torch's own where None.
        """
        uniform = torch.rand(count, dtype=torch.float64, device=self._cumulative.device, generator=generator)
        # Below the last of the cumulative sums, which is 1: always an item.
        return torch.searchsorted(self._cumulative, uniform, right=True)
