"""causal_conv1d: checks, then one kernel forward and one backward, and derivatives of every order.

The kernels are the internal operators _causal_conv1d and _causal_conv1d_backward. Derivatives of the latter
are taken of the composition of PyTorch operations, differentiable to any order, which also serves where there
is no fused kernel, and under torch.func and vmap.
"""

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from recblr.ops.common import checks
from recblr.ops.common.autocast import narrow, register_autocast
from recblr.ops.common.autograd import register_derivative_of, silu_slope, transformed, where_given
from recblr.ops.common.layout import empty_rows_like
from recblr.ops.common.library import LIBRARY, define
from recblr.ops.common.refusals import value_errors
from recblr.ops.common.segments import sequence_of_row

# What the public operator calls once its arguments are checked: parameters in the accumulation dtype.
_CONV = "(Tensor x, Tensor weight, Tensor? bias, Tensor? initial, Tensor? offsets, bool silu)"

define(
    "causal_conv1d(Tensor x, Tensor weight, Tensor? bias=None, Tensor? initial=None,"
    " Tensor? offsets=None, bool silu=True) -> (Tensor y, Tensor final)",
    f"_causal_conv1d{_CONV} -> (Tensor y, Tensor final)",
    f"_causal_conv1d_backward(Tensor? grad, Tensor? grad_final, {_CONV[1:-1]})"
    " -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dinitial)",
)

# What cpp/core/causal_conv1d.h calls kMaxWidth.
MAX_WIDTH = 64


@value_errors
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    silu: bool = True,
) -> tuple[Tensor, Tensor]:
    """Depthwise causal convolution over time, with SiLU (Alg. 1 of arXiv 2406.12580).

    Args:
        x: ``(B, T, C)``, ``(T, C)``, or packed ``(N, C)`` with offsets.
        weight: ``(C, K)``, K >= 1; ``weight[:, K-1]`` meets the current input.
        bias: ``(C,)`` or None.
        initial: ``(B, K-1, C)``, or ``(S, K-1, C)`` packed: the inputs before the first step, oldest
            first, in the accumulation dtype; zeros where None.
        offsets: as in :func:`scan`.
        silu: apply SiLU to the output.

    Returns:
        y of x's shape and dtype, and the last K-1 inputs of every sequence (of initial's shape),
        before bias and SiLU; a sequence shorter than K-1 keeps the tail of ``initial``.

    Raises:
        ValueError: a shape, dtype, device or offset that does not fit, named in one sentence.
        TypeError: an argument is no tensor.
    """
    arguments = x, weight, bias, initial, offsets
    checks.tensors("causal_conv1d", "x weight bias initial offsets", *arguments, required=2)
    if transformed():
        return _causal_conv1d(*arguments, silu, kernel=False)
    y, final = torch.ops.recblr.causal_conv1d(*arguments, silu)
    return y, final


def _causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    silu: bool = True,
    *,
    kernel: bool = True,
) -> tuple[Tensor, Tensor]:
    """See :func:`recblr.causal_conv1d`.  Without the kernel, or too wide for it, the composition computes."""
    check_causal_conv1d("causal_conv1d", x, weight, bias, initial, offsets)
    if not kernel or weight.shape[1] > MAX_WIDTH:
        if offsets is not None:
            _check_offsets_where_readable(offsets, x.shape[0])
        return composed_causal_conv1d(x, weight, bias, initial, offsets, silu)
    wide = checks.accumulation_dtype(x.dtype)
    wide_bias = None if bias is None else bias.to(wide)
    y, final = torch.ops.recblr._causal_conv1d(x, weight.to(wide), wide_bias, initial, offsets, silu)
    return y, final


def check_causal_conv1d(
    op: str, x: Tensor, weight: Tensor, bias: Tensor | None, initial: Tensor | None, offsets: Tensor | None
) -> tuple[int, int, int]:
    """Check the arguments of causal_conv1d; returns the shape of its state."""
    checks.one_of(op, "x", x)
    sequences = checks.time_axis(op, "x", x, offsets)
    channels = x.shape[-1]
    if weight.dim() != 2 or weight.shape[0] != channels or weight.shape[1] < 1:
        raise ValueError(
            f"{op}: weight must have shape ({channels}, K) with K >= 1, but has {tuple(weight.shape)}"
        )
    past = sequences, weight.shape[1] - 1, channels
    checks.shape(op, "bias", bias, (channels,))
    checks.state(op, initial, past, x)
    for name, tensor in (("weight", weight), ("bias", bias)):
        checks.one_of(op, name, tensor)
        checks.device(op, name, tensor, x.device)
    return past


