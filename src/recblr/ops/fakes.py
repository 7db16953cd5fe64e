"""What the operators return without computing: shapes, dtypes and layouts, for tracing."""

import torch
from torch import Tensor

from recblr.ops import checks
from recblr.ops.layout import empty_in_layout_of


def _state(x: Tensor, sequences: int) -> Tensor:
    return x.new_empty(sequences, x.shape[-1], dtype=checks.accumulation_dtype(x.dtype))


def _scan(
    a: Tensor, b: Tensor, initial: Tensor | None = None, offsets: Tensor | None = None, reverse: bool = False
) -> Tensor:
    checks.scan("scan", a, b, initial, offsets)
    return empty_in_layout_of(b)


def _scan_with_final(
    a: Tensor, b: Tensor, initial: Tensor | None = None, offsets: Tensor | None = None, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    sequences = checks.scan("scan_with_final", a, b, initial, offsets)
    return empty_in_layout_of(b), _state(b, sequences)


def _scan_backward(
    grad: Tensor | None, grad_final: Tensor | None, a: Tensor, h: Tensor, initial: Tensor | None,
    offsets: Tensor | None, reverse: bool,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    sequences = checks.scan_backward(grad, grad_final, a, h, initial, offsets)
    return empty_in_layout_of(h), empty_in_layout_of(h), _state(h, sequences)


def register() -> None:
    """Register the fakes."""
    torch.library.register_fake("recblr::scan", _scan)
    torch.library.register_fake("recblr::scan_with_final", _scan_with_final)
    torch.library.register_fake("recblr::_scan_backward", _scan_backward)
