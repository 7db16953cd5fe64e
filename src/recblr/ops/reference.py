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


def _states(rows: Tensor, sequences: int, start: Tensor | None) -> Tensor:
    """A new contiguous (sequences, C): `start`, or zeros."""
    states = rows.new_zeros(sequences, rows.shape[-1])
    return states if start is None else states.copy_(start)


def scan_with_final(
    a: Tensor, b: Tensor, initial: Tensor | None = None, offsets: Tensor | None = None, reverse: bool = False,
    op: str = "scan_with_final",
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """h[t] = a[t] * h[t-1] + b[t], one step of time after another, and the state after the last."""
    sequences = checks.scan(op, a, b, initial, offsets)
    if offsets is not None:
        checks.offsets_values(op, offsets, b.shape[0])
    rows_a, rows_b = _as_rows(a), _as_rows(b)
    state = _states(rows_b, sequences, initial)
    h = torch.empty_like(rows_b, memory_format=torch.contiguous_format)
    for live, rows in _steps(b, offsets, reverse):
        state[live] = rows_a[rows] * state[live] + rows_b[rows]
        h[rows] = state[live]
    return empty_in_layout_of(b).copy_(h.reshape(b.shape)), state


def scan(
    a: Tensor, b: Tensor, initial: Tensor | None = None, offsets: Tensor | None = None, reverse: bool = False
) -> Tensor:
    """The same without the final state."""
    return scan_with_final(a, b, initial, offsets, reverse, op="scan")[0]


def scan_backward(
    grad: Tensor | None, grad_final: Tensor | None, a: Tensor, h: Tensor, initial: Tensor | None,
    offsets: Tensor | None, reverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The adjoint of :func:`scan_with_final`: da, db, and dinitial in the accumulation dtype."""
    sequences = checks.scan_backward(grad, grad_final, a, h, initial, offsets)
    if offsets is not None:
        checks.offsets_values("_scan_backward", offsets, h.shape[0])
    rows_a, rows_h = _as_rows(a), _as_rows(h)
    rows_grad = torch.zeros_like(rows_h) if grad is None else _as_rows(grad)
    da, db = rows_h.new_empty(rows_h.shape), rows_h.new_empty(rows_h.shape)
    start = _states(rows_h, sequences, initial)
    carry = _states(rows_h, sequences, grad_final)  # conj(a[t+1]) * G[t+1]
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
        da[rows] = g * previous.conj()
        carry[live] = rows_a[rows].conj() * g

    def like_h(rows: Tensor) -> Tensor:
        return empty_in_layout_of(h).copy_(rows.reshape(h.shape))

    return like_h(da), like_h(db), carry


def register() -> None:
    """Serve every device that has no kernel of its own."""
    for name, function in (
        ("scan", scan),
        ("scan_with_final", scan_with_final),
        ("_scan_backward", scan_backward),
    ):
        LIBRARY.impl(name, function, "CompositeExplicitAutograd")
