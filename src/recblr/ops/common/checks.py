"""Checks of arguments.  An operator's public function, its reference and its fake function share them.

The checks read only shapes, dtypes and devices.  They read no data, so they do not wait for the device.
`offsets_values` is the exception: it reads data.

A check that fails raises a ValueError, or a TypeError for a value that is not a tensor.  The message is one
sentence that names the argument.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from recblr.errors import InputError

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
SCANNED = (*FLOATING, torch.complex64, torch.complex128)


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def tensors(op: str, names: Sequence[str], *values: Tensor | None, required: int) -> None:
    """Refuse values that are not tensors, and tensors without strides: sparse and nested tensors.

    The public functions call this check, because torch's own message is a page long or names another
    function.  Serving calls the public functions once for each event.  So a message is built only for a
    value that is refused.

    names: the names of the values.  The first `required` values may not be None.
    """
    for place, value in enumerate(values):
        if value is None and place >= required:
            continue
        if not isinstance(value, Tensor):
            kind = type(value).__name__
            raise TypeError(f"{op}: {names[place]} must be a tensor, but is of the type {kind}")
        if value.layout is not torch.strided or value.is_nested:
            raise not_dense(names[place], value, f"{op}: ")


def dense(name: str, value: Tensor) -> None:
    """Refuse a sparse or nested tensor."""
    if value.layout is not torch.strided or value.is_nested:
        raise not_dense(name, value)


def not_dense(name: str, value: Tensor, prefix: str = "") -> InputError:
    """The error for a sparse or nested tensor."""
    if not value.is_nested:
        return InputError(
            f"{prefix}{name} must be dense, but is a sparse tensor", "convert it with to_dense()"
        )
    first = "" if value.layout is torch.jagged else "make it with layout=torch.jagged, then "
    return InputError(
        f"{prefix}{name} must be dense, but is a nested tensor",
        f"{first}give its values(), and its offsets() as offsets",
    )


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of states and sums: float32 for the 16-bit dtypes, and `dtype` itself for all others."""
    return torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype


def one_of(op: str, name: str, tensor: Tensor | None, dtypes: tuple[torch.dtype, ...] = FLOATING) -> None:
    """Refuse a tensor whose dtype is not one of `dtypes`, the dtypes that the operator supports."""
    if tensor is not None and tensor.dtype not in dtypes:
        *most, last = map(_name, dtypes)
        raise ValueError(f"{op}: {name} must be {', '.join(most)} or {last}, but is {_name(tensor.dtype)}")


def device(op: str, name: str, tensor: Tensor | None, expected: torch.device) -> None:
    """Refuse a tensor that is not on the device `expected`."""
    if tensor is not None and tensor.device != expected:
        raise ValueError(f"{op}: {name} must be on {expected}, but is on {tensor.device}")


def dtype(op: str, name: str, tensor: Tensor | None, expected: torch.dtype, meaning: str) -> None:
    """Refuse a tensor whose dtype is not `expected`.  The message says the `meaning` of that dtype."""
    if tensor is not None and tensor.dtype != expected:
        raise ValueError(f"{op}: {name} must be {_name(expected)}, {meaning}, but is {_name(tensor.dtype)}")


def shape(op: str, name: str, tensor: Tensor | None, expected: tuple[int, ...], meaning: str = "") -> None:
    """Refuse a tensor whose shape is not `expected`.  The message says the `meaning` of that shape."""
    if tensor is not None and tuple(tensor.shape) != expected:
        because = f", {meaning}" if meaning else ""
        raise ValueError(
            f"{op}: {name} must have shape {tuple(expected)}{because}, but has {tuple(tensor.shape)}"
        )


def same(op: str, name: str, tensor: Tensor | None, other_name: str, other: Tensor) -> None:
    """Refuse a tensor whose shape, dtype or device differs from that of `other`."""
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
    """Check the shape of `x` and the shape and dtype of `offsets`; return the number of sequences."""
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
    """Refuse a state whose shape, device or dtype is wrong.  Its dtype must be x's accumulation dtype."""
    if tensor is None:
        return
    shape(op, name, tensor, expected, "one state per sequence")
    dtype(op, name, tensor, accumulation_dtype(x.dtype), "the accumulation dtype")
    device(op, name, tensor, x.device)


def offsets_values(op: str, offsets: Tensor, rows: int) -> None:
    """Refuse offsets that do not start at 0, that decrease, or that do not end at `rows`.  Reads data."""
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
    """Refuse offsets that do not start at 0, that decrease, or that do not end at `rows`.

    On a CPU, the operators make this check themselves before they compute.  On other devices, they check
    only shape and dtype, because a read of the values would wait for the device.  This function reads the
    values on every device.

    Args:
        offsets: ``(S + 1,)`` int64 or int32.
        rows: the number N of rows of the packed tensor.

    Raises:
        ValueError: the offsets are wrong.  One sentence says what is wrong, and where.
    """
    tensors("check_offsets", ("offsets",), offsets, required=1)
    if isinstance(rows, bool) or not isinstance(rows, int) or not 0 <= rows < 2**63:
        raise ValueError(f"check_offsets: rows must be a number of rows, 0 or more, but is {rows!r}")
    time_axis("check_offsets", "rows", offsets.new_empty(rows, 0), offsets)
    offsets_values("check_offsets", offsets, rows)
