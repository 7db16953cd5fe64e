"""What a trained model recommends after a history."""

from collections.abc import Sequence

import numpy as np
import torch

from recblr.data import Packed
from recblr.errors import InputError
from recblr.evaluation.ranking import check_items
from recblr.nn.base import NextItemModel
from recblr.serving.scorer import model_scorer


def recommend(
    model: NextItemModel, history: Sequence[int], k: int, *, exclude_seen: bool = True
) -> list[tuple[int, float]]:
    """The k best items after a history, best first, each with its score.

    Args:
        model: in evaluation mode.
        history: item indices, oldest first, 1 or more.
        k: how many, 1 or more; fewer come back where the catalogue has no more.
        exclude_seen: leave out the items of the history.

    Returns:
        (item index, score) pairs.

    Raises:
        InputError: the history is empty or holds an item outside the catalogue, or k < 1.
    """
    items = np.asarray(history, dtype=np.int64)
    if not items.size:
        raise InputError("the history is empty, so there is nothing to go by; give one item or more")
    if k < 1:
        raise InputError(f"k is the number of items to recommend and is {k}; give 1 or more")
    check_items(items, model.num_items, "history")
    scores = model_scorer(model)(Packed(items, np.array([0, len(items)])))[0]
    candidates = model.num_items
    if exclude_seen:
        scores[torch.from_numpy(items)] = -torch.inf
        candidates -= len(np.unique(items))
    best = torch.topk(scores, min(k, candidates))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
