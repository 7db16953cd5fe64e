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


def _bdlru(
    x: Tensor, gates: Tensor, decay: Tensor, z: Tensor | None, initial: Tensor | None, offsets: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    sequences = checks.fused_bdlru("bdlru", x, gates, decay, z, initial, offsets, scale)
    return _rows(x), _state(x, sequences), _state(x, checks.states_in(x))


def _bdlru_backward(
    grad: Tensor | None, grad_final: Tensor | None, x: Tensor, gates: Tensor, decay: Tensor, z: Tensor | None,
    initial: Tensor | None, offsets: Tensor | None, scale: Tensor | None, states: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    sequences = checks.bdlru_backward(
        grad, grad_final, x, gates, decay, z, initial, offsets, scale, states=states
    )
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
    past = checks.fused_causal_conv1d("causal_conv1d", x, weight, bias, initial, offsets)
    return _rows(x), weight.new_empty(past)


def _causal_conv1d_backward(
    grad: Tensor | None, grad_final: Tensor | None, x: Tensor, weight: Tensor, bias: Tensor | None,
    initial: Tensor | None, offsets: Tensor | None, silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    past = checks.causal_conv1d_backward(grad, grad_final, x, weight, bias, initial, offsets)
    return _rows(x), _rows(weight), weight.new_empty(weight.shape[0]), weight.new_empty(past)


def _rows(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)


def register() -> None:
    """Register the fakes."""
    torch.library.register_fake("recblr::_bdlru", _bdlru)
    torch.library.register_fake("recblr::_bdlru_backward", _bdlru_backward)
    torch.library.register_fake("recblr::_causal_conv1d", _causal_conv1d)
    torch.library.register_fake("recblr::_causal_conv1d_backward", _causal_conv1d_backward)
    torch.library.register_fake("recblr::scan", _scan)
    torch.library.register_fake("recblr::scan_with_final", _scan_with_final)
    torch.library.register_fake("recblr::_scan_backward", _scan_backward)
