"""bdlru: checks, then one kernel forward and one backward, and derivatives of every order.

The kernels are the internal operators _bdlru and _bdlru_backward. Derivatives of the latter are taken of
the composition: PyTorch operations around the scan, differentiable to any order, which also serve where there
is no fused kernel, and under torch.func and vmap.
"""

import functools
import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recblr.ops.common import checks
from recblr.ops.common.autocast import narrow, register_autocast
from recblr.ops.common.autograd import register_derivative_of, silu_slope, transformed, where_given
from recblr.ops.common.layout import empty_rows_like, empty_state
from recblr.ops.common.library import LIBRARY, define
from recblr.ops.common.refusals import value_errors
from recblr.ops.scan import transformable_scan_backward, transformable_scan_with_final

# What the public operator calls once its arguments are checked: parameters in the accumulation dtype.
_UNIT = "(Tensor x, Tensor gates, Tensor decay, Tensor? z, Tensor? initial, Tensor? offsets, Tensor? scale)"

define(
    "bdlru(Tensor x, Tensor gates, Tensor decay, Tensor? z=None, Tensor? initial=None,"
    " Tensor? offsets=None, Tensor? scale=None) -> (Tensor y, Tensor final)",
    f"_bdlru{_UNIT} -> (Tensor y, Tensor final, Tensor states)",
    f"_bdlru_backward(Tensor? grad, Tensor? grad_final, {_UNIT[1:-1]}, Tensor states)"
    " -> (Tensor dx, Tensor dgates, Tensor ddecay, Tensor dz, Tensor dinitial, Tensor dscale)",
)

# What cpp/core/bdlru.h calls kStateRows.
STATE_ROWS = 32

# u below this is taken as this, and has no derivative: beta = sqrt(-expm1(-2u)) then keeps a finite one.
MIN_U = 1e-30


