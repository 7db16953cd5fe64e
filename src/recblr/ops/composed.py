"""bdlru and causal_conv1d, and their derivatives, composed of PyTorch operations around the scan.

What serves where there is no fused kernel, under torch.func and vmap, and for derivatives of higher order:
everything here is differentiable, to any order.  Arguments have been checked.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from recblr.ops import checks
from recblr.ops.autograd import scan_backward, scan_with_final
from recblr.ops.segments import sequence_of_row

# u below this is taken as this, and has no derivative: beta = sqrt(-expm1(-2u)) then keeps a finite one.
MIN_U = 1e-30


def bdlru(
    x: Tensor,
    gates: Tensor,
    decay: Tensor,
    z: Tensor | None,
    initial: Tensor | None,
    offsets: Tensor | None,
    scale: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """See :func:`recblr.bdlru`; scale in any floating dtype."""
    f = _factors(gates, decay, scale)
    h, final = scan_with_final(f.alpha, f.beta * f.i * x.to(decay.dtype), initial, offsets, False)
    y = h if z is None else h * F.silu(z.to(decay.dtype))
    return y.to(x.dtype), final


def bdlru_backward(
    grad: Tensor | None,
    grad_final: Tensor | None,
    x: Tensor,
    gates: Tensor,
    decay: Tensor,
    z: Tensor | None,
    initial: Tensor | None,
    offsets: Tensor | None,
    scale: Tensor | None,
    states: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """dx, dgates, ddecay, dz, dinitial, dscale; dz and dscale are empty without z and scale.

    With G the adjoint of h, v = i x and u = decay r scale: du = G (v alpha^2 / beta - alpha h[t-1]).
    """
    wide = decay.dtype
    f, wide_x = _factors(gates, decay, scale), x.to(wide)
    h, _ = scan_with_final(f.alpha, f.beta * f.i * wide_x, initial, offsets, False)

    dh = torch.zeros_like(wide_x) if grad is None else grad.to(wide)
    dz = x.new_empty(0)
    if z is not None:
        before = z.to(wide)
        dz = (dh * h * _silu_slope(before)).to(z.dtype)
        dh = dh * F.silu(before)
    dalpha, db, dinitial = scan_backward(dh, grad_final, f.alpha, h, initial, offsets, False)
    du = torch.where(f.moves, db * f.i * wide_x * (f.alpha**2 / f.beta) - dalpha * f.alpha, 0)
    dgates = torch.cat([du * f.u * (1 - f.r), db * f.beta * wide_x * f.i * (1 - f.i)], -1)
    dscale = x.new_empty(0, dtype=wide) if scale is None else (du * f.r * decay).sum(-1, keepdim=True)
    ddecay = (du * f.r if scale is None else du * f.r * scale).flatten(0, -2).sum(0)
    return (db * f.beta * f.i).to(x.dtype), dgates.to(gates.dtype), ddecay, dz, dinitial, dscale


class _Factors(NamedTuple):
    r: Tensor
    i: Tensor
    u: Tensor
    moves: Tensor  # where u is not held at its bound
    alpha: Tensor
    beta: Tensor


def _factors(gates: Tensor, decay: Tensor, scale: Tensor | None) -> _Factors:
    """Eqs. 6-8 of arXiv 2406.12580, in decay's dtype."""
    wide = decay.dtype
    r, i = gates.to(wide).sigmoid().chunk(2, dim=-1)
    unbounded = (decay if scale is None else decay * scale.to(wide)) * r
    u = unbounded.clamp(min=MIN_U)
    beta = torch.sqrt(-torch.expm1(-2 * u))  # from u: alpha has been rounded
    return _Factors(r, i, u, unbounded >= MIN_U, torch.exp(-u), beta)


def _silu_slope(x: Tensor) -> Tensor:
    """SiLU's derivative."""
    s = torch.sigmoid(x)
    return s * (1 + x * (1 - s))


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    offsets: Tensor | None,
    silu: bool,
) -> tuple[Tensor, Tensor]:
    """See :func:`recblr.causal_conv1d`; weight and bias in any floating dtype."""
    wide = checks.accumulation_dtype(x.dtype)
    taps = weight.to(wide).unbind(1)
    if offsets is None:
        past, batched = _past(x, weight, initial, offsets), x.to(wide)
        padded = torch.cat([past, batched if x.dim() == 3 else batched.unsqueeze(0)], 1)
        y = _convolve(padded, taps, 1).reshape(x.shape)
        final = padded[:, padded.shape[1] - past.shape[1] :].clone()
    else:
        laid = _LaidOut(x, weight, initial, offsets)
        y, final = _convolve(laid.rows, taps, 0).index_select(0, laid.first), laid.final()
    if bias is not None:
        y = y + bias.to(wide)
    return (F.silu(y) if silu else y).to(x.dtype), final