def check_fused_causal_conv1d(
    op: str, x: Tensor, weight: Tensor, bias: Tensor | None, initial: Tensor | None, offsets: Tensor | None
) -> tuple[int, int, int]:
    """Check the arguments of _causal_conv1d, which takes parameters in the accumulation dtype only."""
    past = check_causal_conv1d(op, x, weight, bias, initial, offsets)
    if weight.shape[1] > MAX_WIDTH:
        raise ValueError(f"{op}: weight must have at most {MAX_WIDTH} taps, but has {weight.shape[1]}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        checks.dtype(op, name, tensor, checks.accumulation_dtype(x.dtype), "the accumulation dtype")
    return past


def check_causal_conv1d_backward(
    grad: Tensor | None,
    grad_final: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    offsets: Tensor | None,
) -> tuple[int, int, int]:
    """Check the arguments of _causal_conv1d_backward; returns the shape of its state."""
    op = "_causal_conv1d_backward"
    past = check_fused_causal_conv1d(op, x, weight, bias, initial, offsets)
    checks.same(op, "grad", grad, "x", x)
    checks.state(op, grad_final, past, x, "grad_final")
    return past


def _check_offsets_where_readable(offsets: Tensor, rows: int) -> None:
    """Offsets of the composition, which also runs on traced tensors: an empty scan refuses for it."""
    if offsets.device.type == "cpu":
        nothing = torch.empty(rows, 0, device=offsets.device)
        torch.ops.recblr.scan(nothing, nothing, None, offsets, False)


def composed_causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    offsets: Tensor | None,
    silu: bool,
) -> tuple[Tensor, Tensor]:
    """See :func:`recblr.causal_conv1d`; weight and bias in any floating dtype."""
    wide = checks.accumulation_dtype(x.dtype)
    taps = weight.to(wide).unbind(1)
    if offsets is None:
        past, batched = _past(x, weight, initial, offsets), x.to(wide)
        padded = torch.cat([past, batched if x.dim() == 3 else batched.unsqueeze(0)], 1)
        y = _convolve(padded, taps, 1).reshape(x.shape)
        final = padded[:, padded.shape[1] - past.shape[1] :].clone()
    else:
        laid = _LaidOut(x, weight, initial, offsets)
        y, final = _convolve(laid.rows, taps, 0).index_select(0, laid.first), laid.final()
    if bias is not None:
        y = y + bias.to(wide)
    return (F.silu(y) if silu else y).to(x.dtype), final


def composed_causal_conv1d_backward(
    grad: Tensor | None,
    grad_final: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    offsets: Tensor | None,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dx, dweight, dbias, dinitial."""
    wide = checks.accumulation_dtype(x.dtype)
    width = weight.shape[1]
    if offsets is None:
        batch, length = (x.shape[0], x.shape[1]) if x.dim() == 3 else (1, x.shape[0])
        offsets = torch.arange(batch + 1, device=x.device) * length
    laid = _LaidOut(x.flatten(0, -2), weight, initial, offsets)
    d = laid.rows.new_zeros(laid.x.shape) if grad is None else grad.to(wide).flatten(0, -2)
    if silu:
        y = _convolve(laid.rows, weight.to(wide).unbind(1), 0).index_select(0, laid.first)
        d = d * silu_slope(y if bias is None else y + bias.to(wide))
    # Of the rows where nobody's window begins, no adjoint comes.
    d_rows = d.new_zeros(laid.rows.shape[0] - width + 1, d.shape[1]).index_copy(0, laid.first, d)
    reached = [F.pad(d_rows * weight[:, k].to(wide), (0, 0, k, width - 1 - k)) for k in range(width)]
    d_laid = torch.stack(reached).sum(0)
    if grad_final is not None:
        d_laid = d_laid.index_add(0, laid.last, grad_final.flatten(0, 1))
    met = [laid.rows[k : k + d_rows.shape[0]] for k in range(width)]
    dweight = torch.stack([(d_rows * rows).sum(0) for rows in met], 1)
    dx = d_laid.index_select(0, laid.place).reshape(x.shape).to(x.dtype)
    return dx, dweight, d.sum(0), d_laid.index_select(0, laid.before).reshape(laid.past.shape)


def _convolve(rows: Tensor, taps: tuple[Tensor, ...], axis: int) -> Tensor:
    """At every place along the axis, the window that begins there."""
    length = rows.shape[axis] - len(taps) + 1
    first = rows.narrow(axis, 0, length) * taps[0]
    return sum((rows.narrow(axis, k, length) * taps[k] for k in range(1, len(taps))), first)


def _past(x: Tensor, weight: Tensor, initial: Tensor | None, offsets: Tensor | None) -> Tensor:
    """The inputs before each sequence's first, (S, K-1, C)."""
    if initial is not None:
        return initial
    sequences = math.prod(x.shape[:-2]) if offsets is None else offsets.shape[0] - 1
    shape = sequences, weight.shape[1] - 1, x.shape[-1]
    return x.new_zeros(shape, dtype=checks.accumulation_dtype(x.dtype))


class _LaidOut:
    """Packed rows, each sequence behind the inputs from before it.

    rows: all of them.  place, before, last: where x, the inputs before and the last inputs stand in them.
    first: where the window of each row of x begins.
    """

    def __init__(self, x: Tensor, weight: Tensor, initial: Tensor | None, offsets: Tensor) -> None:
        self.x, self.past = x, _past(x, weight, initial, offsets)
        sequences, before, channels = self.past.shape
        rows = x.shape[0]
        self.first = torch.arange(rows, device=x.device) + before * sequence_of_row(offsets, rows)
        self.place = self.first + before
        s = torch.arange(sequences, device=x.device).unsqueeze(1)
        lag = torch.arange(before, device=x.device)
        self.before = (offsets[:-1].long().unsqueeze(1) + before * s + lag).flatten()
        self.last = (offsets[1:].long().unsqueeze(1) + before * s + lag).flatten()
        # Room for one more window, so that no size falls below zero where there is no sequence.
        laid = self.past.new_zeros(rows + before * (sequences + 1), channels)
        laid = laid.index_copy(0, self.before, self.past.flatten(0, 1))
        self.rows = laid.index_copy(0, self.place, x.to(laid.dtype))

    def final(self) -> Tensor:
        return self.rows.index_select(0, self.last).reshape(self.past.shape)


def _reference_causal_conv1d(*arguments: Any) -> tuple[Tensor, Tensor]:
    *tensors, _ = arguments
    check_fused_causal_conv1d("causal_conv1d", *tensors)
    _refuse_offsets("causal_conv1d", tensors[-1], tensors[0])
    y, final = composed_causal_conv1d(*arguments)
    return y.contiguous(), final


def _reference_causal_conv1d_backward(*arguments: Any) -> tuple[Tensor, ...]:
    *tensors, _ = arguments
    check_causal_conv1d_backward(*tensors)
    _refuse_offsets("_causal_conv1d_backward", tensors[-1], tensors[2])
    return tuple(gradient.contiguous() for gradient in composed_causal_conv1d_backward(*arguments))


def _refuse_offsets(op: str, offsets: Tensor | None, x: Tensor) -> None:
    if offsets is not None:
        checks.offsets_values(op, offsets, x.shape[0])


def _fake_causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None, initial: Tensor | None, offsets: Tensor | None, silu: bool
) -> tuple[Tensor, Tensor]:
    past = check_fused_causal_conv1d("causal_conv1d", x, weight, bias, initial, offsets)
    return empty_rows_like(x), weight.new_empty(past)