@value_errors
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

    With r, i the two halves of ``gates``: ``u = decay * sigmoid(r) * scale``, ``alpha = exp(-u)``,
    ``beta = sqrt(1 - alpha^2)``, ``h[t] = alpha * h[t-1] + beta * sigmoid(i) * x[t]``; and
    ``y = h``, or ``h * silu(z)``.

    Args:
        x: ``(B, T, C)``, ``(T, C)``, or packed ``(N, C)`` with offsets.
        gates: ``(..., 2C)``, pre-activations: r's, then i's.  x's dtype.
        decay: ``(C,)``, ``softplus(Lambda) >= 0``, in the accumulation dtype.
        z: output gate's pre-activation, of x's shape and dtype, or None.
        initial: ``(B, C)``, or ``(S, C)`` packed, in the accumulation dtype; zeros where None.
        offsets: as in :func:`scan`.
        scale: ``(..., 1)``, >= 0, a factor on u for every step; ones where None.

    Returns:
        y of x's shape and dtype, and the final state h (never gated by z), ``(B, C)`` or ``(S, C)``,
        in the accumulation dtype; both differentiable to every floating input.

    Raises:
        ValueError: a shape, dtype, device or offset that does not fit, named in one sentence.
        TypeError: an argument is no tensor.
    """
    arguments = x, gates, decay, z, initial, offsets, scale
    checks.tensors("bdlru", "x gates decay z initial offsets scale", *arguments, required=3)
    if transformed():
        return _bdlru(*arguments, kernel=False)
    y, final = torch.ops.recblr.bdlru(*arguments)
    return y, final


def _bdlru(
    x: Tensor,
    gates: Tensor,
    decay: Tensor,
    z: Tensor | None = None,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    scale: Tensor | None = None,
    *,
    kernel: bool = True,
) -> tuple[Tensor, Tensor]:
    """See :func:`recblr.bdlru`.  Without the kernel, the composition computes."""
    check_bdlru("bdlru", x, gates, decay, z, initial, offsets, scale)
    if not kernel:
        return composed_bdlru(x, gates, decay, z, initial, offsets, scale)
    wide = None if scale is None else scale.to(decay.dtype)
    y, final, _ = torch.ops.recblr._bdlru(x, gates, decay, z, initial, offsets, wide)
    return y, final


def check_bdlru(
    op: str,
    x: Tensor,
    gates: Tensor,
    decay: Tensor,
    z: Tensor | None,
    initial: Tensor | None,
    offsets: Tensor | None,
    scale: Tensor | None,
) -> int:
    """Check the arguments of bdlru; returns the number of sequences."""
    checks.one_of(op, "x", x)
    sequences = checks.time_axis(op, "x", x, offsets)
    channels = x.shape[-1]
    checks.shape(op, "gates", gates, (*x.shape[:-1], 2 * channels), "r's then i's pre-activations")
    checks.shape(op, "decay", decay, (channels,))
    checks.same(op, "z", z, "x", x)
    checks.shape(op, "scale", scale, (*x.shape[:-1], 1), "a factor a step")
    checks.state(op, initial, (sequences, channels), x)
    for name, tensor in (("gates", gates), ("decay", decay), ("scale", scale)):
        checks.device(op, name, tensor, x.device)
    checks.dtype(op, "gates", gates, x.dtype, "x's dtype")
    checks.dtype(op, "decay", decay, checks.accumulation_dtype(x.dtype), "the accumulation dtype")
    checks.one_of(op, "scale", scale)
    return sequences


def check_fused_bdlru(op: str, x: Tensor, *others: Tensor | None) -> int:
    """Check the arguments of _bdlru, which takes scale in the accumulation dtype only."""
    sequences = check_bdlru(op, x, *others)  # type: ignore[arg-type]
    checks.dtype(op, "scale", others[-1], checks.accumulation_dtype(x.dtype), "the accumulation dtype")
    return sequences


def check_bdlru_backward(
    grad: Tensor | None, grad_final: Tensor | None, x: Tensor, *others: Tensor | None, states: Tensor
) -> int:
    """Check the arguments of _bdlru_backward; returns the number of sequences."""
    op = "_bdlru_backward"
    sequences = check_fused_bdlru(op, x, *others)
    checks.same(op, "grad", grad, "x", x)
    checks.state(op, grad_final, (sequences, x.shape[-1]), x, "grad_final")
    checks.state(op, states, (states_in(x), x.shape[-1]), x, "states")
    return sequences


def states_in(x: Tensor) -> int:
    """How many states _bdlru leaves for its backward pass: one before every STATE_ROWS rows."""
    rows = math.prod(x.shape[:-1])  # Size.numel() would make constants of sizes that are traced
    return (rows + STATE_ROWS - 1) // STATE_ROWS


def composed_bdlru(
    x: Tensor,
    gates: Tensor,
    decay: Tensor,
    z: Tensor | None,
    initial: Tensor | None,
    offsets: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """See :func:`recblr.bdlru`; scale in any floating dtype."""
    f = _factors(gates, decay, scale)
    h, final = transformable_scan_with_final(
        f.alpha, f.beta * f.i * x.to(decay.dtype), initial, offsets, False
    )
    y = h if z is None else h * F.silu(z.to(decay.dtype))
    return y.to(x.dtype), final


def composed_bdlru_backward(
    grad: Tensor | None,
    grad_final: Tensor | None,
    x: Tensor,
    gates: Tensor,
    decay: Tensor,
    z: Tensor | None,
    initial: Tensor | None,
    offsets: Tensor | None,
    scale: Tensor | None,
    states: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """dx, dgates, ddecay, dz, dinitial, dscale; dz and dscale are empty without z and scale.

    With G the adjoint of h, v = i x and u = decay r scale: du = G (v alpha^2 / beta - alpha h[t-1]).
    """
    wide = decay.dtype
    f, wide_x = _factors(gates, decay, scale), x.to(wide)
    h, _ = transformable_scan_with_final(f.alpha, f.beta * f.i * wide_x, initial, offsets, False)

    dh = torch.zeros_like(wide_x) if grad is None else grad.to(wide)
    dz = x.new_empty(0)
    if z is not None:
        before = z.to(wide)
        dz = (dh * h * silu_slope(before)).to(z.dtype)
        dh = dh * F.silu(before)
    dalpha, db, dinitial = transformable_scan_backward(dh, grad_final, f.alpha, h, initial, offsets, False)
    du = torch.where(f.moves, db * f.i * wide_x * (f.alpha**2 / f.beta) - dalpha * f.alpha, 0)
    dgates = torch.cat([du * f.u * (1 - f.r), db * f.beta * wide_x * f.i * (1 - f.i)], -1)
    dscale = x.new_empty(0, dtype=wide) if scale is None else (du * f.r * decay).sum(-1, keepdim=True)
    ddecay = (du * f.r if scale is None else du * f.r * scale).flatten(0, -2).sum(0)
    return (db * f.beta * f.i).to(x.dtype), dgates.to(gates.dtype), ddecay, dz, dinitial, dscale


class _Factors(NamedTuple):
    r: Tensor
    i: Tensor
    u: Tensor
    moves: Tensor  # where u is not held at its bound
    alpha: Tensor
    beta: Tensor


def _factors(gates: Tensor, decay: Tensor, scale: Tensor | None) -> _Factors:
    """Eqs. 6-8 of arXiv 2406.12580, in decay's dtype."""
    wide = decay.dtype
    r, i = gates.to(wide).sigmoid().chunk(2, dim=-1)
    unbounded = (decay if scale is None else decay * scale.to(wide)) * r
    u = unbounded.clamp(min=MIN_U)
    beta = torch.sqrt(-torch.expm1(-2 * u))  # from u: alpha has been rounded
    return _Factors(r, i, u, unbounded >= MIN_U, torch.exp(-u), beta)


