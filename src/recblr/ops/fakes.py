"""What the operators return without computing: shapes, dtypes and layouts, for tracing."""

import torch
from torch import Tensor

from recblr.ops import checks
from recblr.ops.layout import empty_in_layout_of


def _scan(
    a: Tensor, b: Tensor, initial: Tensor | None = None, offsets: Tensor | None = None, reverse: bool = False
) -> Tensor:
    checks.scan(a, b, initial, offsets)
    return empty_in_layout_of(b)


def _scan_backward(
    grad: Tensor, a: Tensor, h: Tensor, initial: Tensor | None, offsets: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor, Tensor]:
    sequences = checks.scan_backward(grad, a, h, initial, offsets)
    contiguous = torch.contiguous_format
    dinitial = h.new_empty(sequences, h.shape[-1], dtype=checks.accumulation_dtype(h.dtype))
    return (
        torch.empty_like(h, memory_format=contiguous),
        torch.empty_like(h, memory_format=contiguous),
        dinitial,
    )


def register() -> None:
    """Register the fakes."""
    torch.library.register_fake("recblr::scan", _scan)
    torch.library.register_fake("recblr::_scan_backward", _scan_backward)
