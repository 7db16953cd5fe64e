"""The operator bdlru: its checks, forward and backward kernels, and derivatives of every order.

The kernels are the internal operators _bdlru and _bdlru_backward.  Second and higher derivatives come from a
composition of PyTorch operations around the scan.  The composition is differentiable to any order.  It is
also used where there is no fused kernel, and under torch.func and vmap.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from recblr.ops.common import checks
from recblr.ops.common.derivatives import silu, silu_slope
from recblr.ops.common.layout import empty_rows_like, empty_state
from recblr.ops.common.registration import define, downcast, parameters, raise_value_errors, register_fused
from recblr.ops.scan import SCAN_BACKWARD, SCAN_WITH_FINAL


class Arguments(NamedTuple):
    """The arguments of :func:`bdlru`, which describes them.

    The kernels take the same arguments.  But they take scale only in the accumulation dtype.
    """

    x: Tensor
    gates: Tensor
    decay: Tensor
    z: Tensor | None = None
    initial: Tensor | None = None
    offsets: Tensor | None = None
    scale: Tensor | None = None


define(
    f"bdlru({parameters(Arguments, defaults=True)}) -> (Tensor y, Tensor final)",
    f"_bdlru({parameters(Arguments)}) -> (Tensor y, Tensor final, Tensor states)",
    f"_bdlru_backward(Tensor? grad, Tensor? grad_final, {parameters(Arguments)}, Tensor states)"
    " -> (Tensor dx, Tensor dgates, Tensor ddecay, Tensor dz, Tensor dinitial, Tensor dscale)",
)

# The kernel stores one state for this many rows.  cpp/core/bdlru.h calls it kStateRows.
STATE_ROWS = 32

# The lower bound of u.  A smaller u is replaced by it and has no derivative.  The bound keeps the derivative
# of beta = sqrt(-expm1(-2u)) finite.
MIN_U = 1e-30


@raise_value_errors
def bdlru(
    x: Tensor,
    gates: Tensor,
    decay: Tensor,
    z: Tensor | None = None,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Behavior-dependent linear recurrent unit (eqs. 5-8 of arXiv 2406.12580).

    r and i are the two halves of ``gates``.  ``u = decay * sigmoid(r) * scale``, ``alpha = exp(-u)``,
    ``beta = sqrt(1 - alpha^2)``, ``h[t] = alpha * h[t-1] + beta * sigmoid(i) * x[t]``.  The output is
    ``y = h``, or ``y = h * silu(z)`` with z.

    Args:
        x: ``(B, T, C)``, ``(T, C)``, or packed ``(N, C)`` with offsets.
        gates: ``(..., 2C)``, the pre-activations of r, then those of i, in x's dtype.
        decay: ``(C,)``, ``softplus(Lambda) >= 0``, in the accumulation dtype.
        z: the pre-activation of the output gate, of x's shape and dtype, or None.
        initial: the state before the first step, ``(B, C)``, or ``(S, C)`` for packed sequences, in the
            accumulation dtype.  None means zeros.
        offsets: as in :func:`scan`.
        scale: ``(..., 1)``, >= 0, a factor of u for every step.  None means ones.

    Returns:
        y, of x's shape and dtype, and the final state h, ``(B, C)`` or ``(S, C)``, in the accumulation dtype.
        z never gates the final state.  Both are differentiable with respect to every floating input.

    Raises:
        ValueError: a shape, dtype, device or offset does not fit.  One sentence names the argument.
        TypeError: an argument is not a tensor.
    """
    arguments = x, gates, decay, z, initial, offsets, scale
    checks.tensors("bdlru", Arguments._fields, *arguments, required=3)
    y, final = torch.ops.recblr.bdlru(*arguments)
    return y, final


def _call(*given: Any) -> tuple[Tensor, Tensor]:
    """Check the arguments, then call the kernel."""
    a = Arguments(*given)
    _check("bdlru", a)
    wide_scale = None if a.scale is None else a.scale.to(a.decay.dtype)
    y, final, _ = torch.ops.recblr._bdlru(*a[:-1], wide_scale)
    return y, final