def _reference_bdlru(x: Tensor, *others: Any) -> tuple[Tensor, Tensor, Tensor]:
    check_fused_bdlru("bdlru", x, *others)
    y, final = composed_bdlru(x, *others)
    return y.contiguous(), final, final.new_zeros(states_in(x), x.shape[-1])


def _reference_bdlru_backward(*arguments: Any) -> tuple[Tensor, ...]:
    *inputs, states = arguments
    check_bdlru_backward(*inputs, states=states)
    return tuple(gradient.contiguous() for gradient in composed_bdlru_backward(*inputs))


def _fake_bdlru(
    x: Tensor, gates: Tensor, decay: Tensor, z: Tensor | None, initial: Tensor | None, offsets: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    sequences = check_fused_bdlru("bdlru", x, gates, decay, z, initial, offsets, scale)
    return empty_rows_like(x), empty_state(x, sequences), empty_state(x, states_in(x))


def _fake_bdlru_backward(
    grad: Tensor | None, grad_final: Tensor | None, x: Tensor, gates: Tensor, decay: Tensor, z: Tensor | None,
    initial: Tensor | None, offsets: Tensor | None, scale: Tensor | None, states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    sequences = check_bdlru_backward(
        grad, grad_final, x, gates, decay, z, initial, offsets, scale, states=states
    )
    return (
        empty_rows_like(x),
        empty_rows_like(gates),
        empty_rows_like(decay),
        x.new_empty(0) if z is None else empty_rows_like(z),
        empty_state(x, sequences),
        decay.new_empty(0 if scale is None else scale.shape),
    )


def _save_bdlru(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, output[2])
    ctx.set_materialize_grads(False)


def _bdlru_gradient(
    ctx: Any, grad: Tensor | None, grad_final: Tensor | None, _: Any
) -> tuple[Tensor | None, ...]:
    if grad is None and grad_final is None:
        return (None,) * 7
    *inputs, states = ctx.saved_tensors
    dx, dgates, ddecay, *others = torch.ops.recblr._bdlru_backward(grad, grad_final, *inputs, states)
    z, initial, _, scale = inputs[3:]
    dz, dinitial, dscale = where_given(others, (z, initial, scale))
    return dx, dgates, ddecay, dz, dinitial, None, dscale


def _cast(
    dtype: torch.dtype, x: Tensor, gates: Tensor, decay: Tensor, z: Tensor | None = None,
    initial: Tensor | None = None, offsets: Tensor | None = None, scale: Tensor | None = None,
) -> tuple[Any, ...]:  # fmt: skip
    return narrow(x, dtype), narrow(gates, dtype), decay, narrow(z, dtype), initial, offsets, scale


def _register() -> None:
    LIBRARY.impl("bdlru", _bdlru, "CompositeImplicitAutograd")
    # vmap would loop over calls otherwise.
    LIBRARY.impl("bdlru", functools.partial(_bdlru, kernel=False), "FuncTorchBatchedDecomposition")
    register_autocast("bdlru", _cast)
    LIBRARY.impl("_bdlru", _reference_bdlru, "CompositeExplicitAutograd")
    LIBRARY.impl("_bdlru_backward", _reference_bdlru_backward, "CompositeExplicitAutograd")
    torch.library.register_fake("recblr::_bdlru", _fake_bdlru)
    torch.library.register_fake("recblr::_bdlru_backward", _fake_bdlru_backward)
    torch.library.register_autograd("recblr::_bdlru", _bdlru_gradient, setup_context=_save_bdlru)
    register_derivative_of("recblr::_bdlru_backward", composed_bdlru_backward)
    LIBRARY.impl("_bdlru_backward", composed_bdlru_backward, "FuncTorchBatchedDecomposition")


_register()
