"""Depthwise causal convolution over time as a module."""

import math

import torch
from torch import Tensor, nn

from recblr.nn.base import check_count, check_last_axis
from recblr.ops import causal_conv1d


class CausalConv1d(nn.Module):
    """Depthwise causal convolution with bias, then SiLU (Alg. 1 of arXiv 2406.12580).

    Args:
        channels: width C.
        kernel_size: K, how many inputs each output sees: the current one and K - 1 before it.
        silu: apply SiLU to the output.
    """

    def __init__(self, channels: int, kernel_size: int = 4, *, silu: bool = True) -> None:
        super().__init__()
        check_count("channels", channels)
        check_count("kernel_size", kernel_size)
        self.channels, self.kernel_size, self.silu = channels, kernel_size, silu
        self.weight = nn.Parameter(torch.empty(channels, kernel_size))
        self.bias = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias as torch.nn.Conv1d does."""
        bound = 1 / math.sqrt(self.kernel_size)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(
        self, x: Tensor, *, initial: Tensor | None = None, offsets: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run over whole sequences.

        Args:
            x: ``(B, T, C)``, or packed ``(N, C)`` with ``offsets``.
            initial: the K - 1 inputs before the first step, oldest first, ``(B, K-1, C)`` or
                ``(S, K-1, C)``; zeros where None.
            offsets: ``(S + 1,)``, see :func:`recblr.scan`.

        Returns:
            The output, of x's shape and dtype, and the last K - 1 inputs, of initial's shape, in float32
            (float64 for float64).

        Raises:
            ValueError: a shape, dtype or offset that does not fit, named in one sentence.
        """
        check_last_axis("x", x, self.channels, "channels")
        return causal_conv1d(x, self.weight, self.bias, initial, offsets, self.silu)

    def step(self, x_t: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One event of each sequence: x_t ``(B, C)``, state ``(B, K-1, C)`` or None.

        Returns the output ``(B, C)`` and the new state; raises as :meth:`forward`.
        """
        y, state = self(x_t.unsqueeze(1), initial=state)
        return y.squeeze(1), state

    def extra_repr(self) -> str:
        return f"channels={self.channels}, kernel_size={self.kernel_size}, silu={self.silu}"
