"""The base class of all models: one item embedding for the input and for the scores."""

import torch
from torch import Tensor, nn

from recblr.config.model import ModelConfig, TimeUse
from recblr.nn.common import check_count
from recblr.nn.padding import at_hand
from recblr.nn.time import Gaps, TimeEncoder
from recblr.ops import check_offsets
from recblr.ops.common.checks import dense

_TIME_ARGUMENTS: dict[TimeUse, tuple[str, ...]] = {
    "none": (),
    "past": ("times",),
    "request": ("times", "request_times"),
}


class NextItemModel(nn.Module):
    """A model that scores the whole catalogue after every event of a history.

    Training, evaluation and recommendation work with every such model.  A subclass defines
    ``forward(items, *, offsets, times, request_times)``.  It takes packed items ``(N,)``, offsets
    ``(S + 1,)``, and the times that :meth:`check_times` describes, and returns hidden vectors ``(N, D)``.

    Items are integers ``0 <= item < num_items``.  There is no padding item.

    time: what the model does with times; None if it knows only the order of events.
    repeat_bias: a scalar that is added to the scores of items that a user already has, or None.

    Args:
        num_items: size V of the catalogue.
        config: hyper-parameters.

    Raises:
        ValueError: num_items is not a whole number of at least 1.
    """

    config: ModelConfig
    time: TimeEncoder | None
    repeat_bias: nn.Parameter | None

    def __init__(self, num_items: int, config: ModelConfig) -> None:
        super().__init__()
        check_count("num_items", num_items)
        self.config = config
        self.num_items = num_items
        self.item_embedding = nn.Embedding(num_items, config.d_model)
        asked = config.time_use == "request"
        self.time = None if config.time_use == "none" else TimeEncoder(config.d_model, with_request=asked)
        self.register_parameter("repeat_bias", None)

    @property
    def time_arguments(self) -> tuple[str, ...]:
        """The names of the times that the model needs: none, times, or times and request_times."""
        return _TIME_ARGUMENTS[self.config.time_use]

    def learn_repeat_bias(self, initial: float = 0.0) -> None:
        """Add the parameter `repeat_bias` to the model; see :mod:`recblr.nn.repeats`."""
        weight: Tensor = self.item_embedding.weight
        self.repeat_bias = nn.Parameter(torch.tensor(initial, dtype=weight.dtype, device=weight.device))

    def embed(self, items: Tensor) -> Tensor:
        """The embeddings ``(..., D)`` of items ``(...)``.  The items are int64 or int32.

        Raises:
            ValueError: the items are not dense integers, or (on a CPU) an item is not in the catalogue.
            TypeError: the items are not a tensor.
        """
        if not isinstance(items, Tensor):
            raise TypeError(f"items must be a tensor of integers, but are of the type {type(items).__name__}")
        dense("items", items)
        if items.dtype not in (torch.int64, torch.int32):
            kind = "int64 or int32" if "int" in str(items.dtype) else "integers"
            raise ValueError(f"items must be {kind}, but are {items.dtype}".replace("torch.", ""))
        try:
            embedded: Tensor = self.item_embedding(items)
        except IndexError:  # only on a CPU; other devices do not raise it
            raise ValueError(
                f"items must lie in 0..{self.num_items - 1}, but range from {int(items.min())} to"
                f" {int(items.max())}"
            ) from None
        return embedded

    def check_times(
        self, items: Tensor, sequences: int, times: Tensor | None, request_times: Tensor | None
    ) -> None:
        """Refuse times that do not fit.  A model that does not need them ignores them.

        Args:
            items: the items of the events.
            sequences: the number S of histories.
            times: of the shape of items, float64: the seconds of the events since 1970, in UTC.
            request_times: ``(S,)`` float64, for each history, the time at which its next item is asked for.

        Raises:
            ValueError: times are missing, or have another shape, dtype or device.
            TypeError: they are not a tensor.
        """
        given = {"times": times, "request_times": request_times}
        shapes = {"times": tuple(items.shape), "request_times": (sequences,)}
        for name in self.time_arguments:
            must = f"{name} must be float64 seconds since 1970 of the shape {shapes[name]}"
            moments = given[name]
            if moments is None:
                raise ValueError(
                    f"{must}, because the model has time={self.config.time_use!r}, but are missing"
                )
            if not isinstance(moments, Tensor):
                raise TypeError(f"{must}, but are of the type {type(moments).__name__}")
            # The shapes of nested tensors cannot be compared.
            if moments.dtype != torch.float64 or not (items.is_nested or moments.shape == shapes[name]):
                raise ValueError(
                    f"{must}, but are {moments.dtype} of shape {tuple(moments.shape)}".replace("torch.", "")
                )
            if moments.device != items.device:
                raise ValueError(
                    f"{name} must be on {items.device}, as the items, but are on {moments.device}"
                )

    def embed_with_gaps(
        self, items: Tensor, offsets: Tensor, times: Tensor | None, request_times: Tensor | None
    ) -> tuple[Tensor, Gaps | None]:
        """The embeddings ``(N, D)`` of items ``(N,)``, with what the model learns of gaps, and the gaps.

        offsets ``(S + 1,)``, times ``(N,)`` and request_times ``(S,)`` are those of :meth:`check_times`.

        Raises the errors of :meth:`embed` and :meth:`check_times`, and ValueError for wrong offsets and (on a
        CPU) for times that are not finite.
        """
        x = self.embed(items)
        check_offsets(offsets, len(x))
        if self.time is None:
            return x, None
        self.check_times(items, offsets.shape[0] - 1, times, request_times)
        assert times is not None
        check_finite(times=times, request_times=request_times)
        gaps = self.time.gaps(times, request_times, offsets)
        return x + self.time(gaps), gaps

    def answer(self, hidden: Tensor, gaps: Gaps | None) -> Tensor:
        """The hidden vectors ``(N, D)``, changed by the gaps to the requests if the model knows them."""
        if self.time is None or self.time.answer is None:
            return hidden
        assert gaps is not None
        answered: Tensor = self.time.answer(hidden, gaps.next)
        return answered

    def scores(self, hidden: Tensor, seen: Tensor | None = None) -> Tensor:
        """The scores of all items: the products of hidden vectors and item embeddings.

        Args:
            hidden: ``(..., D)``.
            seen: ``(..., V)`` bool: the items that the user of each hidden vector already has.
                :func:`recblr.nn.seen_items` computes it.  A model with a repeat_bias needs it.  Other models
                ignore it.

        Returns:
            ``(..., V)``.

        Raises:
            ValueError: the model has a repeat_bias, but `seen` is None.
        """
        weight: Tensor = self.item_embedding.weight
        scores = hidden @ weight.mT
        if self.repeat_bias is None:
            return scores
        if seen is None:
            raise ValueError(
                "this model has a bias for items that a user already has: give seen=, a (..., V) bool tensor"
                " from recblr.nn.seen_items"
            )
        return scores + seen * self.repeat_bias


def check_finite(**times: Tensor | None) -> None:
    """Refuse times that are NaN or infinite, where their values can be read without waiting for a device.

    times: by their names; None is not checked.

    Raises:
        ValueError: a time is NaN or infinite.
    """
    for name, values in times.items():
        if values is not None and at_hand(values) and not values.isfinite().all():
            raise ValueError(
                f"{name} must be finite numbers of seconds since 1970, but one is NaN or infinite"
            )
