"""Code that several models share: dropout, the feed-forward network, initial weights and checks."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recblr.ops.common.checks import dense
from recblr.ops.dropout import has_kernel_for, seeded_dropout

INIT_STD = 0.02
LAYER_NORM_EPS = 1e-12


class Dropout(nn.Dropout):
    """torch.nn.Dropout, but faster if there is a native kernel.

    torch draws its mask one number after another.  The kernel decides about each element from the seed and
    the element's number alone.  So threads can share the work, and the bits do not depend on the number of
    threads.  The backward pass needs no stored mask.  The seed comes from torch's generator, so
    ``torch.manual_seed`` makes it repeatable.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not 0 < self.p < 1 or self.inplace or not has_kernel_for(input):
            return F.dropout(input, self.p, self.training, self.inplace)
        seed = int(torch.empty((), dtype=torch.int64, device="cpu").random_())
        return seeded_dropout(input, seed, self.p)


class PositionwiseFeedForward(nn.Module):
    """``Dropout(SiLU(x W1 + b1)) W2 + b2``, D -> width -> D: eq. 4 of arXiv 2406.12580, plus dropout.

    activation: replaces SiLU.
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
    """Initialise a linear layer or an embedding as RecBLR's paper says.  Leave other modules unchanged.

    Weights are drawn from N(0, 0.02), and biases are zero.
    """
    if isinstance(module, nn.Linear | nn.Embedding):
        torch.nn.init.normal_(module.weight, std=INIT_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        torch.nn.init.zeros_(module.bias)


def check_count(name: str, value: int) -> None:
    """Refuse a size that is not a whole number of at least 1.

    Raises:
        ValueError: the size is refused.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, but is {value!r}")


def check_last_axis(name: str, x: Tensor, width: int, meaning: str) -> None:
    """Refuse a tensor that is not dense, or whose last axis is not `width` long.

    Raises:
        ValueError: the last axis of x has another length, or x is sparse or nested.
        TypeError: x is not a tensor.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, but is of the type {type(x).__name__}")
    dense(name, x)
    if x.dim() == 0 or x.shape[-1] != width:
        raise ValueError(
            f"{name} must have a last axis of {width}, the layer's {meaning}, but has shape {tuple(x.shape)}"
        )
