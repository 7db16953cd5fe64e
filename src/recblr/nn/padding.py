"""Sequences of different lengths: padded batches and nested tensors become packed rows, and back.

Padding never reaches an output, a state or a gradient.  There are two ways to ensure this:

- If the lengths are at hand, only the events of the sequences are computed.
- Else the padding is computed too, but as sequences of its own, and its outputs are dropped.  Then no shape
  depends on the lengths.  So a graph has no break, and nothing waits for a GPU.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from recblr.errors import InputError
from recblr.ops.common.torch_internals import dispatch_modes_active, functorch_active

State = TypeVar("State")

Run = Callable[..., tuple[Tensor, State]]
"""(x, *columns, offsets, state) -> the output and the new state."""

Columns = tuple[Tensor | None, ...]
"""More numbers of each position, such as its time.  They have the first two axes of x, or are None."""

_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def valid_positions(lengths: Tensor, time: int) -> Tensor:
    """The positions of a right-padded batch that belong to a sequence, (B, T) bool."""
    return torch.arange(time, device=lengths.device) < lengths.unsqueeze(1)


def pack(x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The events of a right-padded batch as packed rows.

    Args:
        x: ``(B, T, ...)``.
        lengths: ``(B,)`` integers from 0 to T, on x's device or on the CPU.  From the CPU, their values reach
            another device without a wait for it.

    Returns:
        rows ``(N, ...)``, offsets ``(B + 1,)`` int64, and the places ``(N,)`` of the rows in the flattened
        batch ``(B T, ...)``.
    """
    places = valid_positions(lengths, x.shape[1]).flatten().nonzero().squeeze(1)
    offsets = F.pad(lengths.long().cumsum(0), (1, 0))
    if x.is_cuda and not places.is_cuda:  # from other memory, the CPU would wait for the copy
        places, offsets = places.pin_memory(), offsets.pin_memory()
    places, offsets = (tensor.to(x.device, non_blocking=True) for tensor in (places, offsets))
    return x.flatten(0, 1).index_select(0, places), offsets, places


def unpack(rows: Tensor, valid: Tensor) -> Tensor:
    """Pad rows (N, ...) with zeros: the valid positions (B, T) of the result (B, T, ...) are the rows."""
    padded = rows.new_zeros(*valid.shape, *rows.shape[1:])
    return padded.masked_scatter(valid.reshape(*valid.shape, *[1] * (rows.dim() - 1)), rows)


def run_packed(
    run: Run[State],
    x: Tensor,
    lengths: Tensor | None,
    offsets: Tensor | None,
    state: Any,
    *columns: Tensor | None,
    padded: str = "(B, T, D)",
    packed: str = "rows",
) -> tuple[Tensor, State]:
    """Call ``run(x, *columns, offsets, state)``.  With lengths, or if x is nested, call it on packed rows.

    run: returns an output and a new state.  An output of packed rows is padded with zeros again, or nested
        as x is.
    state: what run takes as the state before: None, a tensor, or a tuple of these, with an axis of sequences.
    columns: padded, packed or nested as x is.
    padded: the shape of a padded x, for the error message.
    packed: the name of packed data, for the error message.

    Raises:
        ValueError: both lengths and offsets are given, the lengths do not fit, or x is nested in a way that
            is not supported.
        TypeError: the lengths are not a tensor.
    """
    if isinstance(x, Tensor) and x.is_nested:
        return _run_nested(run, x, columns, lengths, offsets, state, padded)
    if lengths is None:
        return run(x, *columns, offsets, state)
    if offsets is not None or x.dim() != _axes(padded):
        raise ValueError(
            f"lengths belong to a padded {padded} batch, and offsets to packed {packed}: give one of them"
        )
    if not isinstance(lengths, Tensor):
        raise TypeError(f"lengths must be a tensor of integers, but is of the type {type(lengths).__name__}")
    batch, time = x.shape[:2]
    if tuple(lengths.shape) != (batch,) or lengths.dtype not in _INTEGERS:
        raise ValueError(
            f"lengths must be ({batch},) integers, one length for each sequence,"
            f" but is {tuple(lengths.shape)} {lengths.dtype}"
        )
    if not at_hand(lengths):
        return _run_with_padding(run, x, columns, lengths, state)
    if batch and (int(lengths.min()) < 0 or int(lengths.max()) > time):
        raise ValueError(
            f"lengths must lie in 0..{time}, but range from {int(lengths.min())} to {int(lengths.max())}"
        )
    return _run_without_padding(run, x, columns, lengths, state)


def _axes(shape: str) -> int:
    """The number of axes of a shape, which is written for people."""
    return len(shape.split(","))


def at_hand(values: Tensor) -> bool:
    """Whether the values can be read: without waiting for a device, and without breaking a graph."""
    return (
        not torch.compiler.is_compiling()
        and type(values) is Tensor
        and values.device.type == "cpu"
        and not functorch_active()
        and not dispatch_modes_active()
    )


