"""Memory layouts of outputs, and functions on the rows of packed sequences.

cpp/torch/arguments.h has the same rules for the outputs of the native kernels.  The functions on packed
sequences read no data on the host.  The shapes of their results do not depend on the values of the offsets.
`previous_rows` is differentiable.
"""

import torch
from torch import Tensor

from recblr.ops.common.checks import accumulation_dtype


def is_dense(x: Tensor) -> bool:
    """Whether a tensor is not empty, and its elements fill memory without gaps or overlaps."""
    if x.numel() == 0:
        return False
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(x.stride(), x.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def empty_in_layout_of(x: Tensor) -> Tensor:
    """A new tensor of x's shape and dtype.  It has x's memory layout if x is dense, else it is contiguous."""
    if is_dense(x):
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def empty_rows_like(x: Tensor) -> Tensor:
    """A new contiguous tensor of x's shape and dtype."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def empty_state(x: Tensor, sequences: int) -> Tensor:
    """A new tensor (sequences, C) for states, in the accumulation dtype; C is the number of x's channels."""
    return x.new_empty(sequences, x.shape[-1], dtype=accumulation_dtype(x.dtype))


def sequence_of(rows: Tensor, offsets: Tensor) -> Tensor:
    """The number of the packed sequence that each row belongs to.

    Sequence s has the rows ``offsets[s]:offsets[s + 1]``.

    rows: ``(N,)`` int64, row numbers.  Returns ``(N,)`` int64.
    """
    return torch.searchsorted(offsets[1:].long().contiguous(), rows, right=True)


def offsets_of(x: Tensor, offsets: Tensor | None) -> Tensor:
    """Return `offsets`.  If they are None, return the offsets that x has after it is flattened to rows."""
    if offsets is not None:
        return offsets
    batch, length = (x.shape[0], x.shape[1]) if x.dim() == 3 else (1, x.shape[0])
    return torch.arange(batch + 1, device=x.device) * length


def previous_rows(values: Tensor, initial: Tensor | None, offsets: Tensor | None, reverse: bool) -> Tensor:
    """For each row, the row before it in time.  For the first row of a sequence, `initial` or zeros."""
    # torch's older vmap cannot flatten a single axis.
    packed = values if values.dim() == 2 else values.flatten(0, 1)
    rows, channels = packed.shape
    if rows == 0:
        return values.clone()
    bounds = offsets_of(values, offsets).long()
    index = torch.arange(rows, device=values.device)
    owner = sequence_of(index, bounds)
    first = index == (bounds[1:][owner] - 1 if reverse else bounds[:-1][owner])
    shifted = packed.roll(-1 if reverse else 1, 0)
    start = (
        packed.new_zeros(1, channels) if initial is None else initial.to(packed.dtype).index_select(0, owner)
    )
    return torch.where(first.unsqueeze(1), start, shifted).reshape(values.shape)
