"""Argument checks that the fakes, the reference and the composed operators share.

They read shapes, dtypes and devices only, so that they work without data and without a
synchronisation.  Each failure is a ValueError of one sentence that names the argument.
"""

import math

import torch
from torch import Tensor

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SCANNED = (*FLOATING, torch.complex64, torch.complex128)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def tensors(op: str, names: str, *values: Tensor | None, required: int) -> None:
    """Refuse what is no tensor, and tensors without strides: sparse and nested ones.

    For the public functions, since what torch says of these is a page, or is about another function; they
    are called once an event, so nothing is built here unless it is refused.

    names: of the values, with spaces between; the first `required` of them may not be None.
    """
    for place, value in enumerate(values):
        if value is None and place >= required:
            continue
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise TypeError(f"{op}: {names.split()[place]} must be a tensor, but is of the type {kind}")
        if value.layout is not torch.strided or value.is_nested:
            raise ValueError(f"{op}: {names.split()[place]} must be dense, but is a sparse or nested tensor")


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """What states and sums are kept in: float32 for the 16-bit dtypes, else the dtype itself."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def one_of(op: str, name: str, tensor: Tensor | None, dtypes: tuple[torch.dtype, ...] = FLOATING) -> None:
    """Refuse dtypes that the operator does not compute in."""
    if tensor is not None and tensor.dtype not in dtypes:
        *most, last = map(_name, dtypes)
        raise ValueError(f"{op}: {name} must be {', '.join(most)} or {last}, but is {_name(tensor.dtype)}")


def device(op: str, name: str, tensor: Tensor | None, expected: torch.device) -> None:
    """Refuse an argument on another device."""
    if tensor is not None and tensor.device != expected:
        raise ValueError(f"{op}: {name} must be on {expected}, but is on {tensor.device}")


def dtype(op: str, name: str, tensor: Tensor | None, expected: torch.dtype, meaning: str) -> None:
    """Refuse another dtype than ``expected``."""
    if tensor is not None and tensor.dtype != expected:
        raise ValueError(f"{op}: {name} must be {_name(expected)}, {meaning}, but is {_name(tensor.dtype)}")


def shape(op: str, name: str, tensor: Tensor | None, expected: tuple[int, ...], meaning: str = "") -> None:
    """Refuse another shape than ``expected``."""
    if tensor is not None and tuple(tensor.shape) != expected:
        because = f", {meaning}" if meaning else ""
        raise ValueError(
            f"{op}: {name} must have shape {tuple(expected)}{because}, but has {tuple(tensor.shape)}"
        )


def same(op: str, name: str, tensor: Tensor | None, other_name: str, other: Tensor) -> None:
    """Refuse another shape, dtype or device than those of ``other``."""
    if tensor is None:
        return
    if tensor.shape != other.shape:
        raise ValueError(
            f"{op}: {name} must have {other_name}'s shape {tuple(other.shape)}, but has {tuple(tensor.shape)}"
        )
    if tensor.dtype != other.dtype:
        raise ValueError(
            f"{op}: {name} must have {other_name}'s dtype {_name(other.dtype)}, but has {_name(tensor.dtype)}"
        )
    device(op, name, tensor, other.device)


def time_axis(op: str, name: str, x: Tensor, offsets: Tensor | None) -> int:
    """The number of sequences in ``x``, after checking its shape against ``offsets``."""
    if offsets is None:
        if x.dim() not in (2, 3):
            raise ValueError(f"{op}: {name} must be (B, T, C), or (T, C), but has shape {tuple(x.shape)}")
        return x.shape[0] if x.dim() == 3 else 1
    if x.dim() != 2:
        raise ValueError(f"{op}: with offsets, {name} must be packed (N, C), but has shape {tuple(x.shape)}")
    if offsets.dim() != 1 or offsets.shape[0] < 1:
        raise ValueError(f"{op}: offsets must be (S + 1,), but has shape {tuple(offsets.shape)}")
    if offsets.dtype not in (torch.int64, torch.int32):
        raise ValueError(f"{op}: offsets must be int64 or int32, but is {_name(offsets.dtype)}")
    device(op, "offsets", offsets, x.device)
    return offsets.shape[0] - 1


def state(
    op: str, tensor: Tensor | None, expected: tuple[int, ...], x: Tensor, name: str = "initial"
) -> None:
    """Refuse a state of another shape or dtype than the accumulation dtype, or on another device."""
    if tensor is None:
        return
    shape(op, name, tensor, expected, "a state a sequence")
    dtype(op, name, tensor, accumulation_dtype(x.dtype), "the accumulation dtype")
    device(op, name, tensor, x.device)


def offsets_values(op: str, offsets: Tensor, rows: int) -> None:
    """Refuse offsets that do not run from 0 to ``rows`` without decreasing.  Reads data."""
    values = offsets.detach().cpu().long()
    first, last = int(values[0]), int(values[-1])
    if first != 0:
        raise ValueError(f"{op}: offsets must start with 0, but starts with {first}")
    falls = (values.diff() < 0).nonzero()
    if falls.numel():
        i = int(falls[0]) + 1
        before, after = int(values[i - 1]), int(values[i])
        raise ValueError(f"{op}: offsets must not decrease, but offsets[{i}] is {after} after {before}")
    if last != rows:
        raise ValueError(f"{op}: offsets must end with the number of rows {rows}, but ends with {last}")


def offsets_values_where_readable(offsets: Tensor, rows: int) -> None:
    """The same for composed operators, which also run on traced tensors: an empty scan refuses for them."""
    if offsets.device.type == "cpu":
        nothing = torch.empty(rows, 0, device=offsets.device)
        torch.ops.recblr.scan(nothing, nothing, None, offsets, False)


def scan(op: str, a: Tensor, b: Tensor, initial: Tensor | None, offsets: Tensor | None) -> int:
    """Check the arguments of scan or scan_with_final; returns the number of sequences."""
    one_of(op, "b", b, SCANNED)
    same(op, "a", a, "b", b)
    sequences = time_axis(op, "b", b, offsets)
    state(op, initial, (sequences, b.shape[-1]), b)
    return sequences


def scan_backward(
    grad: Tensor | None,
    grad_final: Tensor | None,
    a: Tensor,
    h: Tensor,
    initial: Tensor | None,
    offsets: Tensor | None,
) -> int:
    """Check _scan_backward's arguments; returns the number of sequences."""
    op = "_scan_backward"
    one_of(op, "h", h, SCANNED)
    same(op, "a", a, "h", h)
    same(op, "grad", grad, "h", h)
    sequences = time_axis(op, "h", h, offsets)
    state(op, grad_final, (sequences, h.shape[-1]), h, "grad_final")
    state(op, initial, (sequences, h.shape[-1]), h)
    return sequences


