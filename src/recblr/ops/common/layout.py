"""Where elements lie: memory layouts of outputs, and the rows of packed sequences.

cpp/torch/arguments.h says the same of the native kernels' outputs.  What is here for packed sequences is
differentiable, reads no data on the host, and gives shapes that do not depend on the offsets' values.
"""

import torch
from torch import Tensor

from recblr.ops.common.checks import accumulation_dtype


def is_dense(x: Tensor) -> bool:
    """True where a non-empty tensor's elements fill memory without gap or overlap."""
    if x.numel() == 0:
        return False
    expected = 1
    for stride, size in sorted((s, n) for s, n in zip(x.stride(), x.shape, strict=True) if n != 1):
        if stride != expected:
            return False
        expected *= size
    return True


def empty_in_layout_of(x: Tensor) -> Tensor:
    """A new tensor of x's shape and dtype, in x's layout where that is dense, else contiguous."""
    if is_dense(x):
        return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def empty_rows_like(x: Tensor) -> Tensor:
    """A new contiguous tensor of x's shape and dtype."""
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def empty_state(x: Tensor, sequences: int) -> Tensor:
    """A new state of x's channels for each sequence, in the accumulation dtype."""
    return x.new_empty(sequences, x.shape[-1], dtype=accumulation_dtype(x.dtype))


def sequence_of(rows: Tensor, offsets: Tensor) -> Tensor:
    """The packed sequence that owns each row; sequence s owns rows ``offsets[s]:offsets[s + 1]``.

    rows: ``(N,)`` int64, numbers of rows.  Returns ``(N,)`` int64.
    """
    return torch.searchsorted(offsets[1:].long().contiguous(), rows, right=True)


def offsets_of(x: Tensor, offsets: Tensor | None) -> Tensor:
    """`offsets`, or where x is not packed those that it has as packed rows."""
    if offsets is not None:
        return offsets
    batch, length = (x.shape[0], x.shape[1]) if x.dim() == 3 else (1, x.shape[0])
    return torch.arange(batch + 1, device=x.device) * length


def previous_rows(values: Tensor, initial: Tensor | None, offsets: Tensor | None, reverse: bool) -> Tensor:
    """Each row's predecessor in time, and ``initial`` (or zeros) before a sequence's first step."""
    packed = values if values.dim() == 2 else values.flatten(0, 1)  # the older vmap cannot flatten one axis
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