def _check(op: str, a: Arguments) -> int:
    """Check the public operator's arguments; return the number of sequences."""
    x, gates, decay, z, initial, offsets, scale = a
    checks.one_of(op, "x", x)
    sequences = checks.time_axis(op, "x", x, offsets)
    channels = x.shape[-1]
    checks.shape(
        op, "gates", gates, (*x.shape[:-1], 2 * channels), "the pre-activations of r, then those of i"
    )
    checks.shape(op, "decay", decay, (channels,))
    checks.same(op, "z", z, "x", x)
    checks.shape(op, "scale", scale, (*x.shape[:-1], 1), "one factor for each step")
    checks.state(op, initial, (sequences, channels), x)
    for name, tensor in (("gates", gates), ("decay", decay), ("scale", scale)):
        checks.device(op, name, tensor, x.device)
    checks.dtype(op, "gates", gates, x.dtype, "x's dtype")
    checks.dtype(op, "decay", decay, checks.accumulation_dtype(x.dtype), "the accumulation dtype")
    checks.one_of(op, "scale", scale)
    return sequences


def _check_kernel(op: str, a: Arguments) -> int:
    """Check _bdlru's arguments; return the number of sequences."""
    sequences = _check(op, a)
    checks.dtype(op, "scale", a.scale, a.decay.dtype, "the accumulation dtype")
    return sequences


def _check_backward(grad: Tensor | None, grad_final: Tensor | None, *given: Any) -> tuple[Arguments, int]:
    """Check _bdlru_backward's arguments; return those of _bdlru, and the number of sequences."""
    *inputs, states = given
    op, a = "_bdlru_backward", Arguments(*inputs)
    sequences = _check_kernel(op, a)
    checks.same(op, "grad", grad, "x", a.x)
    checks.state(op, grad_final, (sequences, a.x.shape[-1]), a.x, "grad_final")
    checks.state(op, states, (_states_in(a.x), a.x.shape[-1]), a.x, "states")
    return a, sequences


def _states_in(x: Tensor) -> int:
    """How many states _bdlru stores for its backward pass: one before each block of STATE_ROWS rows."""
    rows = math.prod(x.shape[:-1])  # Size.numel() would turn traced sizes into constants
    return (rows + STATE_ROWS - 1) // STATE_ROWS


class _Factors(NamedTuple):
    r: Tensor
    i: Tensor
    u: Tensor
    above_bound: Tensor  # bool: u is not below its bound MIN_U, so it has a derivative
    alpha: Tensor
    beta: Tensor


def _scaled_decay(a: Arguments) -> Tensor:
    return a.decay if a.scale is None else a.decay * a.scale.to(a.decay.dtype)


def _factors(a: Arguments) -> _Factors:
    """Eqs. 6-8 of arXiv 2406.12580, in decay's dtype."""
    wide = a.decay.dtype
    r, i = a.gates.to(wide).sigmoid().chunk(2, dim=-1)
    unbounded = _scaled_decay(a) * r
    u = unbounded.clamp(min=MIN_U)
    beta = torch.sqrt(-torch.expm1(-2 * u))  # from u, because alpha is rounded
    return _Factors(r, i, u, unbounded >= MIN_U, torch.exp(-u), beta)


def _gated_scan(a: Arguments, alpha: Tensor, beta: Tensor, i: Tensor) -> tuple[Tensor, Tensor]:
    """Eq. 5 of arXiv 2406.12580 and the output gate.  Return y in x's dtype, and the final state."""
    wide = a.decay.dtype
    h, final = SCAN_WITH_FINAL(alpha, beta * i * a.x.to(wide), a.initial, a.offsets, False)
    y = h if a.z is None else h * silu(a.z.to(wide))
    return y.to(a.x.dtype), final


def composed_bdlru(*given: Any) -> tuple[Tensor, Tensor]:
    """:func:`recblr.bdlru` as a composition of PyTorch operations.  scale has any floating dtype."""
    a = Arguments(*given)
    f = _factors(a)
    return _gated_scan(a, f.alpha, f.beta, f.i)