def bdlru(
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
    one_of(op, "x", x)
    sequences = time_axis(op, "x", x, offsets)
    channels = x.shape[-1]
    shape(op, "gates", gates, (*x.shape[:-1], 2 * channels), "r's then i's pre-activations")
    shape(op, "decay", decay, (channels,))
    same(op, "z", z, "x", x)
    shape(op, "scale", scale, (*x.shape[:-1], 1), "a factor a step")
    state(op, initial, (sequences, channels), x)
    for name, tensor in (("gates", gates), ("decay", decay), ("scale", scale)):
        device(op, name, tensor, x.device)
    dtype(op, "gates", gates, x.dtype, "x's dtype")
    dtype(op, "decay", decay, accumulation_dtype(x.dtype), "the accumulation dtype")
    one_of(op, "scale", scale)
    return sequences


def fused_bdlru(op: str, x: Tensor, *others: Tensor | None) -> int:
    """Check the arguments of _bdlru, which takes scale in the accumulation dtype only."""
    sequences = bdlru(op, x, *others)  # type: ignore[arg-type]
    dtype(op, "scale", others[-1], accumulation_dtype(x.dtype), "the accumulation dtype")
    return sequences


def bdlru_backward(
    grad: Tensor | None, grad_final: Tensor | None, x: Tensor, *others: Tensor | None, states: Tensor
) -> int:
    """Check the arguments of _bdlru_backward; returns the number of sequences."""
    op = "_bdlru_backward"
    sequences = fused_bdlru(op, x, *others)
    same(op, "grad", grad, "x", x)
    state(op, grad_final, (sequences, x.shape[-1]), x, "grad_final")
    state(op, states, (states_in(x), x.shape[-1]), x, "states")
    return sequences


# What cpp/core/bdlru.h and causal_conv1d.h call kStateRows and kMaxWidth.
STATE_ROWS = 32
MAX_WIDTH = 64


def states_in(x: Tensor) -> int:
    """How many states _bdlru leaves for its backward pass: one before every STATE_ROWS rows."""
    rows = math.prod(x.shape[:-1])  # Size.numel() would make constants of sizes that are traced
    return (rows + STATE_ROWS - 1) // STATE_ROWS


def causal_conv1d(
    op: str, x: Tensor, weight: Tensor, bias: Tensor | None, initial: Tensor | None, offsets: Tensor | None
) -> tuple[int, int, int]:
    """Check the arguments of causal_conv1d; returns the shape of its state."""
    one_of(op, "x", x)
    sequences = time_axis(op, "x", x, offsets)
    channels = x.shape[-1]
    if weight.dim() != 2 or weight.shape[0] != channels or weight.shape[1] < 1:
        raise ValueError(
            f"{op}: weight must have shape ({channels}, K) with K >= 1, but has {tuple(weight.shape)}"
        )
    past = sequences, weight.shape[1] - 1, channels
    shape(op, "bias", bias, (channels,))
    state(op, initial, past, x)
    for name, tensor in (("weight", weight), ("bias", bias)):
        one_of(op, name, tensor)
        device(op, name, tensor, x.device)
    return past


def fused_causal_conv1d(
    op: str, x: Tensor, weight: Tensor, bias: Tensor | None, initial: Tensor | None, offsets: Tensor | None
) -> tuple[int, int, int]:
    """Check the arguments of _causal_conv1d, which takes parameters in the accumulation dtype only."""
    past = causal_conv1d(op, x, weight, bias, initial, offsets)
    if weight.shape[1] > MAX_WIDTH:
        raise ValueError(f"{op}: weight must have at most {MAX_WIDTH} taps, but has {weight.shape[1]}")
    for name, tensor in (("weight", weight), ("bias", bias)):
        dtype(op, name, tensor, accumulation_dtype(x.dtype), "the accumulation dtype")
    return past


def causal_conv1d_backward(
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
    past = fused_causal_conv1d(op, x, weight, bias, initial, offsets)
    same(op, "grad", grad, "x", x)
    state(op, grad_final, past, x, "grad_final")
    return past
