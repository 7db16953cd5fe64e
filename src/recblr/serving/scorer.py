"""A model as a scorer of histories, for evaluation and recommendation."""

import numpy as np
import torch
from torch import Tensor

from recblr.data import Packed
from recblr.errors import InputError
from recblr.evaluation import Scorer
from recblr.evaluation.ranking import TOKENS
from recblr.nn.base import NextItemModel
from recblr.nn.repeats import seen_items
from recblr.system.device import tensors_on

_GPU_TOKENS = 2**16  # about 0.5 GiB of activations at the default width, which is enough to keep a GPU busy


def model_scorer(model: NextItemModel) -> Scorer:
    """A scorer of histories for `recblr.evaluation`: S histories -> scores (S, V).

    For an empty history, the hidden state is zero, so all items have the same score.  The model sees only the
    newest ``max_length`` events of each history, as its config says.  If the model knows time, the histories
    need times; if it knows the request, they need request times.

    model: in evaluation mode, on any device.  The scores are on the same device and have no gradients.
    """

    @torch.no_grad()
    def score(histories: Packed) -> Tensor:
        seen = None
        if model.repeat_bias is not None:
            # From whole histories: the user has an item even if the model no longer sees its event.
            held, cuts = tensors_on(model.item_embedding.weight.device, histories.items, histories.offsets)
            seen = seen_items(held, cuts, model.num_items)
        return model.scores(last_hidden(model, histories), seen)

    return score


@torch.no_grad()
def last_hidden(model: NextItemModel, histories: Packed) -> Tensor:
    """The hidden vectors ``(S, D)`` after the last events of S histories; zeros for an empty one.

    The arguments are those of :func:`model_scorer` and its scorer.  The score of an item is the product of
    this vector and the item's, without the bias of repeats.
    """
    device = model.item_embedding.weight.device
    for name in model.time_arguments:
        if getattr(histories, name) is None:
            raise InputError(
                f"the model was trained with --time {model.config.time_use}, but the histories have no"
                f" {name.replace('_', ' ')}",
                f"give {name}=",
            )
    if model.config.max_length is not None:
        histories = histories.latest(model.config.max_length)
    # Found on the host.  On a GPU, the host would have to wait for the number of filled histories.
    filled = np.flatnonzero(histories.lengths)
    ends = histories.offsets[1:][filled] - 1
    times = [getattr(histories, name) for name in model.time_arguments]
    items, offsets, users, rows, *others = tensors_on(
        device, histories.items, histories.offsets, filled, ends, *times
    )
    hidden = model(items, offsets=offsets, **dict(zip(model.time_arguments, others, strict=True)))
    last: Tensor = hidden.new_zeros(len(histories), hidden.shape[-1])
    last[users] = hidden[rows]
    return last


def ranking_tokens(model: NextItemModel) -> int:
    """The number of events to score at a time, for `rank_targets`, on the model's device."""
    return TOKENS if model.item_embedding.weight.device.type == "cpu" else _GPU_TOKENS
