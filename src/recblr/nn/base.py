"""What every model has: an item embedding at both ends, and hidden vectors in between."""

import torch
from torch import Tensor, nn

from recblr.config.model import ModelConfig
from recblr.nn.common import check_count


class NextItemModel(nn.Module):
    """A model that scores the whole catalogue after every event of a history.

    Training, evaluation and recommendation take any such model.  A subclass defines
    ``forward(items, *, offsets)``, from packed items ``(N,)`` and offsets ``(S + 1,)`` to hidden vectors
    ``(N, D)``.

    Items are integers ``0 <= item < num_items``, and there is no padding item.

    repeat_bias: a scalar that is added to the scores of items that a user already has; None for none.

    Args:
        num_items: size V of the catalogue.
        config: hyper-parameters.

    Raises:
        ValueError: num_items is no whole number, or less than 1.
    """

    config: ModelConfig
    repeat_bias: nn.Parameter | None

    def __init__(self, num_items: int, config: ModelConfig) -> None:
        super().__init__()
        check_count("num_items", num_items)
        self.config = config
        self.num_items = num_items
        self.item_embedding = nn.Embedding(num_items, config.d_model)
        self.register_parameter("repeat_bias", None)

    def learn_repeat_bias(self, initial: float = 0.0) -> None:
        """Give the model a `repeat_bias`, one more parameter; see :mod:`recblr.nn.repeats`."""
        weight: Tensor = self.item_embedding.weight
        self.repeat_bias = nn.Parameter(torch.tensor(initial, dtype=weight.dtype, device=weight.device))

    def embed(self, items: Tensor) -> Tensor:
        """The embeddings ``(..., D)`` of items ``(...)``, int64 or int32.

        Raises:
            ValueError: items that are no integers or (on a CPU) not in the catalogue.
            TypeError: items that are no tensor.
        """
        if not isinstance(items, Tensor):
            raise TypeError(f"items must be a tensor of integers, but are of the type {type(items).__name__}")
        if items.dtype not in (torch.int64, torch.int32):
            kind = "int64 or int32" if "int" in str(items.dtype) else "integers"
            raise ValueError(f"items must be {kind}, but are {items.dtype}".replace("torch.", ""))
        try:
            embedded: Tensor = self.item_embedding(items)
        except IndexError:  # on a CPU; other devices do not say
            raise ValueError(
                f"items must lie in 0..{self.num_items - 1}, but range from {int(items.min())} to"
                f" {int(items.max())}"
            ) from None
        return embedded

    def scores(self, hidden: Tensor, seen: Tensor | None = None) -> Tensor:
        """The catalogue's scores by the tied embedding.

        Args:
            hidden: ``(..., D)``.
            seen: ``(..., V)`` bool, which items the user of each hidden vector already has;
                :func:`recblr.nn.seen_items` makes it. A model with a repeat_bias needs it, others ignore it.

        Returns:
            ``(..., V)``.

        Raises:
            ValueError: there is a repeat_bias, and no `seen`.
        """
        weight: Tensor = self.item_embedding.weight
        scores = hidden @ weight.mT
        if self.repeat_bias is None:
            return scores
        if seen is None:
            raise ValueError(
                "this model has learned how likely items are that a user already has: give seen=, (..., V)"
                " bool, as recblr.nn.seen_items makes it"
            )
        return scores + seen * self.repeat_bias
