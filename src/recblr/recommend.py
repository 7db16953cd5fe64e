"""What a trained model recommends after a history."""

from collections.abc import Sequence

import numpy as np
import torch

from recblr.data import Packed
from recblr.nn.model import RecBLR
from recblr.training.scorer import model_scorer


def recommend(
    model: RecBLR, history: Sequence[int], k: int, *, exclude_seen: bool = True
) -> list[tuple[int, float]]:
    """The k best items after a history, best first, each with its score.

    Args:
        model: in evaluation mode.
        history: item indices, oldest first, 1 or more.
        k: how many; fewer come back where the catalogue has no more.
        exclude_seen: leave out the items of the history.

    Returns:
        (item index, score) pairs.
    """
    items = np.asarray(history, dtype=np.int64)
    scores = model_scorer(model)(Packed(items, np.array([0, len(items)])))[0]
    candidates = model.num_items
    if exclude_seen:
        scores[torch.from_numpy(items)] = -torch.inf
        candidates -= len(np.unique(items))
    best = torch.topk(scores, min(k, candidates))
    return list(zip(best.indices.tolist(), best.values.tolist(), strict=True))
