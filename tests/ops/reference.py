"""The operators as float64 Python loops, short enough to be right by reading: what the tests compare with."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]


def rows_of_sequences(shape: Sequence[int], offsets: Sequence[int] | None) -> list[list[Any]]:
    """For every sequence, the indices of its rows in an array (B, T, C), (T, C), or packed (N, C)."""
    if offsets is not None:
        return [list(range(offsets[s], offsets[s + 1])) for s in range(len(offsets) - 1)]
    if len(shape) == 2:
        return [list(range(shape[0]))]
    return [[(s, t) for t in range(shape[1])] for s in range(shape[0])]


def recurrence(
    a: Array,
    b: Array,
    initial: Array | None = None,
    offsets: Sequence[int] | None = None,
    reverse: bool = False,
) -> Array:
    """h[t] = a[t] * h[t-1] + b[t]."""
    h = np.zeros(b.shape)
    for s, rows in enumerate(rows_of_sequences(b.shape, offsets)):
        state = np.zeros(b.shape[-1]) if initial is None else initial[s]
        for row in reversed(rows) if reverse else rows:
            state = a[row] * state + b[row]
            h[row] = state
    return h


def differentiable_recurrence(
    a: Tensor,
    b: Tensor,
    initial: Tensor | None = None,
    offsets: Sequence[int] | None = None,
    reverse: bool = False,
) -> Tensor:
    """The same in torch operations, for autograd to differentiate."""
    h: dict[Any, Tensor] = {}
    for s, rows in enumerate(rows_of_sequences(b.shape, offsets)):
        state = torch.zeros_like(b[0, 0] if b.dim() == 3 else b[0]) if initial is None and rows else None
        state = initial[s] if initial is not None else state
        for row in reversed(rows) if reverse else rows:
            assert state is not None
            state = a[row] * state + b[row]
            h[row] = state
    return torch.stack([h[row] for row in sorted(h)]).reshape(b.shape) if h else b * 0


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def silu(x: Array) -> Array:
    return x * sigmoid(x)


def bdlru(
    x: Array,
    gates: Array,
    decay: Array,
    z: Array | None = None,
    initial: Array | None = None,
    offsets: Sequence[int] | None = None,
    scale: Array | None = None,
) -> tuple[Array, Array]:
    """(y, final) of the behavior-dependent linear recurrent unit."""
    channels = x.shape[-1]
    r, i = gates[..., :channels], gates[..., channels:]
    u = np.maximum(decay * sigmoid(r) * (1 if scale is None else scale), 1e-30)
    h = recurrence(np.exp(-u), np.sqrt(-np.expm1(-2 * u)) * sigmoid(i) * x, initial, offsets)
    sequences = rows_of_sequences(x.shape, offsets)
    final = np.zeros((len(sequences), channels)) if initial is None else initial.copy()
    for s, rows in enumerate(sequences):
        if rows:
            final[s] = h[rows[-1]]
    return (h if z is None else h * silu(z)), final


def causal_conv1d(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    initial: Array | None = None,
    offsets: Sequence[int] | None = None,
    activate: bool = True,
) -> tuple[Array, Array]:
    """(y, final) of the depthwise causal convolution."""
    channels, width = weight.shape
    sequences = rows_of_sequences(x.shape, offsets)
    y, final = np.zeros(x.shape), np.zeros((len(sequences), width - 1, channels))
    for s, rows in enumerate(sequences):
        inputs = [np.zeros(channels) for _ in range(width - 1)] if initial is None else list(initial[s])
        for row in rows:
            inputs.append(x[row])
            y[row] = sum((inputs[-width:][k] * weight[:, k] for k in range(width)), np.zeros(channels))
        final[s] = np.reshape(inputs[len(inputs) - (width - 1) :], (width - 1, channels))
    if bias is not None:
        y = y + bias
    return (silu(y) if activate else y), final