def causal_conv1d_backward(
    grad: Tensor | None,
    grad_final: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    initial: Tensor | None,
    offsets: Tensor | None,
    silu: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dx, dweight, dbias, dinitial."""
    wide = checks.accumulation_dtype(x.dtype)
    width = weight.shape[1]
    if offsets is None:
        batch, length = (x.shape[0], x.shape[1]) if x.dim() == 3 else (1, x.shape[0])
        offsets = torch.arange(batch + 1, device=x.device) * length
    laid = _LaidOut(x.flatten(0, -2), weight, initial, offsets)
    d = laid.rows.new_zeros(laid.x.shape) if grad is None else grad.to(wide).flatten(0, -2)
    if silu:
        y = _convolve(laid.rows, weight.to(wide).unbind(1), 0).index_select(0, laid.first)
        d = d * _silu_slope(y if bias is None else y + bias.to(wide))
    # Of the rows where nobody's window begins, no adjoint comes.
    d_rows = d.new_zeros(laid.rows.shape[0] - width + 1, d.shape[1]).index_copy(0, laid.first, d)
    reached = [F.pad(d_rows * weight[:, k].to(wide), (0, 0, k, width - 1 - k)) for k in range(width)]
    d_laid = torch.stack(reached).sum(0)
    if grad_final is not None:
        d_laid = d_laid.index_add(0, laid.last, grad_final.flatten(0, 1))
    met = [laid.rows[k : k + d_rows.shape[0]] for k in range(width)]
    dweight = torch.stack([(d_rows * rows).sum(0) for rows in met], 1)
    dx = d_laid.index_select(0, laid.place).reshape(x.shape).to(x.dtype)
    return dx, dweight, d.sum(0), d_laid.index_select(0, laid.before).reshape(laid.past.shape)


def _convolve(rows: Tensor, taps: tuple[Tensor, ...], axis: int) -> Tensor:
    """At every place along the axis, the window that begins there."""
    length = rows.shape[axis] - len(taps) + 1
    first = rows.narrow(axis, 0, length) * taps[0]
    return sum((rows.narrow(axis, k, length) * taps[k] for k in range(1, len(taps))), first)


def _past(x: Tensor, weight: Tensor, initial: Tensor | None, offsets: Tensor | None) -> Tensor:
    """The inputs before each sequence's first, (S, K-1, C)."""
    if initial is not None:
        return initial
    sequences = math.prod(x.shape[:-2]) if offsets is None else offsets.shape[0] - 1
    shape = sequences, weight.shape[1] - 1, x.shape[-1]
    return x.new_zeros(shape, dtype=checks.accumulation_dtype(x.dtype))


class _LaidOut:
    """Packed rows, each sequence behind the inputs from before it.

    rows: all of them.  place, before, last: where x, the inputs before and the last inputs stand in them.
    first: where the window of each row of x begins.
    """

    def __init__(self, x: Tensor, weight: Tensor, initial: Tensor | None, offsets: Tensor) -> None:
        self.x, self.past = x, _past(x, weight, initial, offsets)
        sequences, before, channels = self.past.shape
        rows = x.shape[0]
        self.first = torch.arange(rows, device=x.device) + before * sequence_of_row(offsets, rows)
        self.place = self.first + before
        s = torch.arange(sequences, device=x.device).unsqueeze(1)
        lag = torch.arange(before, device=x.device)
        self.before = (offsets[:-1].long().unsqueeze(1) + before * s + lag).flatten()
        self.last = (offsets[1:].long().unsqueeze(1) + before * s + lag).flatten()
        # Room for one more window, so that no size falls below zero where there is no sequence.
        laid = self.past.new_zeros(rows + before * (sequences + 1), channels)
        laid = laid.index_copy(0, self.before, self.past.flatten(0, 1))
        self.rows = laid.index_copy(0, self.place, x.to(laid.dtype))

    def final(self) -> Tensor:
        return self.rows.index_select(0, self.last).reshape(self.past.shape)