def _run_without_padding(
    run: Run[State], x: Tensor, columns: Columns, lengths: Tensor, state: Any
) -> tuple[Tensor, State]:
    """Run on the events alone."""
    if x.is_cuda and torch.cuda.is_current_stream_capturing():
        raise ValueError(
            "lengths on the CPU cannot be part of a CUDA graph, which would keep their present values: give"
            " lengths on the device of the input"
        )
    rows, offsets, places = pack(x, lengths)
    others = _each(lambda column: column.flatten(0, 1).index_select(0, places), columns)
    y, state = run(rows, *others, offsets, state)
    batch, time = x.shape[:2]
    filled = y.new_zeros(batch * time, *y.shape[1:]).index_copy(0, places, y)
    return filled.reshape(batch, time, *y.shape[1:]), state


def _run_with_padding(
    run: Run[State], x: Tensor, columns: Columns, lengths: Tensor, state: Any
) -> tuple[Tensor, State]:
    """Run on all B T rows as 2 B sequences: each sequence, then its padding.

    Lengths that are out of range count as the nearest length in range.

    What the padding holds is not read.  The rows there get numbers that differ: with equal numbers, a layer
    norm would divide by almost zero, and in float16 the gradients of its weights would become NaN.
    """
    batch, time = x.shape[:2]
    lengths = lengths.to(x.device, torch.int64).clamp(0, time)
    starts = torch.arange(batch, device=x.device) * time
    offsets = F.pad(torch.stack([starts + lengths, starts + time], 1).flatten(), (1, 0))
    valid = valid_positions(lengths, time)
    filler = 1 - 2 * (torch.arange(x.shape[2], device=x.device) % 2) if x.dim() == 3 else 0
    rows = _replace_padding(x, valid, filler).flatten(0, 1)
    others = _each(lambda column: _replace_padding(column, valid, 0).flatten(0, 1), columns)
    y, state = run(rows, *others, offsets, _each(_before_padding, state))
    outputs = _replace_padding(y.reshape(batch, time, *y.shape[1:]), valid, 0)
    return outputs, _each(lambda part: part[::2], state)


def _replace_padding(x: Tensor, valid: Tensor, by: Tensor | int) -> Tensor:
    """x at the valid positions, and `by` elsewhere, where no gradient reaches x."""
    by = by.to(x.dtype) if isinstance(by, Tensor) else by
    return torch.where(valid.reshape(*valid.shape, *[1] * (x.dim() - 2)), x, by)


def _before_padding(part: Tensor) -> Tensor:
    """States (B, ...) of sequences -> states (2 B, ...), with zeros for the padding after each sequence."""
    return torch.stack([part, torch.zeros_like(part)], 1).flatten(0, 1)


def _each(function: Callable[[Tensor], Tensor], state: Any) -> Any:
    """The state with each of its tensors changed.  A state is None, a tensor, or a tuple of states."""
    if state is None or isinstance(state, Tensor):
        return None if state is None else function(state)
    parts = [_each(function, part) for part in state]
    return type(state)(*parts) if hasattr(state, "_fields") else tuple(parts)


def _run_nested(
    run: Run[State],
    x: Any,
    columns: Columns,
    lengths: Tensor | None,
    offsets: Tensor | None,
    state: Any,
    padded: str,
) -> tuple[Tensor, State]:
    """Run on the values of a jagged nested tensor.  Return a nested tensor of the same structure."""
    for name, given in (("lengths", lengths), ("offsets", offsets)):
        if given is not None:
            raise InputError(
                f"{name} are given, but a nested tensor has its own offsets", f"leave out {name}"
            )
    if x.layout is not torch.jagged:
        raise InputError("a strided nested tensor is not supported", "make it with layout=torch.jagged")
    if x.lengths() is not None:
        raise InputError("the nested tensor has gaps between its sequences", "give x.contiguous()")
    values, axes = x.values(), _axes(padded)
    if x.dim() != axes or (axes > 2 and x.shape[-1] != values.shape[-1]):
        raise ValueError(f"a nested tensor must be {padded} with a ragged T, but is {x.shape}")
    y, state = run(values, *(_nested_like(x, column) for column in columns), x.offsets(), state)
    return torch.nested.nested_tensor_from_jagged(y, x.offsets()), state


def _nested_like(x: Any, column: Any) -> Tensor | None:
    """The values of a column that is nested as x is.  ValueError if it is not."""
    if column is None:
        return None
    same = column.is_nested and column.layout is torch.jagged and column.lengths() is None
    if not same or not torch.equal(column.offsets(), x.offsets()):
        raise ValueError("everything that belongs to the events must be nested as they are")
    values: Tensor = column.values()
    return values
