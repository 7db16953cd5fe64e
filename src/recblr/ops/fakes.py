"""What the operators return without computing: shapes, dtypes and layouts, for tracing."""

import torch
from torch import Tensor

from recblr.ops import checks, fused
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


def _bdlru(
    x: Tensor, gates: Tensor, decay: Tensor, z: Tensor | None, initial: Tensor | None, offsets: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    sequences = checks.time_axis("bdlru", "x", x, offsets)
    return _rows(x), _state(x, sequences), fused.new_states(x)


def _bdlru_backward(
    grad: Tensor | None, grad_final: Tensor | None, x: Tensor, gates: Tensor, decay: Tensor, z: Tensor | None,
    initial: Tensor | None, offsets: Tensor | None, scale: Tensor | None, states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    sequences = checks.time_axis("_bdlru_backward", "x", x, offsets)
    return (
        _rows(x),
        _rows(gates),
        torch.empty_like(decay, memory_format=torch.contiguous_format),
        x.new_empty(0) if z is None else _rows(z),
        _state(x, sequences),
        decay.new_empty(0 if scale is None else scale.shape),
    )


def _causal_conv1d(
    x: Tensor, weight: Tensor, bias: Tensor | None, initial: Tensor | None, offsets: Tensor | None, silu: bool
) -> tuple[Tensor, Tensor]:
    return _rows(x), _past(x, weight, offsets)


def _causal_conv1d_backward(
    grad: Tensor | None, grad_final: Tensor | None, x: Tensor, weight: Tensor, bias: Tensor | None,
    initial: Tensor | None, offsets: Tensor | None, silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    return _rows(x), _rows(weight), weight.new_empty(weight.shape[0]), _past(x, weight, offsets)


def _rows(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def _past(x: Tensor, weight: Tensor, offsets: Tensor | None) -> Tensor:
    sequences = checks.time_axis("causal_conv1d", "x", x, offsets)
    return weight.new_empty(sequences, weight.shape[1] - 1, weight.shape[0])


def register() -> None:
    """Register the fakes."""
    torch.library.register_fake("recblr::_bdlru", _bdlru)
    torch.library.register_fake("recblr::_bdlru_backward", _bdlru_backward)
    torch.library.register_fake("recblr::_causal_conv1d", _causal_conv1d)
    torch.library.register_fake("recblr::_causal_conv1d_backward", _causal_conv1d_backward)
    torch.library.register_fake("recblr::scan", _scan)
    torch.library.register_fake("recblr::scan_with_final", _scan_with_final)
    torch.library.register_fake("recblr::_scan_backward", _scan_backward)
