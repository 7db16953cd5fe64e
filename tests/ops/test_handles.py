"""A refused call keeps no reference to its tensors, whichever argument is wrong."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable

import pytest
import torch

import recblr.ops  # noqa: F401  (registers the operators)

N, C, K = 40, 6, 4  # one packed sequence
Arguments = list[torch.Tensor | float]


def _sequences(channels: int = C) -> torch.Tensor:
    return torch.zeros(N, channels)


def _state() -> torch.Tensor:
    return torch.zeros(1, C)


def _offsets() -> torch.Tensor:
    return torch.tensor([0, N])


def _scan() -> Arguments:
    return [_sequences(), _sequences(), _state(), _offsets(), False]


def _scan_backward() -> Arguments:
    return [_sequences(), _state(), *_scan()]


def _bdlru() -> Arguments:
    return [_sequences(), _sequences(2 * C), torch.ones(C), _sequences(), _state(), _offsets(), _sequences(1)]


def _bdlru_backward() -> Arguments:
    return [_sequences(), _state(), *_bdlru(), torch.zeros(-(-N // 32), C)]


def _causal_conv1d() -> Arguments:
    return [_sequences(), torch.zeros(C, K), torch.zeros(C), torch.zeros(1, K - 1, C), _offsets(), True]


def _causal_conv1d_backward() -> Arguments:
    return [_sequences(), torch.zeros(1, K - 1, C), *_causal_conv1d()]


def _linear_cross_entropy() -> Arguments:
    rows = torch.zeros(3, C)
    targets, items, events = torch.tensor([0, 1, 4]), torch.tensor([0, 1, 2]), torch.tensor([0, 1, 2])
    return [rows, torch.zeros(5, C), targets, True, torch.zeros(()), items, torch.tensor([0, 3]), events]


MAKERS: dict[str, Callable[[], Arguments]] = {
    "scan": _scan,
    "scan_with_final": _scan,
    "_scan_backward": _scan_backward,
    "_bdlru": _bdlru,
    "_bdlru_backward": _bdlru_backward,
    "_causal_conv1d": _causal_conv1d,
    "_causal_conv1d_backward": _causal_conv1d_backward,
    "_linear_cross_entropy": _linear_cross_entropy,
    "_dropout": lambda: [torch.zeros(3), 1, 0.5],
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_refused_call_keeps_no_tensor(name: str) -> None:
    operator = getattr(torch.ops.recblr, name)
    operator(*MAKERS[name]())  # this call is not refused
    held = []
    for wrong, right in enumerate(MAKERS[name]()):
        if not isinstance(right, torch.Tensor):
            continue
        arguments = MAKERS[name]()
        arguments[wrong] = torch.zeros(1, 1, 1, 1, dtype=torch.int16)
        held += [(wrong, weakref.ref(a)) for a in arguments if isinstance(a, torch.Tensor)]
        with pytest.raises((RuntimeError, ValueError)):
            operator(*arguments)
        del arguments
    gc.collect()  # once, because in a large process it takes long
    kept = {wrong for wrong, ref in held if ref() is not None}
    assert not kept, f"{name} with these arguments wrong"
