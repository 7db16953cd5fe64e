"""The operators as Python loops in float64.  Tests compare with them, so they are short and easy to check."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[Any]


def rows_of_sequences(shape: Sequence[int], offsets: Sequence[int] | None) -> list[list[Any]]:
    """For every sequence, the indices of its rows in an array (B, T, C), (T, C) or packed (N, C)."""
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
) -> tuple[Array, Array]:
    """Compute h[t] = a[t] * h[t-1] + b[t], and the state after the last step of every sequence."""
    h, final = np.zeros_like(b), []
    for s, rows in enumerate(rows_of_sequences(b.shape, offsets)):
        state = np.zeros_like(b, shape=b.shape[-1]) if initial is None else initial[s]
        for row in reversed(rows) if reverse else rows:
            state = a[row] * state + b[row]
            h[row] = state
        final.append(state)
    return h, np.reshape(final, (len(final), b.shape[-1]))


def differentiable_recurrence(
    a: Tensor,
    b: Tensor,
    initial: Tensor | None = None,
    offsets: Sequence[int] | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """:func:`recurrence` in torch operations, so that autograd can differentiate it."""
    h: dict[Any, Tensor] = {}
    final = []
    for s, rows in enumerate(rows_of_sequences(b.shape, offsets)):
        state = b.new_zeros(b.shape[-1]) if initial is None else initial[s]
        for row in reversed(rows) if reverse else rows:
            state = a[row] * state + b[row]
            h[row] = state
        final.append(state)
    whole = torch.stack([h[row] for row in sorted(h)]).reshape(b.shape) if h else b * 0
    return whole, torch.stack(final) if final else b.new_zeros(0, b.shape[-1])


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
    h, final = recurrence(np.exp(-u), np.sqrt(-np.expm1(-2 * u)) * sigmoid(i) * x, initial, offsets)
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
