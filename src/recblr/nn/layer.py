"""The gated recurrent layer, and RecBLR's whole block around it."""

from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor, nn

from recblr.nn.bdlru import BDLRU
from recblr.nn.conv import CausalConv1d
from recblr.nn.padding import pack, unpack, valid_positions

LAYER_NORM_EPS = 1e-12


class LayerState(NamedTuple):
    """What a layer remembers of a history: constant in size, however long the history."""

    conv: Tensor  # (B, K - 1, H), the convolution's last inputs, oldest first
    hidden: Tensor  # (B, H), the recurrence's state


class GatedRecurrentLayer(nn.Module):
    """Projection, causal convolution, BD-LRU and output gate (Alg. 1 of arXiv 2406.12580).

    ``x, z = W_in u;  y = BDLRU(SiLU(Conv1d(x)));  out = W_out (y * SiLU(z))``

    Args:
        d_model: width D of input and output.
        expand: H = expand * D, the width in which the recurrence runs.
        d_conv: width K of the convolution.
    """

    def __init__(self, d_model: int, expand: float = 2, d_conv: int = 4) -> None:
        super().__init__()
        self.d_model, self.d_inner = d_model, round(expand * d_model)
        self.input = nn.Linear(d_model, 2 * self.d_inner, bias=False)
        self.conv1d = CausalConv1d(self.d_inner, d_conv)
        self.bdlru = BDLRU(self.d_inner)
        self.output = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(
        self, u: Tensor, *, offsets: Tensor | None = None, state: LayerState | None = None
    ) -> tuple[Tensor, LayerState]:
        """Run over u, ``(B, T, D)`` or packed ``(N, D)``; returns the output and the state after it."""
        x, z = self.input(u).chunk(2, dim=-1)
        x, conv = self.conv1d(x, initial=state.conv if state else None, offsets=offsets)
        y, hidden = self.bdlru(x, z, initial=state.hidden if state else None, offsets=offsets)
        return self.output(y), LayerState(conv, hidden)

    def step(self, u_t: Tensor, state: LayerState | None = None) -> tuple[Tensor, LayerState]:
        """One event of each sequence: u_t ``(B, D)``; returns the output and the new state."""
        y, state = self(u_t.unsqueeze(1), state=state)
        return y.squeeze(1), state


class PositionwiseFeedForward(nn.Module):
    """``SiLU(x W1 + b1) W2 + b2``, D -> width -> D (eq. 4 of arXiv 2406.12580)."""

    def __init__(self, d_model: int, width: int) -> None:
        super().__init__()
        self.w_1 = nn.Linear(d_model, width)
        self.w_2 = nn.Linear(width, d_model)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.w_2(F.silu(self.w_1(x)))
        return y


class RecBLRLayer(nn.Module):
    """One RecBLR block, a drop-in sequence layer ``(B, T, D) -> (B, T, D)`` (Fig. 2 of arXiv 2406.12580).

    ``u = LayerNorm(Dropout(GatedRecurrentLayer(x)) + x);  out = LayerNorm(Dropout(PFFN(u)) + u)``.
    It is causal: an output sees its own and earlier positions only.

    Args:
        d_model: width D.
        expand: the recurrence runs in a width of ``expand * D``.
        d_conv: width of the causal convolution.
        dropout: probability, applied to both sub-layers' outputs.
        ffn_expand: the feed-forward network's width is ``ffn_expand * D``.
    """

    def __init__(
        self, d_model: int, expand: float = 2, d_conv: int = 4, dropout: float = 0.0, ffn_expand: float = 4
    ) -> None:
        super().__init__()
        self.recurrent = GatedRecurrentLayer(d_model, expand, d_conv)
        self.layer_norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)
        self.ffn = PositionwiseFeedForward(d_model, round(ffn_expand * d_model))
        self.ffn_norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        *,
        lengths: Tensor | None = None,
        offsets: Tensor | None = None,
        state: LayerState | None = None,
    ) -> Tensor:
        """Run over whole sequences; see :meth:`with_state` for one that returns the state too.

        Args:
            x: ``(B, T, D)``, or packed ``(N, D)`` with ``offsets``.
            lengths: ``(B,)`` integers for a batch padded on the right: positions from lengths[b] on are
                padding, are not read, and come back as zeros.
            offsets: ``(S + 1,)`` for packed sequences, see :func:`recblr.scan`.
            state: what an earlier part of the same histories left behind; None at the beginning.

        Returns:
            Of x's shape.

        Raises:
            ValueError: lengths and offsets together, or either of the wrong shape or range.
        """
        return self.with_state(x, lengths=lengths, offsets=offsets, state=state)[0]

    def with_state(
        self,
        x: Tensor,
        *,
        lengths: Tensor | None = None,
        offsets: Tensor | None = None,
        state: LayerState | None = None,
    ) -> tuple[Tensor, LayerState]:
        """As :meth:`forward`, and the state after the last event of every sequence."""
        if lengths is None:
            return self._block(x, offsets, state)
        if offsets is not None or x.dim() != 3:
            raise ValueError(
                "lengths goes with a padded (B, T, D) batch, offsets with packed rows: give one of them"
            )
        valid = valid_positions(lengths, x.shape[0], x.shape[1])
        rows, offsets = pack(x, valid)
        y, state = self._block(rows, offsets, state)
        return unpack(y, valid), state

    def step(self, x_t: Tensor, state: LayerState | None = None) -> tuple[Tensor, LayerState]:
        """One event of each sequence, at constant cost: x_t ``(B, D)``; returns output and new state."""
        y, state = self._block(x_t.unsqueeze(1), None, state)
        return y.squeeze(1), state

    def _block(
        self, x: Tensor, offsets: Tensor | None, state: LayerState | None
    ) -> tuple[Tensor, LayerState]:
        y, state = self.recurrent(x, offsets=offsets, state=state)
        u = self.layer_norm(self.dropout(y) + x)
        return self.ffn_norm(self.dropout(self.ffn(u)) + u), state
