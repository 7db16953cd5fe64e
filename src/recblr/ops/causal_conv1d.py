"""The operator causal_conv1d: its checks, forward and backward kernels, and derivatives of every order.

The kernels are the internal operators _causal_conv1d and _causal_conv1d_backward.  Second and higher
derivatives come from a composition of PyTorch operations.  The composition is differentiable to any order.
It is also used where there is no fused kernel, and under torch.func and vmap.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recblr.ops.common import checks
from recblr.ops.common.derivatives import silu, silu_slope
from recblr.ops.common.layout import empty_rows_like, offsets_of, sequence_of
from recblr.ops.common.registration import define, downcast, parameters, raise_value_errors, register_fused


class Arguments(NamedTuple):
    """The arguments of :func:`causal_conv1d`, which describes them.

    The kernels take the same arguments.  But they take weight and bias only in the accumulation dtype.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor | None = None
    initial: Tensor | None = None
    offsets: Tensor | None = None
    silu: bool = True


define(
    f"causal_conv1d({parameters(Arguments, defaults=True)}) -> (Tensor y, Tensor final)",
    f"_causal_conv1d({parameters(Arguments)}) -> (Tensor y, Tensor final)",
    f"_causal_conv1d_backward(Tensor? grad, Tensor? grad_final, {parameters(Arguments)})"
    " -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dinitial)",
)

# The largest kernel size K of the fused kernel.  cpp/core/causal_conv1d.h calls it kMaxWidth.
MAX_WIDTH = 64


@raise_value_errors
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
        weight: ``(C, K)``, K >= 1.  ``weight[:, K-1]`` multiplies the current input.
        bias: ``(C,)`` or None.
        initial: the inputs before the first step, oldest first, in the accumulation dtype.  The shape is
            ``(B, K-1, C)``, or ``(S, K-1, C)`` for packed sequences.  None means zeros.
        offsets: as in :func:`scan`.
        silu: apply SiLU to the output.

    Returns:
        y, of x's shape and dtype, and the last K-1 inputs of every sequence, of initial's shape.  They are
        inputs of the convolution, so they have no bias and no SiLU.  If a sequence is shorter than K-1, the
        last rows of ``initial`` come before its inputs.

    Raises:
        ValueError: a shape, dtype, device or offset does not fit.  One sentence names the argument.
        TypeError: an argument is not a tensor.
    """
    tensors = x, weight, bias, initial, offsets
    checks.tensors("causal_conv1d", Arguments._fields, *tensors, required=2)
    y, final = torch.ops.recblr.causal_conv1d(*tensors, silu)
    return y, final


def _call(*given: Any) -> tuple[Tensor, Tensor]:
    """Check the arguments, then call the kernel, or the composition if the weight is too wide for it."""
    a = Arguments(*given)
    _check("causal_conv1d", a)
    if a.weight.shape[1] > MAX_WIDTH:
        return _composed(*a)
    wide = checks.accumulation_dtype(a.x.dtype)
    bias = None if a.bias is None else a.bias.to(wide)
    y, final = torch.ops.recblr._causal_conv1d(a.x, a.weight.to(wide), bias, *a[3:])
    return y, final


def _check(op: str, a: Arguments) -> tuple[int, int, int]:
    """Check the public operator's arguments; return the shape of its state."""
    x, weight, bias, initial, offsets, _ = a
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


def _check_kernel(op: str, a: Arguments) -> tuple[int, int, int]:
    """Check _causal_conv1d's arguments; return the shape of its state."""
    past = _check(op, a)
    if a.weight.shape[1] > MAX_WIDTH:
        raise ValueError(f"{op}: weight must have at most {MAX_WIDTH} taps, but has {a.weight.shape[1]}")
    for name, tensor in (("weight", a.weight), ("bias", a.bias)):
        checks.dtype(op, name, tensor, checks.accumulation_dtype(a.x.dtype), "the accumulation dtype")
    return past