@raise_value_errors
def bdlru_with_epsilon(epsilon: float, *given: Any) -> tuple[Tensor, Tensor]:
    """:func:`recblr.bdlru` with ``beta = sqrt(1 - alpha^2 + epsilon)``, computed from the rounded alpha."""
    a = Arguments(*given)
    r, i = a.gates.to(a.decay.dtype).sigmoid().chunk(2, dim=-1)
    alpha = torch.exp(-_scaled_decay(a) * r)
    return _gated_scan(a, alpha, torch.sqrt(1 - alpha**2 + epsilon), i)


def composed_bdlru_backward(
    grad: Tensor | None, grad_final: Tensor | None, *given: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients dx, dgates, ddecay, dz, dinitial and dscale.

    dz is empty without z, and dscale is empty without scale.

    Let G be the adjoint of h, v = i x and u = decay r scale.  Then du = G (v alpha^2 / beta - alpha h[t-1]).
    """
    a = Arguments(*given[: len(Arguments._fields)])  # only the kernel needs the states that follow
    wide = a.decay.dtype
    f, x = _factors(a), a.x.to(wide)
    h, _ = SCAN_WITH_FINAL(f.alpha, f.beta * f.i * x, a.initial, a.offsets, False)

    dh = torch.zeros_like(x) if grad is None else grad.to(wide)
    dz = a.x.new_empty(0)
    if a.z is not None:
        before = a.z.to(wide)
        dz = (dh * h * silu_slope(before)).to(a.z.dtype)
        dh = dh * silu(before)
    dalpha, db, dinitial = SCAN_BACKWARD(dh, grad_final, f.alpha, h, a.initial, a.offsets, False)
    du = torch.where(f.above_bound, db * f.i * x * (f.alpha**2 / f.beta) - dalpha * f.alpha, 0)
    dgates = torch.cat([du * f.u * (1 - f.r), db * f.beta * x * f.i * (1 - f.i)], -1)
    dscale = x.new_empty(0) if a.scale is None else (du * f.r * a.decay).sum(-1, keepdim=True)
    ddecay = (du * f.r if a.scale is None else du * f.r * a.scale).flatten(0, -2).sum(0)
    return (db * f.beta * f.i).to(a.x.dtype), dgates.to(a.gates.dtype), ddecay, dz, dinitial, dscale


def _composed(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
    a = Arguments(*given)
    y, final = composed_bdlru(*a)
    return y.contiguous(), final, final.new_zeros(_states_in(a.x), a.x.shape[-1])


def _reference(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
    _check_kernel("bdlru", Arguments(*given))
    return _composed(*given)


def _fake(*given: Any) -> tuple[Tensor, Tensor, Tensor]:
    a = Arguments(*given)
    sequences = _check_kernel("bdlru", a)
    return empty_rows_like(a.x), empty_state(a.x, sequences), empty_state(a.x, _states_in(a.x))


def _reference_backward(*given: Any) -> tuple[Tensor, ...]:
    _check_backward(*given)
    return tuple(gradient.contiguous() for gradient in composed_bdlru_backward(*given))


def _fake_backward(*given: Any) -> tuple[Tensor, ...]:
    a, sequences = _check_backward(*given)
    return (
        empty_rows_like(a.x),
        empty_rows_like(a.gates),
        empty_rows_like(a.decay),
        a.x.new_empty(0) if a.z is None else empty_rows_like(a.z),
        empty_state(a.x, sequences),
        a.decay.new_empty(0 if a.scale is None else a.scale.shape),
    )


def _cast(dtype: torch.dtype, *given: Any) -> tuple[Any, ...]:
    x, gates, decay, z, *others = Arguments(*given)
    return downcast(x, dtype), downcast(gates, dtype), decay, downcast(z, dtype), *others


register_fused(
    "bdlru",
    Arguments,
    call=_call,
    cast=_cast,
    reference=_reference,
    fake=_fake,
    composed=_composed,
    reference_backward=_reference_backward,
    fake_backward=_fake_backward,
    composed_backward=composed_bdlru_backward,
)
