"""The stateful units that a layer is built from: BDLRU, CausalConv1d and HistoryAverage."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from recblr.config.model import LambdaInit, check_recurrence
from recblr.nn.common import check_count, check_last_axis
from recblr.ops import bdlru, causal_conv1d, scan_with_final
from recblr.ops.bdlru import bdlru_with_epsilon
from recblr.ops.common.checks import accumulation_dtype

MIN_ALPHA, MAX_ALPHA = 0.9, 0.999
INITIAL_DECAY, INITIAL_WEIGHT = 0.8, 1.5


class _StatefulModule(nn.Module):
    """A module that computes ``(x, initial=, offsets=) -> (y, final)``, and can also run event by event.

    exact: the name of a parameter that stays float32 if the module is cast to bfloat16 or float16, is made
        while one of these is torch's default, or loads such weights.  Or None.
    """

    exact: str | None = None

    def __init__(self, channels: int) -> None:
        super().__init__()
        check_count("channels", channels)
        self.channels = channels
        self.register_load_state_dict_post_hook(_restore_exact)

    def step(self, x_t: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run one event of each sequence.

        x_t is ``(B, C)``.  state is the state before the event, or None.  Returns the output ``(B, C)`` and
        the new state.  Raises the errors of :meth:`forward`.
        """
        y, state = self(x_t.unsqueeze(1), initial=state)
        return y.squeeze(1), state

    def _exact_tensors(self) -> list[Tensor]:
        """The parameter `exact`, or the tensors that it is computed from.

        Others may replace the parameter.  Parametrizations and pruning compute it from other parameters, FSDP
        makes it a view of a parameter that is not in this module, and a user may make it a buffer.
        """
        if self.exact is None:
            return []
        if parametrize.is_parametrized(self, self.exact):
            parametrizations: Any = self.parametrizations
            return list(parametrizations[self.exact].parameters())
        named = {**dict(self.named_parameters(recurse=False)), **dict(self.named_buffers(recurse=False))}
        pruned = f"{self.exact}_orig"  # the name that torch.nn.utils.prune gives to the whole parameter
        return [named[name] for name in (self.exact, pruned) if name in named]

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        exact = [tensor for whole in self._exact_tensors() for tensor in (whole, whole.grad)]

        def apply(tensor: Tensor) -> Tensor:
            new: Tensor = fn(tensor)
            wide = accumulation_dtype(new.dtype)
            rounded = new.dtype != wide and any(tensor is other for other in exact)
            return tensor.to(new.device, wide) if rounded else new

        return super()._apply(apply, recurse)  # type: ignore[no-untyped-call, no-any-return]


def _restore_exact(module: _StatefulModule, _: Any) -> None:
    """After loading: convert the parameter `exact` to float32 if a 16-bit tensor was assigned to it."""
    for tensor in module._exact_tensors():
        tensor.data = tensor.data.to(accumulation_dtype(tensor.dtype))


def _exact_dtype() -> torch.dtype:
    """The dtype of a new parameter that stays exact: torch's default, but float32 instead of 16 bits."""
    return accumulation_dtype(torch.get_default_dtype())