def _check_backward(
    grad: Tensor | None, grad_final: Tensor | None, *given: Any
) -> tuple[Arguments, tuple[int, int, int]]:
    """Check _causal_conv1d_backward's arguments; return those of _causal_conv1d, and its state's shape."""
    op, a = "_causal_conv1d_backward", Arguments(*given)
    past = _check_kernel(op, a)
    checks.same(op, "grad", grad, "x", a.x)
    checks.state(op, grad_final, past, a.x, "grad_final")
    return a, past


def _composed(*given: Any) -> tuple[Tensor, Tensor]:
    """:func:`composed_causal_conv1d` with a contiguous y, after a check of the values of the offsets."""
    a = Arguments(*given)
    if a.offsets is not None and a.offsets.device.type == "cpu":
        # The tensors may be traced, so values cannot be read here.  A scan without channels checks them.
        no_channels = torch.empty(a.x.shape[0], 0, device="cpu")
        torch.ops.recblr.scan(no_channels, no_channels, None, a.offsets, False)
    y, final = composed_causal_conv1d(*a)
    return y.contiguous(), final


def composed_causal_conv1d(*given: Any) -> tuple[Tensor, Tensor]:
    """:func:`recblr.causal_conv1d` as a composition of PyTorch operations.

    weight and bias have any floating dtype.
    """
    a = Arguments(*given)
    wide = checks.accumulation_dtype(a.x.dtype)
    taps = a.weight.to(wide).unbind(1)
    if a.offsets is None:
        past, batched = _past(a), a.x.to(wide)
        padded = torch.cat([past, batched if a.x.dim() == 3 else batched.unsqueeze(0)], 1)
        y = _convolve(padded, taps, 1).reshape(a.x.shape)
        final = padded[:, padded.shape[1] - past.shape[1] :].clone()
    else:
        rows = _RowsWithPast(a)
        y, final = _convolve(rows.all, taps, 0).index_select(0, rows.first), rows.final()
    if a.bias is not None:
        y = y + a.bias.to(wide)
    return (silu(y) if a.silu else y).to(a.x.dtype), final


