"""A moving average of what came before, a linear way past the gates; not in the paper."""

import math

import torch
from torch import Tensor, nn

from recblr.nn.base import check_count, check_last_axis
from recblr.ops import scan_with_final
from recblr.ops.common.checks import accumulation_dtype

INITIAL_DECAY, INITIAL_WEIGHT = 0.8, 1.5


class HistoryAverage(nn.Module):
    """``w * m`` with ``m[t] = a * m[t-1] + (1 - a) * x[t]``; a and w are learned, one of each a channel.

    The paper's layer mixes events by gates and projections only, which start near zero and which few and
    short histories teach slowly.  This way is open from the first step (docs/results.md has what it gives).

    Args:
        channels: width C of input, output and state.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_count("channels", channels)
        self.channels = channels
        self.decay = nn.Parameter(torch.empty(channels))  # a's logit
        self.weight = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Start with a = 0.8 and w = 1.5 in every channel."""
        nn.init.constant_(self.decay, math.log(INITIAL_DECAY / (1 - INITIAL_DECAY)))
        nn.init.constant_(self.weight, INITIAL_WEIGHT)

    def forward(
        self, x: Tensor, *, initial: Tensor | None = None, offsets: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run over whole sequences.

        Args:
            x: ``(B, T, C)``, or packed ``(N, C)`` with ``offsets``.
            initial: m before the first step, ``(B, C)`` or ``(S, C)``; zeros where None.
            offsets: ``(S + 1,)``, see :func:`recblr.scan`.

        Returns:
            The output, of x's shape and dtype, and the final m, ``(B, C)`` or ``(S, C)``, in float32
            (float64 for float64).

        Raises:
            ValueError: a shape, dtype or offset that does not fit, named in one sentence.
        """
        check_last_axis("x", x, self.channels, "channels")
        # In 16 bits, a decay near 1 would be 1.
        exact = x.to(accumulation_dtype(x.dtype))
        decay = self.decay.to(exact.dtype)
        new = torch.sigmoid(-decay)  # 1 - a, without the rounding of an a near 1
        m, final = scan_with_final(torch.sigmoid(decay).expand_as(exact), new * exact, initial, offsets)
        return (self.weight.to(exact.dtype) * m).to(x.dtype), final

    def step(self, x_t: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One event of each sequence: x_t ``(B, C)``, state ``(B, C)`` or None.

        Returns the output ``(B, C)`` and the new state; raises as :meth:`forward`.
        """
        y, state = self(x_t.unsqueeze(1), initial=state)
        return y.squeeze(1), state

    def extra_repr(self) -> str:
        return f"channels={self.channels}"
