"""The behavior-dependent linear recurrent unit as a module."""

from collections.abc import Callable
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recblr.ops import bdlru
from recblr.ops.checks import accumulation_dtype

MIN_ALPHA, MAX_ALPHA = 0.9, 0.999


class BDLRU(nn.Module):
    """Behavior-dependent linear recurrent unit (eqs. 5-8 of arXiv 2406.12580).

    ``r, i = sigmoid(W x + b)``, ``alpha = exp(-softplus(Lambda) * r)``,
    ``beta = sqrt(1 - alpha^2) * i``, ``h[t] = alpha * h[t-1] + beta * x[t]``.

    Lambda starts such that ``exp(-softplus(Lambda))`` is uniform over [0.9, 0.999], and stays float32
    when the module is cast to bfloat16 or float16, which would turn 0.9985 into 1.

    Args:
        channels: width C of input and state.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.gates = nn.Linear(channels, 2 * channels)
        self.Lambda = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw Lambda anew, and the gates as nn.Linear does."""
        self.gates.reset_parameters()
        with torch.no_grad():
            alpha = torch.empty_like(self.Lambda).uniform_(MIN_ALPHA, MAX_ALPHA)
            # softplus(Lambda) = -log(alpha), solved for Lambda
            self.Lambda.copy_(torch.log(torch.expm1(-torch.log(alpha))))

    def forward(
        self,
        x: Tensor,
        z: Tensor | None = None,
        *,
        initial: Tensor | None = None,
        offsets: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run over whole sequences.

        Args:
            x: ``(B, T, C)``, or packed ``(N, C)`` with ``offsets``.
            z: output gate's pre-activation, of x's shape; the output is then ``h * silu(z)``.
            initial: state before the first step, ``(B, C)`` or ``(S, C)``; zeros where None.
            offsets: ``(S + 1,)``, see :func:`recblr.scan`.

        Returns:
            The output, of x's shape, and the final state ``(B, C)`` or ``(S, C)``.
        """
        decay = F.softplus(self.Lambda.to(accumulation_dtype(x.dtype)))
        return bdlru(x, self.gates(x), decay, z, initial, offsets)

    def step(
        self, x_t: Tensor, state: Tensor | None = None, z_t: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One event of each sequence: x_t ``(B, C)``, state ``(B, C)`` or None."""
        y, state = self(x_t.unsqueeze(1), None if z_t is None else z_t.unsqueeze(1), initial=state)
        return y.squeeze(1), state

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        exact = self.Lambda.data
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.Lambda.dtype in (torch.bfloat16, torch.float16):
            self.Lambda.data = exact.to(self.Lambda.device)
        return self

    def extra_repr(self) -> str:
        return f"channels={self.channels}"
