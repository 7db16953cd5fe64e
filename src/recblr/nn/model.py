"""The model RecBLR: item embedding, blocks and scores.  `build_model` makes the model of any config."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from recblr.config.model import GRU4RecConfig, ModelConfig, RecBLRConfig, SASRecConfig
from recblr.nn.base import NextItemModel
from recblr.nn.baselines import GRU4Rec, SASRec
from recblr.nn.common import LAYER_NORM_EPS, Dropout, initialise
from recblr.nn.layer import LayerState, RecBLRLayer
from recblr.nn.padding import run_packed

State = tuple[LayerState, ...]


class RecBLR(NextItemModel):
    """The sequential recommender RecBLR (arXiv 2406.12580): eq. 1, Alg. 1, Fig. 2 and eq. 2.

    By default, each layer also has a :class:`HistoryAverage`.  The paper has none.

    Items are integers ``0 <= item < num_items``.  There is no padding item.  Histories of different lengths
    are packed, or they are padded on the right and ``lengths`` says where the padding begins.

    Args:
        num_items: size V of the catalogue.
        config: hyper-parameters; None means the defaults of :class:`RecBLRConfig`.
    """

    config: RecBLRConfig

    def __init__(self, num_items: int, config: RecBLRConfig | None = None) -> None:
        config = config or RecBLRConfig()
        super().__init__(num_items, config)
        self.layer_norm = nn.LayerNorm(config.d_model, eps=LAYER_NORM_EPS)
        self.dropout = Dropout(config.dropout_rate)
        # The type is a list of the members, because mypy does not know the members of a ModuleList.
        self.layers: list[RecBLRLayer] = nn.ModuleList(  # type: ignore[assignment]
            RecBLRLayer(**vars(config.layer())) for _ in range(config.num_layers)
        )
        self.apply(initialise)

    def forward(
        self,
        items: Tensor,
        *,
        lengths: Tensor | None = None,
        offsets: Tensor | None = None,
        state: State | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, State]:
        """Hidden vectors after every event.

        Args:
            items: ``(B, T)`` integers, or packed ``(N,)`` with ``offsets``, or a jagged nested tensor
                ``(B, T)``.
            lengths: ``(B,)`` for a batch padded on the right; see :class:`RecBLRLayer`.
            offsets: ``(S + 1,)`` for packed histories, see :func:`recblr.scan`.
            state: the state after an earlier part of the same histories; None at the beginning.
            return_state: also return the state after the last event of every history, as :meth:`with_state`
                does.

        Returns:
            ``(B, T, D)`` or ``(N, D)``, nested if the items are.  :meth:`scores` computes scores from it.
            With return_state, a tuple of this and the state.

        Raises:
            ValueError: the items are not integers, or (on a CPU) an item is not in the catalogue; both
                lengths and offsets are given, or one of them has a wrong shape or range; the state does not
                fit.
        """
        run = partial(self._run, return_state)
        hidden, new_state = run_packed(run, items, lengths, offsets, state, padded="(B, T)", packed="items")
        return (hidden, new_state) if return_state else hidden

    def with_state(
        self,
        items: Tensor,
        *,
        lengths: Tensor | None = None,
        offsets: Tensor | None = None,
        state: State | None = None,
    ) -> tuple[Tensor, State]:
        """As :meth:`forward`, but also return the state after the last event of every history."""
        output: tuple[Tensor, State]
        output = self(items, lengths=lengths, offsets=offsets, state=state, return_state=True)
        return output

    def step(self, items: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        """Run one event of each history, at constant cost.

        items is ``(B,)``.  state is None at the beginning.  Returns the hidden vectors ``(B, D)`` and the new
        state.  Raises the errors of :meth:`forward`.
        """
        hidden, state = self(items.unsqueeze(1), state=state, return_state=True)
        return hidden.squeeze(1), state

    def _run(
        self, return_state: bool, items: Tensor, offsets: Tensor | None, state: State | None
    ) -> tuple[Tensor, State]:
        """The hidden vectors and the new state of packed rows.  Without return_state, the new state is ()."""
        if state is not None and len(state) != len(self.layers):
            raise ValueError(
                f"state must hold a state for each of the {len(self.layers)} layers, but holds {len(state)}"
            )
        x = self.layer_norm(self.dropout(self.embed(items)))
        states = []
        for i, layer in enumerate(self.layers):
            given = {"offsets": offsets, "state": state[i] if state else None}
            if return_state:
                x, layer_state = layer(x, **given, return_state=True)
                states.append(layer_state)
            else:
                x = layer(x, **given)
        return x, tuple(states)


_MODELS: dict[type[ModelConfig], Callable[[int, Any], NextItemModel]] = {
    RecBLRConfig: RecBLR,
    SASRecConfig: SASRec,
    GRU4RecConfig: GRU4Rec,
}


def build_model(num_items: int, config: ModelConfig) -> NextItemModel:
    """A new model for a catalogue of num_items.  Its weights are drawn from torch's generator.

    The weights are float32, whatever torch's default dtype is: training, model files and serving expect that.
    """
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        return _MODELS[type(config)](num_items, config)
    finally:
        torch.set_default_dtype(default)