class BDLRU(_StatefulModule):
    """Behavior-dependent linear recurrent unit (eqs. 5-8 of arXiv 2406.12580).

    ``r, i = sigmoid(W x + b)``, ``alpha = exp(-softplus(Lambda) * r)``,
    ``beta = sqrt(1 - alpha^2) * i``, ``h[t] = alpha * h[t-1] + beta * x[t]``.

    Lambda is float32 also in a module of bfloat16 or float16: if the module is cast, if it is made under such
    a default dtype, and if it loads such weights.  In 16 bits, small steps of training would be lost, and the
    first values could not be drawn: bfloat16 rounds an alpha of 0.9985 to 1.  A Lambda that was rounded
    before it is loaded stays rounded.

    Args:
        channels: width C of input and state.
        beta_epsilon: added under the square root, ``beta = sqrt(1 - alpha^2 + beta_epsilon)``.  The paper's
            value is 0.  Then one operator computes beta from the logarithm of alpha, so the rounding of alpha
            does not matter.  The authors' released code adds 1e-8.  With a value above 0, beta is computed
            from alpha, as in that code.
        lambda_init: the initial values of Lambda.  "uniform" draws ``exp(-softplus(Lambda))`` uniformly from
            [0.9, 0.999], as the paper says.  "linspace" spaces Lambda itself evenly between the same ends, as
            the released code does.  Then half of the channels start above 0.989.

    Raises:
        ValueError: beta_epsilon is negative or not finite, or lambda_init is not "uniform" or "linspace".
    """

    exact = "Lambda"

    def __init__(
        self, channels: int, *, beta_epsilon: float = 0.0, lambda_init: LambdaInit = "uniform"
    ) -> None:
        super().__init__(channels)
        check_recurrence(beta_epsilon, lambda_init)
        self.beta_epsilon, self.lambda_init = beta_epsilon, lambda_init
        self.gates = nn.Linear(channels, 2 * channels)
        self.Lambda = nn.Parameter(torch.empty(channels, dtype=_exact_dtype()))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Set Lambda as lambda_init says.  Draw the weights of the gates as nn.Linear does."""
        self.gates.reset_parameters()
        with torch.no_grad():
            if self.lambda_init == "uniform":
                self.Lambda.copy_(_lambda_of(torch.empty_like(self.Lambda).uniform_(MIN_ALPHA, MAX_ALPHA)))
            else:
                ends = torch.tensor([MIN_ALPHA, MAX_ALPHA], device="cpu", dtype=self.Lambda.dtype)
                first, last = _lambda_of(ends)
                self.Lambda.copy_(
                    torch.linspace(first.item(), last.item(), self.channels, dtype=self.Lambda.dtype)
                )

    def forward(
        self,
        x: Tensor,
        z: Tensor | None = None,
        *,
        initial: Tensor | None = None,
        offsets: Tensor | None = None,
        before: Tensor | None = None,
        scale: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Run over whole sequences.

        Args:
            x: ``(B, T, C)``, or packed ``(N, C)`` with ``offsets``.
            z: the pre-activation of the output gate, of x's shape.  With z, the output is ``h * silu(z)``.
            initial: the state before the first step, ``(B, C)`` or ``(S, C)``; None means zeros.
            offsets: ``(S + 1,)``, see :func:`recblr.scan`.
            before: ``(P, C)``, inputs that come before the first step of every sequence, the same for all.
                The state after them takes the place of `initial`.
            scale: ``(..., 1)``, at least 0, a factor of the decay in each step; None means 1.  A larger one
                makes the state before the step fade more.

        Returns:
            The output, of x's shape and dtype, and the final state, ``(B, C)`` or ``(S, C)``, in float32
            (float64 for float64).

        Raises:
            ValueError: a shape, dtype or offset does not fit.  One sentence names the argument.
        """
        check_last_axis("x", x, self.channels, "channels")
        decay = F.softplus(self.Lambda.to(accumulation_dtype(x.dtype)))
        run = partial(bdlru_with_epsilon, self.beta_epsilon) if self.beta_epsilon else bdlru
        if before is None:
            return run(x, self.gates(x), decay, z, initial, offsets, scale)
        if initial is not None:
            raise ValueError("initial and before both say what comes before the first step: give one of them")
        check_last_axis("before", before, self.channels, "channels")
        # One call for all rows, because a module is called once in each pass.
        gates = self.gates(torch.cat([before, x.flatten(0, -2)]))
        _, state = run(before, gates[: len(before)], decay)
        sequences = math.prod(x.shape[:-2]) if offsets is None else offsets.shape[0] - 1
        gates = gates[len(before) :].reshape(*x.shape[:-1], gates.shape[-1])
        return run(x, gates, decay, z, state.expand(sequences, -1), offsets, scale)

    def step(
        self, x_t: Tensor, state: Tensor | None = None, z_t: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Run one event of each sequence.

        x_t and z_t are ``(B, C)``.  state is ``(B, C)`` or None.  Returns the output ``(B, C)`` and the new
        state.  Raises the errors of :meth:`forward`.
        """
        y, state = self(x_t.unsqueeze(1), None if z_t is None else z_t.unsqueeze(1), initial=state)
        return y.squeeze(1), state

    def extra_repr(self) -> str:
        return f"channels={self.channels}, beta_epsilon={self.beta_epsilon}, lambda_init={self.lambda_init!r}"


def _lambda_of(alpha: Tensor) -> Tensor:
    """Lambda such that ``exp(-softplus(Lambda)) = alpha``."""
    return torch.log(torch.expm1(-torch.log(alpha)))


class CausalConv1d(_StatefulModule):
    """Depthwise causal convolution with bias, then SiLU (Alg. 1 of arXiv 2406.12580).

    Its state is the last K - 1 inputs, ``(B, K-1, C)``.

    Args:
        channels: width C.
        kernel_size: K, the number of inputs that each output depends on: the current one and K - 1 before it.
        silu: apply SiLU to the output.
    """

    def __init__(self, channels: int, kernel_size: int = 4, *, silu: bool = True) -> None:
        super().__init__(channels)
        check_count("kernel_size", kernel_size)
        self.kernel_size, self.silu = kernel_size, silu
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
                ``(S, K-1, C)``; None means zeros.
            offsets: ``(S + 1,)``, see :func:`recblr.scan`.

        Returns:
            The output, of x's shape and dtype, and the last K - 1 inputs, of initial's shape, in float32
            (float64 for float64).

        Raises:
            ValueError: a shape, dtype or offset does not fit.  One sentence names the argument.
        """
        check_last_axis("x", x, self.channels, "channels")
        return causal_conv1d(x, self.weight, self.bias, initial, offsets, self.silu)

    def extra_repr(self) -> str:
        return f"channels={self.channels}, kernel_size={self.kernel_size}, silu={self.silu}"


class HistoryAverage(_StatefulModule):
    """``w * m`` with ``m[t] = a * m[t-1] + (1 - a) * x[t]``.  Each channel learns its own a and w.

    It is a linear path around the gates.  The paper does not have it.  The paper's layer mixes events only
    through gates and projections.  Their weights start near zero, and with few or short histories they learn
    slowly.  This path works from the first step; docs/results.md shows its effect.

    Its state is m, ``(B, C)``.  The parameter `decay`, the logit of a, stays float32 as
    :attr:`BDLRU.Lambda` does.

    Args:
        channels: width C of input, output and state.
    """

    exact = "decay"

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.decay = nn.Parameter(torch.empty(channels, dtype=_exact_dtype()))  # the logit of a
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
            initial: m before the first step, ``(B, C)`` or ``(S, C)``; None means zeros.
            offsets: ``(S + 1,)``, see :func:`recblr.scan`.

        Returns:
            The output, of x's shape and dtype, and the final m, ``(B, C)`` or ``(S, C)``, in float32
            (float64 for float64).

        Raises:
            ValueError: a shape, dtype or offset does not fit.  One sentence names the argument.
        """
        check_last_axis("x", x, self.channels, "channels")
        # The average does not run in 16 bits, which would round a decay near 1 to 1.
        exact = x.to(accumulation_dtype(x.dtype))
        decay = self.decay.to(exact.dtype)
        new = torch.sigmoid(-decay)  # 1 - a, but more exact for an a near 1
        m, final = scan_with_final(torch.sigmoid(decay).expand_as(exact), new * exact, initial, offsets)
        return (self.weight.to(exact.dtype) * m).to(x.dtype), final

    def extra_repr(self) -> str:
        return f"channels={self.channels}"
