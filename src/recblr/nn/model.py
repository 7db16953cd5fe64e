"""RecBLR, the whole model: item embedding, blocks, and scores by the tied embedding."""

from dataclasses import dataclass
from typing import Any, Self, get_args

import torch
from torch import Tensor, nn

from recblr.nn.bdlru import LambdaInit
from recblr.nn.layer import LAYER_NORM_EPS, LayerState, RecBLRLayer
from recblr.nn.padding import pack, steps_to_power_of_two, unpack, valid_positions

INIT_STD = 0.02
RELEASED_BETA_EPSILON = 1e-8

State = tuple[LayerState, ...]


@dataclass(frozen=True)
class RecBLRConfig:
    """The model's hyper-parameters; the defaults are the paper's (ML-1M's dropout).

    The last four are what the authors' released code does otherwise than the paper; :meth:`released`
    sets all four.  They are there to reproduce that code and its checkpoints, not to improve on the paper.

    d_model: width D of items and layers.
    num_layers: number of RecBLR blocks.
    expand: the recurrence runs in a width of expand * d_model.
    d_conv: how many events the causal convolution sees.
    dropout: probability, of the embedding's and both sub-layers' outputs.
    max_length: training, evaluation and recommendation see the last so many events of a history; None is
        all (the paper: XLong 1000, ML-1M 200, Gowalla 100, others 50).  A model that is called directly
        runs over whatever it is given.
    padding_leak: begin every history in the state that the released code's padding leaves behind: it pads
        each layer's input from max_length on the left to a power of two with zeros, which the
        convolution's bias makes count.  Not the default because the state before the first event should
        not depend on a length, and the paper's is zero.
    beta_epsilon: added under the square root of beta, 1e-8 in the released code.  Not the default because
        at 0 beta is computed from the logarithm of alpha, to full precision and in one fused operator.
    lambda_init: uniform starts alpha uniformly in [0.9, 0.999], as the paper says; linspace, the released
        code's, spaces Lambda evenly instead, which puts half of the channels above 0.989.
    ffn_dropout: probability of one more dropout after the feed-forward network's SiLU; the released code
        has it, with dropout's probability, and the paper has not.
    """

    d_model: int = 64
    num_layers: int = 2
    expand: float = 2
    d_conv: int = 4
    dropout: float = 0.2
    max_length: int | None = None
    padding_leak: bool = False
    beta_epsilon: float = 0.0
    lambda_init: LambdaInit = "uniform"
    ffn_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("d_model", "num_layers", "d_conv"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but is {getattr(self, name)}")
        if round(self.expand * self.d_model) < 1:
            raise ValueError(f"expand * d_model must be at least 1, but expand is {self.expand}")
        for name in ("dropout", "ffn_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), but is {getattr(self, name)}")
        if self.max_length is not None and self.max_length < 1:
            raise ValueError(f"max_length must be at least 1, but is {self.max_length}")
        if self.padding_leak and self.max_length is None:
            raise ValueError("padding_leak must come with max_length, which decides how much padding leaks")
        if not 0 <= self.beta_epsilon < float("inf"):
            raise ValueError(f"beta_epsilon must be 0 or a positive number, but is {self.beta_epsilon}")
        if self.lambda_init not in get_args(LambdaInit):
            raise ValueError(f"lambda_init must be uniform or linspace, but is {self.lambda_init!r}")

    @classmethod
    def released(cls, max_length: int, **others: Any) -> Self:
        """The authors' released code: all of its differences from the paper, at its `max_length`.

        others: further fields; `dropout` counts for `ffn_dropout` too, and one of the four goes its own way.
        """
        released = {
            "padding_leak": True,
            "beta_epsilon": RELEASED_BETA_EPSILON,
            "lambda_init": "linspace",
            "ffn_dropout": others.get("dropout", cls.dropout),
        }
        return cls(max_length=max_length, **{**released, **others})

    @property
    def padding_steps(self) -> int:
        """How many steps of padding leak into each history: 56 at max_length 200, as that lacks to 256."""
        return steps_to_power_of_two(self.max_length) if self.padding_leak and self.max_length else 0


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
        self.config = config = config or RecBLRConfig()
        self.num_items = num_items
        self.item_embedding = nn.Embedding(num_items, config.d_model)
        self.layer_norm = nn.LayerNorm(config.d_model, eps=LAYER_NORM_EPS)
        self.dropout = nn.Dropout(config.dropout)
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
        """One event of each history, at constant cost: items ``(B,)``; returns hidden, state."""
        hidden, state = self._run(items.unsqueeze(1), None, state)
        return hidden.squeeze(1), state

    def scores(self, hidden: Tensor) -> Tensor:
        """Scores of the whole catalogue, ``(..., D) -> (..., V)``, by the tied embedding (eq. 2)."""
        weight: Tensor = self.item_embedding.weight
        return hidden @ weight.mT

    def _run(self, items: Tensor, offsets: Tensor | None, state: State | None) -> tuple[Tensor, State]:
        if items.is_floating_point() or items.is_complex() or items.dtype == torch.bool:
            raise ValueError(f"items must be integers, but are {items.dtype}".replace("torch.", ""))
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
