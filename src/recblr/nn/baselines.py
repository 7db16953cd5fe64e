"""Models to compare RecBLR with, under the same loss, batches and evaluation: SASRec and GRU4Rec."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recblr.config.model import GRU4RecConfig, SASRecConfig
from recblr.nn.base import NextItemModel
from recblr.nn.common import LAYER_NORM_EPS, Dropout, PositionwiseFeedForward, initialise
from recblr.nn.padding import unpack, valid_positions
from recblr.ops import check_offsets

__all__ = ["GRU4Rec", "SASRec", "SASRecEncoder"]


class GRU4Rec(NextItemModel):
    """Session-based recommendation with recurrent networks (Hidasi et al., ICLR 2016, arXiv 1511.06939).

    Item embeddings, dropout, GRU layers with dropout in between, a linear layer back to the embeddings'
    width, scores by the tied embedding.  Three things differ from the paper, as is usual today and better for
    the baseline: it takes whole histories rather than steps in session-parallel batches, has one embedding at
    both ends, and uses the run's own loss.  At the defaults, two layers of width 2 D, it has about as many
    parameters as RecBLR.  The GRU's first weights are torch's, all others are drawn as in the other models.

    Args:
        num_items: size V of the catalogue.
        config: hyper-parameters; the defaults where None.
    """

    config: GRU4RecConfig

    def __init__(self, num_items: int, config: GRU4RecConfig | None = None) -> None:
        config = config or GRU4RecConfig()
        super().__init__(num_items, config)
        width, layers = round(config.expand * config.d_model), config.num_layers
        self.dropout = Dropout(config.dropout_rate)
        between = config.dropout_rate if layers > 1 else 0.0  # else torch warns that there is no between
        self.gru = nn.GRU(config.d_model, width, layers, batch_first=True, dropout=between)
        self.output = nn.Linear(width, config.d_model)
        self.apply(initialise)

    def forward(self, items: Tensor, *, offsets: Tensor) -> Tensor:
        """Hidden vectors ``(N, D)`` after every event.

        Args:
            items: packed ``(N,)`` integers.
            offsets: ``(S + 1,)``, see :func:`recblr.scan`.

        Raises:
            ValueError: items that are no integers or (on a CPU) not in the catalogue; offsets of a wrong
                shape or range.
        """
        x: Tensor = self.dropout(self.embed(items))
        check_offsets(offsets, len(x))
        if not len(x):
            return x
        lengths = offsets.diff()
        valid = valid_positions(lengths, len(lengths), int(lengths.max()))
        # Padding on the right comes after all that counts.  Not torch's PackedSequence, whose gradient on a
        # CPU fills the whole batch with zeros anew for every event of the longest history.
        states, _ = self.gru(unpack(x, valid))
        y: Tensor = self.output(states[valid])
        return y


class SASRec(NextItemModel):
    """Self-attentive sequential recommendation (Kang and McAuley, ICDM 2018, arXiv 1808.09781).

    As there: learned positions added to item embeddings times sqrt(D), blocks of causal multi-head attention
    and a position-wise network with ReLU, dropout on the embeddings, the attention's weights and both
    sub-layers, a layer norm before each sub-layer and one at the end, scores by the tied embedding.

    Three things differ, as is usual today and better for the baseline:

    - Pre-norm throughout, ``x + f(LayerNorm(x))``.  The authors' code norms the attention's queries but not
      its keys and values, and adds what was normed, not what came in.
    - The position-wise network is 4 D wide, as RecBLR's is; theirs is D wide.  A product joins the heads.
    - Positions are counted from the first event that the model sees, theirs from the last.  So one pass over
      a history gives what a pass over each of its beginnings gives.

    :class:`SASRecEncoder` makes the hidden vectors.

    Args:
        num_items: size V of the catalogue.
        config: hyper-parameters; the defaults where None.
    """

    config: SASRecConfig

    def __init__(self, num_items: int, config: SASRecConfig | None = None) -> None:
        config = config or SASRecConfig()
        super().__init__(num_items, config)
        self.encoder = SASRecEncoder(config)
        self.apply(initialise)

    def forward(self, items: Tensor, *, offsets: Tensor) -> Tensor:
        """Hidden vectors ``(N, D)`` after every event.

        Args:
            items: packed ``(N,)`` integers.
            offsets: ``(S + 1,)``, see :func:`recblr.scan`; no history longer than ``max_length``.

        Raises:
            ValueError: items that are no integers or (on a CPU) not in the catalogue; offsets of a wrong
                shape or range; a history that is too long.
        """
        x: Tensor = self.embed(items) * self.config.d_model**0.5
        check_offsets(offsets, len(x))
        if not len(x):
            return x
        order, groups = by_length(offsets)
        encoded: Tensor = self.encoder(x[order], groups)[order.argsort()]
        return encoded


class SASRecEncoder(nn.Module):
    """What lies between embedding and scores: positions, blocks and the last norm.

    Args:
        config: hyper-parameters.
        ffn_expand: the feed-forward networks' width is ``ffn_expand * D``.
    """

    def __init__(self, config: SASRecConfig, ffn_expand: int = 4) -> None:
        super().__init__()
        self.positions = nn.Embedding(config.max_length, config.d_model)
        self.dropout = Dropout(config.dropout_rate)
        # Typed as what it holds: mypy cannot see through ModuleList.
        self.blocks: list[SASRecBlock] = nn.ModuleList(  # type: ignore[assignment]
            SASRecBlock(config.d_model, config.num_heads, ffn_expand * config.d_model, config.dropout_rate)
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(config.d_model, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor, groups: list[Tensor] | None = None) -> Tensor:
        """Of x's shape: x is ``(B, T, D)``, or rows ``(N, D)`` in the order of `by_length`, with its groups.

        Raises ValueError for a history of more than ``max_length`` events.
        """
        x = self.dropout(x + self._positions(x, groups))
        for block in self.blocks:
            x = block(x, groups)
        y: Tensor = self.norm(x)
        return y

    def _positions(self, x: Tensor, groups: list[Tensor] | None) -> Tensor:
        learned: Tensor = self.positions.weight
        longest = x.shape[-2] if groups is None else max((valid.shape[1] for valid in groups), default=0)
        if longest > len(learned):
            raise ValueError(
                f"a history has {longest} events, and the model has learned {len(learned)} positions:"
                " give its newest events, or train with a larger max_length"
            )
        if groups is None:
            return learned[:longest]
        numbers = torch.arange(longest, device=x.device)
        each = torch.cat([numbers[: valid.shape[1]].expand(valid.shape)[valid] for valid in groups])
        looked_up: Tensor = self.positions(each)
        return looked_up


class SASRecBlock(nn.Module):
    """``u = x + Dropout(Attention(LayerNorm(x)));  out = u + Dropout(FFN(LayerNorm(u)))``, causal."""

    def __init__(self, d_model: int, num_heads: int, ffn_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)
        self.attention = CausalSelfAttention(d_model, num_heads, dropout)
        self.ffn_norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)
        self.ffn = PositionwiseFeedForward(d_model, ffn_width, dropout, activation=F.relu)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, groups: list[Tensor] | None = None) -> Tensor:
        """As :meth:`SASRecEncoder.forward`."""
        u = x + self.dropout(self.attention(self.attention_norm(x), groups))
        y: Tensor = u + self.dropout(self.ffn(self.ffn_norm(u)))
        return y


class CausalSelfAttention(nn.Module):
    """Multi-head attention to one's own and earlier positions, by torch's scaled_dot_product_attention.

    dropout: of the attention's weights; where it is not 0, training holds all T x T of them.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, groups: list[Tensor] | None = None) -> Tensor:
        """As :meth:`SASRecEncoder.forward`.

        Padding needs no mask: it is on the right, where no row looks, and its own outputs are dropped.
        """
        qkv = self.qkv(x)
        if groups is None:
            attended = self._attend(qkv)
        else:
            parts = qkv.split([int(valid.sum()) for valid in groups])
            padded = (self._attend(unpack(part, valid)) for part, valid in zip(parts, groups, strict=True))
            attended = torch.cat([y[valid] for y, valid in zip(padded, groups, strict=True)])
        y: Tensor = self.output(attended)
        return y

    def _attend(self, qkv: Tensor) -> Tensor:
        """(B, T, 3 D) -> (B, T, D)."""
        q, k, v = qkv.unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=True)
        return attended.transpose(1, 2).flatten(2)


def by_length(offsets: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Sort the rows of packed histories so that histories of similar length are neighbours.

    This is for what can only run over padded batches.  If all histories were padded to the longest, a few
    long ones among many short ones would make most of the work attention over padding.  In groups whose
    lengths differ by less than a factor of two, they cannot.

    Args:
        offsets: ``(S + 1,)`` of packed rows ``(N, ...)``, sound.

    Returns:
        ``(N,)`` int64, the rows in their new order, history by history, each in its own order; and for each
        group in turn ``(B, T)`` bool, which positions of its padded batch are rows, T being its longest
        length.  Empty histories are in no group.
    """
    lengths = offsets.diff()
    magnitudes = torch.tensor([length.bit_length() for length in lengths.tolist()], device=offsets.device)
    order, groups = [offsets.new_empty(0, dtype=torch.int64)], []
    for magnitude in magnitudes[magnitudes > 0].unique():
        members = (magnitudes == magnitude).nonzero().squeeze(1)
        longest = int(lengths[members].max())
        valid = valid_positions(lengths[members], len(members), longest)
        rows = offsets[members].unsqueeze(1) + torch.arange(longest, device=offsets.device)
        order.append(rows[valid])
        groups.append(valid)
    return torch.cat(order), groups
