"""Memory layouts of outputs; cpp/torch/arguments.h says the same for the native kernels."""

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
