"""The parts that several models are made of: dropout, the feed-forward network, first weights, checks."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recblr.ops.dropout import has_kernel_for, seeded_dropout

INIT_STD = 0.02
LAYER_NORM_EPS = 1e-12


class Dropout(nn.Dropout):
    """torch.nn.Dropout, faster where a native kernel serves.

    torch draws its mask one number after another.  Here (seed, place) decides about each element.  So threads
    share the work, the bits do not depend on their number, and no mask is kept for backward.  The seed comes
    from torch's generator: ``torch.manual_seed`` makes it repeatable.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not 0 < self.p < 1 or self.inplace or not has_kernel_for(input):
            return F.dropout(input, self.p, self.training, self.inplace)
        seed = int(torch.empty((), dtype=torch.int64, device="cpu").random_())
        return seeded_dropout(input, seed, self.p)


class PositionwiseFeedForward(nn.Module):
    """``Dropout(SiLU(x W1 + b1)) W2 + b2``, D -> width -> D (eq. 4 of arXiv 2406.12580, without dropout).

    activation: takes SiLU's place.
    """

    def __init__(
        self, d_model: int, width: int, dropout: float = 0.0, activation: Callable[[Tensor], Tensor] = F.silu
    ) -> None:
        super().__init__()
        self.activation = activation
        self.w_1 = nn.Linear(d_model, width)
        self.w_2 = nn.Linear(width, d_model)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.w_2(self.dropout(self.activation(self.w_1(x))))
        return y


def initialise(module: nn.Module) -> None:
    """Weights from N(0, 0.02), biases zero, as RecBLR's paper says; other modules keep their own."""
    if isinstance(module, nn.Linear | nn.Embedding):
        torch.nn.init.normal_(module.weight, std=INIT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        torch.nn.init.zeros_(module.bias)


def check_count(name: str, value: int) -> None:
    """Refuse a size that is no whole number, or less than 1.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, but is {value!r}")


def check_last_axis(name: str, x: Tensor, width: int, meaning: str) -> None:
    """Refuse a tensor of another width.

    Raises:
        ValueError: x's last axis is not `width` long.
        TypeError: x is no tensor.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, but is of the type {type(x).__name__}")
    if x.dim() == 0 or x.shape[-1] != width:
        raise ValueError(
            f"{name} must have a last axis of {width}, the layer's {meaning}, but has shape {tuple(x.shape)}"
        )
