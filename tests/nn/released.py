"""The authors' released model, written again from its description.  It is slow, but easy to check.

A batch has the form that RecBole gives: items (B, L), padded on the right with item 0.  L is the same for
every batch.  Each layer pads its input with zeros on the left to a power of two, convolves with a bias, runs
the recurrence over all steps and returns the last L steps.  Parameters have the names of the authors'
checkpoints.  Lambda is evenly spaced at the start.  Each of the other differences from the paper can be
switched off alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recblr.nn.common import Dropout


@dataclass(frozen=True)
class Differences:
    """Differences between the released code and the paper.  Each can be switched off."""

    padding: bool = True
    epsilon: bool = True
    ffn_dropout: bool = True


class BehaviorModeling(nn.Module):
    def __init__(self, width: int, expand: int, d_conv: int, differences: Differences) -> None:
        super().__init__()
        inner = expand * width
        self.differences = differences
        self.input = nn.Linear(width, 2 * inner, bias=False)
        self.conv1d = nn.Conv1d(inner, inner, d_conv, groups=inner, padding=d_conv - 1)
        self.gates = nn.Linear(inner, 2 * inner)
        ends = [(-torch.tensor(alpha).log()).expm1().log() for alpha in (0.9, 0.999)]
        self.Lambda = nn.Parameter(torch.linspace(float(ends[0]), float(ends[1]), inner))
        self.output = nn.Linear(inner, width, bias=False)

    def forward(self, u: Tensor) -> Tensor:
        length = u.shape[1]
        if self.differences.padding:
            power = 1
            while power < length:
                power *= 2
            u = F.pad(u, (0, 0, power - length, 0))
        x, z = self.input(u).chunk(2, dim=-1)
        x = F.silu(self.conv1d(x.mT)[..., : u.shape[1]].mT)
        r, i = torch.sigmoid(self.gates(x)).chunk(2, dim=-1)
        alpha = torch.exp(-F.softplus(self.Lambda) * r)
        beta = torch.sqrt(1 - alpha**2 + (1e-8 if self.differences.epsilon else 0)) * i
        state, states = torch.zeros_like(x[:, 0]), []
        for t in range(u.shape[1]):
            state = alpha[:, t] * state + beta[:, t] * x[:, t]
            states.append(state)
        y = torch.stack(states, 1) * F.silu(z)
        return self.output(y[:, -length:])


class FeedForward(nn.Module):
    def __init__(self, width: int, dropout: float, differences: Differences) -> None:
        super().__init__()
        self.w_1 = nn.Linear(width, 4 * width)
        self.w_2 = nn.Linear(4 * width, width)
        self.layer_norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = Dropout(dropout)
        self.inner_dropout = Dropout(dropout if differences.ffn_dropout else 0)

    def forward(self, x: Tensor) -> Tensor:
        y = self.w_2(self.inner_dropout(F.silu(self.w_1(x))))
        return self.layer_norm(self.dropout(y) + x)


class RecurrentLayer(nn.Module):
    def __init__(
        self, width: int, expand: int, d_conv: int, dropout: float, differences: Differences
    ) -> None:
        super().__init__()
        self.behavior_modeling = BehaviorModeling(width, expand, d_conv, differences)
        self.layer_norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = Dropout(dropout)
        self.ffn = FeedForward(width, dropout, differences)

    def forward(self, x: Tensor) -> Tensor:
        return self.ffn(self.layer_norm(self.dropout(self.behavior_modeling(x)) + x))


class ReleasedRecBLR(nn.Module):
    def __init__(
        self,
        n_items: int,
        width: int,
        layers: int = 2,
        expand: int = 2,
        d_conv: int = 4,
        dropout: float = 0.2,
        differences: Differences | None = None,
    ) -> None:
        super().__init__()
        differences = differences or Differences()
        self.item_embedding = nn.Embedding(n_items, width, padding_idx=0)
        self.layer_norm = nn.LayerNorm(width, eps=1e-12)
        self.dropout = Dropout(dropout)
        self.recurrent_layers = nn.ModuleList(
            RecurrentLayer(width, expand, d_conv, dropout, differences) for _ in range(layers)
        )

    def forward(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """The hidden vector after the last item of each history, (B, D).

        item_seq is (B, L) items, padded on the right.  item_seq_len is (B,), the number of items in each row.
        """
        x = self.layer_norm(self.dropout(self.item_embedding(item_seq)))
        for layer in self.recurrent_layers:
            x = layer(x)
        return x[torch.arange(len(x)), item_seq_len - 1]

    def full_sort_predict(self, item_seq: Tensor, item_seq_len: Tensor) -> Tensor:
        """The scores of all items, [PAD] included, (B, n_items)."""
        return self(item_seq, item_seq_len) @ self.item_embedding.weight.T


def with_large_weights(model: Any, seed: int = 0) -> Any:
    """The model with large weights and biases, so that every part of it matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.endswith("Lambda"):
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                parameter.add_(0.4 * noise.to(parameter.dtype))
    return model