def composed_causal_conv1d_backward(
    grad: Tensor | None, grad_final: Tensor | None, *given: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients dx, dweight, dbias and dinitial."""
    a = Arguments(*given)
    wide, width = checks.accumulation_dtype(a.x.dtype), a.weight.shape[1]
    weight = a.weight.to(wide)
    rows = _RowsWithPast(a._replace(x=a.x.flatten(0, -2), offsets=offsets_of(a.x, a.offsets)))
    d = rows.all.new_zeros(a.x.shape).flatten(0, -2) if grad is None else grad.to(wide).flatten(0, -2)
    if a.silu:
        y = _convolve(rows.all, weight.unbind(1), 0).index_select(0, rows.first)
        d = d * silu_slope(y if a.bias is None else y + a.bias.to(wide))
    # The adjoint of the output of every window.  It is zero if a window does not end at a row of x.
    d_windows = d.new_zeros(rows.all.shape[0] - width + 1, d.shape[1]).index_copy(0, rows.first, d)
    by_tap = [F.pad(d_windows * weight[:, k], (0, 0, k, width - 1 - k)) for k in range(width)]
    d_all = torch.stack(by_tap).sum(0)
    if grad_final is not None:
        d_all = d_all.index_add(0, rows.last, grad_final.flatten(0, 1))
    inputs_by_tap = [rows.all[k : k + d_windows.shape[0]] for k in range(width)]
    dweight = torch.stack([(d_windows * inputs).sum(0) for inputs in inputs_by_tap], 1)
    dx = d_all.index_select(0, rows.place).reshape(a.x.shape).to(a.x.dtype)
    return dx, dweight, d.sum(0), d_all.index_select(0, rows.before).reshape(rows.past.shape)


def _convolve(rows: Tensor, taps: tuple[Tensor, ...], axis: int) -> Tensor:
    """For every position along the axis, the output of the window that begins at this position."""
    length = rows.shape[axis] - len(taps) + 1
    first = rows.narrow(axis, 0, length) * taps[0]
    return sum((rows.narrow(axis, k, length) * taps[k] for k in range(1, len(taps))), first)


def _past(a: Arguments) -> Tensor:
    """The inputs before the first step of each sequence, (S, K-1, C)."""
    if a.initial is not None:
        return a.initial
    sequences = math.prod(a.x.shape[:-2]) if a.offsets is None else a.offsets.shape[0] - 1
    shape = sequences, a.weight.shape[1] - 1, a.x.shape[-1]
    return a.x.new_zeros(shape, dtype=checks.accumulation_dtype(a.x.dtype))


class _RowsWithPast:
    """Packed rows in which each sequence comes after its past: the K-1 inputs before its first step.

    past: the inputs before each sequence, (S, K-1, C).
    all: the joined rows, past and x.
    place: the row numbers of x in `all`.
    before: the row numbers of `past` in `all`.
    last: the row numbers of each sequence's last K-1 inputs in `all`.
    first: for each row of x, the row number in `all` at which its window begins.
    """

    def __init__(self, a: Arguments) -> None:
        offsets: Any = a.offsets
        self.past = _past(a)
        sequences, before, channels = self.past.shape
        rows = torch.arange(a.x.shape[0], device=a.x.device)
        self.first = rows + before * sequence_of(rows, offsets)
        self.place = self.first + before
        s = torch.arange(sequences, device=a.x.device).unsqueeze(1)
        lag = torch.arange(before, device=a.x.device)
        self.before = (offsets[:-1].long().unsqueeze(1) + before * s + lag).flatten()
        self.last = (offsets[1:].long().unsqueeze(1) + before * s + lag).flatten()
        # There is space for one more window.  So no size is below zero if there is no sequence.
        joined = self.past.new_zeros(a.x.shape[0] + before * (sequences + 1), channels)
        joined = joined.index_copy(0, self.before, self.past.flatten(0, 1))
        self.all = joined.index_copy(0, self.place, a.x.to(joined.dtype))

    def final(self) -> Tensor:
        return self.all.index_select(0, self.last).reshape(self.past.shape)


def _check_offsets_values(op: str, a: Arguments) -> None:
    if a.offsets is not None:
        checks.offsets_values(op, a.offsets, a.x.shape[0])


def _reference(*given: Any) -> tuple[Tensor, Tensor]:
    a = Arguments(*given)
    _check_kernel("causal_conv1d", a)
    _check_offsets_values("causal_conv1d", a)
    y, final = composed_causal_conv1d(*a)
    return y.contiguous(), final


def _fake(*given: Any) -> tuple[Tensor, Tensor]:
    a = Arguments(*given)
    past = _check_kernel("causal_conv1d", a)
    return empty_rows_like(a.x), a.weight.new_empty(past)


def _reference_backward(*given: Any) -> tuple[Tensor, ...]:
    a, _ = _check_backward(*given)
    _check_offsets_values("_causal_conv1d_backward", a)
    return tuple(gradient.contiguous() for gradient in composed_causal_conv1d_backward(*given))


def _fake_backward(*given: Any) -> tuple[Tensor, ...]:
    a, past = _check_backward(*given)
    dbias = a.weight.new_empty(a.weight.shape[0])
    return empty_rows_like(a.x), empty_rows_like(a.weight), dbias, a.weight.new_empty(past)


def _cast(dtype: torch.dtype, x: Tensor, *others: Any) -> tuple[Any, ...]:
    return downcast(x, dtype), *others


register_fused(
    "causal_conv1d",
    Arguments,
    call=_call,
    cast=_cast,
    reference=_reference,
    fake=_fake,
    composed=_composed,
    reference_backward=_reference_backward,
    fake_backward=_fake_backward,
    composed_backward=composed_causal_conv1d_backward,
)
