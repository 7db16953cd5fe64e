"""The recurrence in plain PyTorch: what serves on devices and machines without a native kernel.

Serial in time and simple: it is the definition that other kernels are compared with.
"""

import torch
from torch import Tensor

from recblr.ops import checks
from recblr.ops.layout import empty_in_layout_of
from recblr.ops.schemas import LIBRARY


def _starts_and_lengths(x: Tensor, offsets: Tensor | None) -> tuple[Tensor, Tensor]:
    """First row and length of every sequence of x seen as (rows, C)."""
    if offsets is not None:
        return offsets[:-1].long(), offsets.long().diff()
    batch, length = (x.shape[0], x.shape[1]) if x.dim() == 3 else (1, x.shape[0])
    starts = torch.arange(batch, device=x.device) * length
    return starts, torch.full_like(starts, length)


def _steps(x: Tensor, offsets: Tensor | None, reverse: bool) -> list[tuple[Tensor, Tensor]]:
    """For every step of time: the sequences that reach it, and the row that each then is at."""
    starts, lengths = _starts_and_lengths(x, offsets)
    steps = []
    for t in range(int(lengths.max()) if lengths.numel() else 0):
        live = (lengths > t).nonzero().squeeze(1)
        at = lengths[live] - 1 - t if reverse else t
        steps.append((live, starts[live] + at))
    return steps


def _as_rows(x: Tensor) -> Tensor:
    """x as (rows, C) in the accumulation dtype."""
    return x.flatten(0, -2).to(checks.accumulation_dtype(x.dtype))


def scan(
    a: Tensor, b: Tensor, initial: Tensor | None = None, offsets: Tensor | None = None, reverse: bool = False
) -> Tensor:
    """h[t] = a[t] * h[t-1] + b[t], one step of time after another."""
    sequences = checks.scan(a, b, initial, offsets)
    if offsets is not None:
        checks.offsets_values("scan", offsets, b.shape[0])
    rows_a, rows_b = _as_rows(a), _as_rows(b)
    state = rows_b.new_zeros(sequences, b.shape[-1]) if initial is None else initial.clone()
    h = torch.empty_like(rows_b, memory_format=torch.contiguous_format)
    for live, rows in _steps(b, offsets, reverse):
        state[live] = rows_a[rows] * state[live] + rows_b[rows]
        h[rows] = state[live]
    return empty_in_layout_of(b).copy_(h.reshape(b.shape))


def scan_backward(
    grad: Tensor, a: Tensor, h: Tensor, initial: Tensor | None, offsets: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The adjoint of :func:`scan`: da, db, and dinitial in the accumulation dtype."""
    sequences = checks.scan_backward(grad, a, h, initial, offsets)
    if offsets is not None:
        checks.offsets_values("_scan_backward", offsets, h.shape[0])
    rows_grad, rows_a, rows_h = _as_rows(grad), _as_rows(a), _as_rows(h)
    da, db = rows_h.new_empty(rows_h.shape), rows_h.new_empty(rows_h.shape)
    start = rows_h.new_zeros(sequences, h.shape[-1]) if initial is None else initial
    carry = rows_h.new_zeros(sequences, h.shape[-1])  # a[t+1] * G[t+1]
    steps = _steps(h, offsets, reverse)
    for t in range(len(steps) - 1, -1, -1):
        live, rows = steps[t]
        g = rows_grad[rows] + carry[live]
        if t > 0:
            before, previous_rows = steps[t - 1]
            previous = torch.empty_like(carry).index_copy_(0, before, rows_h[previous_rows])[live]
        else:
            previous = start[live]
        db[rows] = g
        da[rows] = g * previous
        carry[live] = rows_a[rows] * g
    return da.reshape(h.shape).to(h.dtype), db.reshape(h.shape).to(h.dtype), carry


def register() -> None:
    """Serve every device that has no kernel of its own."""
    LIBRARY.impl("scan", scan, "CompositeExplicitAutograd")
    LIBRARY.impl("_scan_backward", scan_backward, "CompositeExplicitAutograd")
