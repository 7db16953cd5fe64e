"""Baselines for RecBLR: SASRec and GRU4Rec.  They share its losses, batches and evaluation."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recblr.config.model import GRU4RecConfig, SASRecConfig
from recblr.nn.base import NextItemModel
from recblr.nn.common import LAYER_NORM_EPS, Dropout, PositionwiseFeedForward, initialise
from recblr.nn.padding import unpack, valid_positions

__all__ = ["GRU4Rec", "SASRec", "SASRecEncoder"]


class GRU4Rec(NextItemModel):
    """Session-based recommendation with recurrent networks (Hidasi et al., ICLR 2016, arXiv 1511.06939).

    The model has item embeddings, dropout, GRU layers with dropout between them, and a linear layer back to
    the embedding width.  The tied embedding gives the scores.

    Three things differ from the paper.  They are usual today, and they make the baseline better:

    - The model takes whole histories, not steps in session-parallel batches.
    - The input and the scores use the same embedding.
    - The loss is the loss of the run.

    The defaults are two layers of width 2 D.  With them, the model has about as many parameters as RecBLR.
    torch initialises the weights of the GRU.  All other weights are drawn as in the other models.

    Args:
        num_items: size V of the catalogue.
        config: hyper-parameters; None means the defaults.
    """

    config: GRU4RecConfig

    def __init__(self, num_items: int, config: GRU4RecConfig | None = None) -> None:
        config = config or GRU4RecConfig()
        super().__init__(num_items, config)
        width, layers = round(config.expand * config.d_model), config.num_layers
        self.dropout = Dropout(config.dropout_rate)
        # This dropout is between layers.  torch warns if it is set for a single layer.
        dropout_between = config.dropout_rate if layers > 1 else 0.0
        self.gru = nn.GRU(config.d_model, width, layers, batch_first=True, dropout=dropout_between)
        self.output = nn.Linear(width, config.d_model)
        self.apply(initialise)
        if self.time is not None:
            self.time.reset_answer()

    def forward(
        self,
        items: Tensor,
        *,
        offsets: Tensor,
        times: Tensor | None = None,
        request_times: Tensor | None = None,
    ) -> Tensor:
        """Hidden vectors ``(N, D)`` after every event.

        Args:
            items: packed ``(N,)`` integers.
            offsets: ``(S + 1,)``, see :func:`recblr.scan`.
            times, request_times: ``(N,)`` and ``(S,)``, as in :meth:`recblr.nn.RecBLR.forward`.

        Raises:
            ValueError: the items are not integers, or (on a CPU) an item is not in the catalogue; offsets has
                a wrong shape or range; times that the model needs are missing, do not fit, or (on a CPU) are
                not finite.
        """
        embedded, gaps = self.embed_with_gaps(items, offsets, times, request_times)
        x: Tensor = self.dropout(embedded)
        if not len(x):
            return x
        lengths = offsets.diff()
        valid = valid_positions(lengths, int(lengths.max()))
        # Padding on the right comes after all events, so it changes no state that is used.  torch's
        # PackedSequence would avoid padding.  But on a CPU, its gradient fills the whole batch with zeros
        # again for every event of the longest history.
        states, _ = self.gru(unpack(x, valid))
        y: Tensor = self.output(states[valid])
        return self.answer(y, gaps)


class SASRec(NextItemModel):
    """Self-attentive sequential recommendation (Kang and McAuley, ICDM 2018, arXiv 1808.09781).

    As in the paper, learned position embeddings are added to the item embeddings times sqrt(D).  Each block
    has causal multi-head attention and a position-wise network with ReLU.  Dropout acts on the embeddings, on
    the attention weights and on both sub-layers.  There is a layer norm before each sub-layer and at the end.
    The tied embedding gives the scores.

    Three things differ from the paper.  They are usual today, and they make the baseline better:

    - All sub-layers are pre-norm, ``x + f(LayerNorm(x))``.  The authors' code normalises the queries of the
      attention, but not its keys and values.  It adds the normalised input, not the input itself.
    - The position-wise network has width 4 D, as in RecBLR; theirs has width D.  A linear layer joins the
      heads.
    - Positions count from the first event that the model sees; theirs count from the last.  So one pass over
      a history gives the same hidden vectors as separate passes over all its prefixes.

    With times, what a gap adds to the vector of an item is multiplied by sqrt(D) too, so that their ratio is
    that of RecBLR.

    :class:`SASRecEncoder` computes the hidden vectors.

    Args:
        num_items: size V of the catalogue.
        config: hyper-parameters; None means the defaults.
    """

    config: SASRecConfig

    def __init__(self, num_items: int, config: SASRecConfig | None = None) -> None:
        config = config or SASRecConfig()
        super().__init__(num_items, config)
        self.encoder = SASRecEncoder(config)
        self.apply(initialise)
        if self.time is not None:
            self.time.reset_answer()

    def forward(
        self,
        items: Tensor,
        *,
        offsets: Tensor,
        times: Tensor | None = None,
        request_times: Tensor | None = None,
    ) -> Tensor:
        """Hidden vectors ``(N, D)`` after every event.

        Args:
            items: packed ``(N,)`` integers.
            offsets: ``(S + 1,)``, see :func:`recblr.scan`.  No history is longer than ``max_length``.
            times, request_times: ``(N,)`` and ``(S,)``, as in :meth:`recblr.nn.RecBLR.forward`.

        Raises:
            ValueError: the items are not integers, or (on a CPU) an item is not in the catalogue; offsets has
                a wrong shape or range; a history is too long; times that the model needs are missing, do not
                fit, or (on a CPU) are not finite.
        """
        embedded, gaps = self.embed_with_gaps(items, offsets, times, request_times)
        x: Tensor = embedded * self.config.d_model**0.5
        if not len(x):
            return x
        order, groups = by_length(offsets)
        encoded: Tensor = self.encoder(x[order], groups)[order.argsort()]
        return self.answer(encoded, gaps)


class SASRecEncoder(nn.Module):
    """SASRec without item embedding and scores: positions, blocks and the last layer norm.

    Args:
        config: hyper-parameters.
        ffn_expand: the feed-forward networks have width ``ffn_expand * D``.
    """

    def __init__(self, config: SASRecConfig, ffn_expand: int = 4) -> None:
        super().__init__()
        self.positions = nn.Embedding(config.max_length, config.d_model)
        self.dropout = Dropout(config.dropout_rate)
        # The type is a list of the members, because mypy does not know the members of a ModuleList.
        self.blocks: list[SASRecBlock] = nn.ModuleList(  # type: ignore[assignment]
            SASRecBlock(config.d_model, config.num_heads, ffn_expand * config.d_model, config.dropout_rate)
            for _ in range(config.num_layers)
        )
        self.norm = nn.LayerNorm(config.d_model, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor, groups: list[Tensor] | None = None) -> Tensor:
        """Encode x, and return a tensor of x's shape.

        Without groups, x is ``(B, T, D)``.  With the groups of `by_length`, x is rows ``(N, D)`` in the order
        of `by_length`.  Raises ValueError if a history has more than ``max_length`` events.
        """
        x = self.dropout(x + self._positions(x, groups))
        for block in self.blocks:
            x = block(x, groups)
        y: Tensor = self.norm(x)
        return y

    def _positions(self, x: Tensor, groups: list[Tensor] | None) -> Tensor:
        learned: int = self.positions.num_embeddings
        longest = x.shape[-2] if groups is None else max((valid.shape[1] for valid in groups), default=0)
        if longest > learned:
            raise ValueError(
                f"a history has {longest} events, but the model has learned {learned} positions:"
                " give only its newest events, or train with a larger max_length"
            )
        numbers = torch.arange(longest, device=x.device)
        if groups is not None:
            numbers = torch.cat([numbers[: valid.shape[1]].expand(valid.shape)[valid] for valid in groups])
        embedded: Tensor = self.positions(numbers)
        return embedded


class SASRecBlock(nn.Module):
    """``u = x + Dropout(Attention(LayerNorm(x)));  out = u + Dropout(FFN(LayerNorm(u)))``, causal."""

    def __init__(self, d_model: int, num_heads: int, ffn_width: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)
        self.attention = CausalSelfAttention(d_model, num_heads, dropout)
        self.ffn_norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPS)
        self.ffn = PositionwiseFeedForward(d_model, ffn_width, dropout, activation=F.relu)
        # One module for each place, because a module is called once in each pass.
        self.dropout, self.output_dropout = Dropout(dropout), Dropout(dropout)

    def forward(self, x: Tensor, groups: list[Tensor] | None = None) -> Tensor:
        """As :meth:`SASRecEncoder.forward`."""
        u = x + self.dropout(self.attention(self.attention_norm(x), groups))
        y: Tensor = u + self.output_dropout(self.ffn(self.ffn_norm(u)))
        return y


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a position attends to itself and to earlier positions.

    dropout: the dropout of the attention weights.  If it is not 0, training holds all T x T weights in
        memory.
    """

    def __init__(self, d_model: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.num_heads, self.dropout = num_heads, dropout
        self.qkv = nn.Linear(d_model, 3 * d_model)
        self.output = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, groups: list[Tensor] | None = None) -> Tensor:
        """As :meth:`SASRecEncoder.forward`.

        Padding needs no mask.  It is on the right, and no position attends to a later one.  The outputs of
        the padding are dropped.
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

    Code that needs padded batches uses these groups.  Often a few histories are long and many are short.  If
    all were padded to the longest one, most of the work would be attention over padding.  Within a group,
    lengths differ by less than a factor of two, and this limits the padding.

    Args:
        offsets: ``(S + 1,)`` of packed rows ``(N, ...)``; they must be valid.

    Returns:
        Two values.  The first is ``(N,)`` int64: the row numbers in their new order.  The rows of a history
        stay together and keep their order.  The second is a list with ``(B, T)`` bool for each group: the
        positions of the padded batch that are rows.  T is the length of the group's longest history.  Empty
        histories are in no group.
    """
    lengths = offsets.diff()
    magnitudes = torch.tensor([length.bit_length() for length in lengths.tolist()], device=offsets.device)
    order, groups = [offsets.new_empty(0, dtype=torch.int64)], []
    for magnitude in magnitudes[magnitudes > 0].unique():
        members = (magnitudes == magnitude).nonzero().squeeze(1)
        longest = int(lengths[members].max())
        valid = valid_positions(lengths[members], longest)
        rows = offsets[members].unsqueeze(1) + torch.arange(longest, device=offsets.device)
        order.append(rows[valid])
        groups.append(valid)
    return torch.cat(order), groups
