"""A model as a scorer of histories, which is how evaluation and recommendation see it."""

import numpy as np
import torch
from torch import Tensor

from recblr.data import Packed
from recblr.evaluation import Scorer
from recblr.evaluation.ranking import TOKENS
from recblr.nn.base import NextItemModel
from recblr.nn.repeats import seen_items
from recblr.system.device import tensors_on

_GPU_TOKENS = 2**16  # some 0.5 GiB of activations at the default width: enough to be busy with


def model_scorer(model: NextItemModel) -> Scorer:
    """A scorer of histories for `recblr.evaluation`: S histories -> scores (S, V).

    An empty history scores as the zero vector: all items alike. Of each history the model sees its config's
    ``max_length`` newest events.

    model: in evaluation mode, on any device, which the scores come on too; gradients are not taken.
    """

    @torch.no_grad()
    def score(histories: Packed) -> Tensor:
        device = model.item_embedding.weight.device
        seen = None
        if model.repeat_bias is not None:
            # Of whole histories: what a user has does not depend on how much of it the model sees.
            held, cuts = tensors_on(device, histories.items, histories.offsets)
            seen = seen_items(held, cuts, model.num_items)
        if model.config.max_length is not None:
            histories = histories.latest(model.config.max_length)
        # Found on the host, which would wait for a GPU to say how many there are.
        filled = np.flatnonzero(histories.lengths)
        ends = histories.offsets[1:][filled] - 1
        items, offsets, users, rows = tensors_on(device, histories.items, histories.offsets, filled, ends)
        hidden = model(items, offsets=offsets)
        last = torch.zeros(len(histories), hidden.shape[-1], device=device)
        last[users] = hidden[rows]
        return model.scores(last, seen)

    return score


def ranking_tokens(model: NextItemModel) -> int:
    """How many events to score at a time, for `rank_targets`, where the model is."""
    return TOKENS if model.item_embedding.weight.device.type == "cpu" else _GPU_TOKENS
