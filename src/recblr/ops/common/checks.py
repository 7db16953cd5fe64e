"""Argument checks, which an operator's public function, reference and fake share.

They read shapes, dtypes and devices only.  So they need no data, and do not wait for the device.  Each
failure is a ValueError of one sentence that names the argument.  The one check that reads data says so.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SCANNED = (*FLOATING, torch.complex64, torch.complex128)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def tensors(op: str, names: Sequence[str], *values: Tensor | None, required: int) -> None:
    """Refuse what is no tensor, and tensors without strides: sparse and nested ones.

    This is for the public functions.  torch's own message is a page long, or is about another function.  They
    are called once for each event in serving, so the message is only built when it is needed.

    names: the values' names; the first `required` values may not be None.
    """
    for place, value in enumerate(values):
        if value is None and place >= required:
            continue
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise TypeError(f"{op}: {names[place]} must be a tensor, but is of the type {kind}")
        if value.layout is not torch.strided or value.is_nested:
            raise ValueError(f"{op}: {names[place]} must be dense, but is a sparse or nested tensor")


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
    """Refuse a state of another shape or on another device, or whose dtype is not the accumulation dtype."""
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


def check_offsets(offsets: Tensor, rows: int) -> None:
    """Refuse offsets that do not run from 0 to ``rows`` without decreasing.

    On a CPU the operators do so themselves, before any work.  On other devices they check shape and dtype
    only, since reading values there waits for the device.  This function reads the values on any device.

    Args:
        offsets: ``(S + 1,)`` int64 or int32.
        rows: N, of the packed tensor that they are meant for.

    Raises:
        ValueError: what is wrong and where, in one sentence.
    """
    tensors("check_offsets", ("offsets",), offsets, required=1)
    if isinstance(rows, bool) or not isinstance(rows, int) or not 0 <= rows < 2**63:
        raise ValueError(f"check_offsets: rows must be a number of rows, 0 or more, but is {rows!r}")
    time_axis("check_offsets", "rows", offsets.new_empty(rows, 0), offsets)
    offsets_values("check_offsets", offsets, rows)
