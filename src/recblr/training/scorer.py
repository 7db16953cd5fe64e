"""A model as a scorer of histories, which is how evaluation and recommendation see it."""

import torch
from torch import Tensor

from recblr.data import Packed
from recblr.evaluation import Scorer
from recblr.nn.next_item import NextItemModel
from recblr.nn.repeats import seen_items


def model_scorer(model: NextItemModel) -> Scorer:
    """A scorer of histories for `recblr.evaluation`: S histories -> scores (S, V).

    An empty history scores as the zero vector: all items alike. Of each history the model sees its config's
    ``max_length`` newest events.

    model: in evaluation mode; gradients are not taken.
    """

    @torch.no_grad()
    def score(histories: Packed) -> Tensor:
        seen = None
        if model.repeat_bias is not None:
            # Of whole histories: what a user has does not depend on how much of it the model sees.
            seen = seen_items(
                torch.from_numpy(histories.items), torch.from_numpy(histories.offsets), model.num_items
            )
        if model.config.max_length is not None:
            histories = histories.latest(model.config.max_length)
        items = torch.from_numpy(histories.items)
        offsets = torch.from_numpy(histories.offsets)
        hidden = model(items, offsets=offsets)
        last = torch.zeros(len(histories), hidden.shape[-1])
        filled = offsets.diff() > 0
        last[filled] = hidden[offsets[1:][filled] - 1]
        return model.scores(last, seen)

    return score
