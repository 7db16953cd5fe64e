"""RecBLR, the whole model: item embedding, blocks, and scores by the tied embedding."""

import torch
from torch import Tensor, nn

from recblr.config.model import RecBLRConfig
from recblr.nn import checks
from recblr.nn.dropout import Dropout
from recblr.nn.layer import LAYER_NORM_EPS, LayerState, RecBLRLayer
from recblr.nn.padding import pack, unpack, valid_positions

INIT_STD = 0.02

State = tuple[LayerState, ...]


class RecBLR(nn.Module):
    """The sequential recommender RecBLR (arXiv 2406.12580): eq. 1, Alg. 1, Fig. 2 and eq. 2.

    Items are integers ``0 <= item < num_items``.  There is no padding item: histories of different
    lengths are packed, or padded on the right and given with ``lengths``.

    Args:
        num_items: size V of the catalogue.
        config: hyper-parameters; the paper's where None.
    """

    def __init__(self, num_items: int, config: RecBLRConfig | None = None) -> None:
        super().__init__()
        checks.count("num_items", num_items)
        self.config = config = config or RecBLRConfig()
        self.num_items = num_items
        self.item_embedding = nn.Embedding(num_items, config.d_model)
        self.layer_norm = nn.LayerNorm(config.d_model, eps=LAYER_NORM_EPS)
        self.dropout = Dropout(config.dropout)
        # Typed as what it holds: mypy cannot see through ModuleList.
        self.layers: list[RecBLRLayer] = nn.ModuleList(  # type: ignore[assignment]
            RecBLRLayer(
                config.d_model,
                config.expand,
                config.d_conv,
                config.dropout,
                ffn_dropout=config.ffn_dropout,
                padding_steps=config.padding_steps,
                beta_epsilon=config.beta_epsilon,
                lambda_init=config.lambda_init,
            )
            for _ in range(config.num_layers)
        )
        self.apply(_initialise)

    def forward(
        self,
        items: Tensor,
        *,
        lengths: Tensor | None = None,
        offsets: Tensor | None = None,
        state: State | None = None,
    ) -> Tensor:
        """Hidden vectors after every event; :meth:`with_state` returns the state too.

        Args:
            items: ``(B, T)`` integers, or packed ``(N,)`` with ``offsets``.
            lengths: ``(B,)`` for a batch padded on the right; see :class:`RecBLRLayer`.
            offsets: ``(S + 1,)`` for packed histories, see :func:`recblr.scan`.
            state: what an earlier part of the same histories left behind.

        Returns:
            ``(B, T, D)`` or ``(N, D)``; give it to :meth:`scores`.

        Raises:
            ValueError: items that are no integers or (on a CPU) not in the catalogue; lengths and offsets
                together, or either of the wrong shape or range; a state that does not fit.
        """
        return self.with_state(items, lengths=lengths, offsets=offsets, state=state)[0]

    def with_state(
        self,
        items: Tensor,
        *,
        lengths: Tensor | None = None,
        offsets: Tensor | None = None,
        state: State | None = None,
    ) -> tuple[Tensor, State]:
        """As :meth:`forward`, and the state after the last event of every history."""
        if lengths is None:
            return self._run(items, offsets, state)
        if offsets is not None or items.dim() != 2:
            raise ValueError(
                "lengths goes with a padded (B, T) batch, offsets with packed items: give one of them"
            )
        valid = valid_positions(lengths, items.shape[0], items.shape[1])
        rows, offsets = pack(items, valid)
        hidden, state = self._run(rows, offsets, state)
        return unpack(hidden, valid), state

    def step(self, items: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """One event of each history, at constant cost: items ``(B,)``, state or None at the beginning.

        Returns the hidden vectors ``(B, D)`` and the new state; raises as :meth:`forward`.
        """
        hidden, state = self._run(items.unsqueeze(1), None, state)
        return hidden.squeeze(1), state

    def scores(self, hidden: Tensor) -> Tensor:
        """The catalogue's scores ``(..., V)`` for hidden ``(..., D)``, by the tied embedding (eq. 2)."""
        weight: Tensor = self.item_embedding.weight
        return hidden @ weight.mT

    def _run(self, items: Tensor, offsets: Tensor | None, state: State | None) -> tuple[Tensor, State]:
        if not isinstance(items, Tensor):
            raise TypeError(f"items must be a tensor of integers, but are of the type {type(items).__name__}")
        if items.dtype not in (torch.int64, torch.int32):
            kind = "int64 or int32" if "int" in str(items.dtype) else "integers"
            raise ValueError(f"items must be {kind}, but are {items.dtype}".replace("torch.", ""))
        if state is not None and len(state) != len(self.layers):
            raise ValueError(
                f"state must hold a state for each of the {len(self.layers)} layers, but holds {len(state)}"
            )
        try:
            x = self.layer_norm(self.dropout(self.item_embedding(items)))
        except IndexError:  # on a CPU; other devices do not say
            raise ValueError(
                f"items must lie in 0..{self.num_items - 1}, but range from {int(items.min())} to"
                f" {int(items.max())}"
            ) from None
        states = []
        for i, layer in enumerate(self.layers):
            x, layer_state = layer.with_state(x, offsets=offsets, state=state[i] if state else None)
            states.append(layer_state)
        return x, tuple(states)


def _initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02), biases zero; convolution and Lambda keep their own."""
    if isinstance(module, nn.Linear | nn.Embedding):
        torch.nn.init.normal_(module.weight, std=INIT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        torch.nn.init.zeros_(module.bias)
