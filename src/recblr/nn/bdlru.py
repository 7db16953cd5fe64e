"""The behavior-dependent linear recurrent unit as a module."""

from collections.abc import Callable
from typing import Any, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recblr.config.model import LambdaInit
from recblr.nn.base import check_count, check_last_axis
from recblr.ops import bdlru, scan_with_final
from recblr.ops.common.checks import accumulation_dtype

MIN_ALPHA, MAX_ALPHA = 0.9, 0.999


class BDLRU(nn.Module):
    """Behavior-dependent linear recurrent unit (eqs. 5-8 of arXiv 2406.12580).

    ``r, i = sigmoid(W x + b)``, ``alpha = exp(-softplus(Lambda) * r)``,
    ``beta = sqrt(1 - alpha^2) * i``, ``h[t] = alpha * h[t-1] + beta * x[t]``.

    Lambda stays float32 when the module is cast to bfloat16 or float16, which would turn 0.9985 into 1.

    Args:
        channels: width C of input and state.
        beta_epsilon: added under beta's square root, ``sqrt(1 - alpha^2 + beta_epsilon)``.  The authors'
            released code adds 1e-8.  At 0, the paper's, beta comes from alpha's logarithm in one
            operator, without the rounding of alpha; above 0, from alpha, as the released code computes it.
        lambda_init: where Lambda starts: "uniform" draws ``exp(-softplus(Lambda))`` uniformly from
            [0.9, 0.999], as the paper says; "linspace", the released code's, spaces Lambda itself evenly
            between the same ends, so that half of the channels start above 0.989.

    Raises:
        ValueError: beta_epsilon is negative or not finite, or lambda_init is neither.
    """

    def __init__(
        self, channels: int, *, beta_epsilon: float = 0.0, lambda_init: LambdaInit = "uniform"
    ) -> None:
        super().__init__()
        check_count("channels", channels)
        if not 0 <= beta_epsilon < float("inf"):
            raise ValueError(f"beta_epsilon must be 0 or a positive number, but is {beta_epsilon}")
        if lambda_init not in get_args(LambdaInit):
            raise ValueError(f"lambda_init must be uniform or linspace, but is {lambda_init!r}")
        self.channels, self.beta_epsilon, self.lambda_init = channels, beta_epsilon, lambda_init
        self.gates = nn.Linear(channels, 2 * channels)
        self.Lambda = nn.Parameter(torch.empty(channels))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set Lambda as lambda_init says, and draw the gates as nn.Linear does."""
        self.gates.reset_parameters()
        with torch.no_grad():
            if self.lambda_init == "uniform":
                self.Lambda.copy_(_lambda_of(torch.empty_like(self.Lambda).uniform_(MIN_ALPHA, MAX_ALPHA)))
            else:
                first, last = _lambda_of(torch.tensor([MIN_ALPHA, MAX_ALPHA], device="cpu"))
                self.Lambda.copy_(torch.linspace(first.item(), last.item(), self.channels))

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
            The output, of x's shape and dtype, and the final state, ``(B, C)`` or ``(S, C)``, in float32
            (float64 for float64).

        Raises:
            ValueError: a shape, dtype or offset that does not fit, named in one sentence.
        """
        check_last_axis("x", x, self.channels, "channels")
        decay = F.softplus(self.Lambda.to(accumulation_dtype(x.dtype)))
        if self.beta_epsilon:
            return _bdlru_with_epsilon(x, self.gates(x), decay, z, initial, offsets, self.beta_epsilon)
        return bdlru(x, self.gates(x), decay, z, initial, offsets)

    def step(
        self, x_t: Tensor, state: Tensor | None = None, z_t: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """One event of each sequence: x_t and z_t ``(B, C)``, state ``(B, C)`` or None.

        Returns the output ``(B, C)`` and the new state; raises as :meth:`forward`.
        """
        y, state = self(x_t.unsqueeze(1), None if z_t is None else z_t.unsqueeze(1), initial=state)
        return y.squeeze(1), state

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        exact = self.Lambda.data
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.Lambda.dtype in (torch.bfloat16, torch.float16):
            self.Lambda.data = exact.to(self.Lambda.device)
        return self

    def extra_repr(self) -> str:
        return f"channels={self.channels}, beta_epsilon={self.beta_epsilon}, lambda_init={self.lambda_init!r}"


def _lambda_of(alpha: Tensor) -> Tensor:
    """Lambda such that ``exp(-softplus(Lambda)) = alpha``."""
    return torch.log(torch.expm1(-torch.log(alpha)))


def _bdlru_with_epsilon(
    x: Tensor,
    gates: Tensor,
    decay: Tensor,
    z: Tensor | None,
    initial: Tensor | None,
    offsets: Tensor | None,
    epsilon: float,
) -> tuple[Tensor, Tensor]:
    """:func:`recblr.bdlru` with ``beta = sqrt(1 - alpha^2 + epsilon)``, rounding and all."""
    r, i = torch.sigmoid(gates.to(decay.dtype)).chunk(2, dim=-1)
    alpha = torch.exp(-decay * r)
    beta = torch.sqrt(1 - alpha**2 + epsilon)
    h, final = scan_with_final(alpha, beta * i * x.to(decay.dtype), initial, offsets)
    y = h if z is None else h * F.silu(z.to(decay.dtype))
    return y.to(x.dtype), final