def _fake_causal_conv1d_backward(
    grad: Tensor | None, grad_final: Tensor | None, x: Tensor, weight: Tensor, bias: Tensor | None,
    initial: Tensor | None, offsets: Tensor | None, silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    past = check_causal_conv1d_backward(grad, grad_final, x, weight, bias, initial, offsets)
    return (
        empty_rows_like(x),
        empty_rows_like(weight),
        weight.new_empty(weight.shape[0]),
        weight.new_empty(past),
    )


def _save_causal_conv1d(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.silu = inputs
    ctx.save_for_backward(*tensors)
    ctx.set_materialize_grads(False)


def _causal_conv1d_gradient(
    ctx: Any, grad: Tensor | None, grad_final: Tensor | None
) -> tuple[Tensor | None, ...]:
    if grad is None and grad_final is None:
        return (None,) * 6
    inputs = ctx.saved_tensors
    dx, dweight, *others = torch.ops.recblr._causal_conv1d_backward(grad, grad_final, *inputs, ctx.silu)
    _, _, bias, initial, _ = inputs
    dbias, dinitial = where_given(others, (bias, initial))
    return dx, dweight, dbias, dinitial, None, None


def _cast(
    dtype: torch.dtype, x: Tensor, weight: Tensor, bias: Tensor | None = None, initial: Tensor | None = None,
    offsets: Tensor | None = None, silu: bool = True,
) -> tuple[Any, ...]:  # fmt: skip
    return narrow(x, dtype), weight, bias, initial, offsets, silu


def _register() -> None:
    LIBRARY.impl("causal_conv1d", _causal_conv1d, "CompositeImplicitAutograd")
    # vmap would loop over calls otherwise.
    parts = functools.partial(_causal_conv1d, kernel=False)
    LIBRARY.impl("causal_conv1d", parts, "FuncTorchBatchedDecomposition")
    register_autocast("causal_conv1d", _cast)
    LIBRARY.impl("_causal_conv1d", _reference_causal_conv1d, "CompositeExplicitAutograd")
    LIBRARY.impl("_causal_conv1d_backward", _reference_causal_conv1d_backward, "CompositeExplicitAutograd")
    torch.library.register_fake("recblr::_causal_conv1d", _fake_causal_conv1d)
    torch.library.register_fake("recblr::_causal_conv1d_backward", _fake_causal_conv1d_backward)
    torch.library.register_autograd(
        "recblr::_causal_conv1d", _causal_conv1d_gradient, setup_context=_save_causal_conv1d
    )
    register_derivative_of("recblr::_causal_conv1d_backward", composed_causal_conv1d_backward)
    LIBRARY.impl("_causal_conv1d_backward", composed_causal_conv1d_backward, "FuncTorchBatchedDecomposition")


_register()
