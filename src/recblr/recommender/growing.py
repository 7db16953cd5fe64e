"""New events for a trained model: its weights stay, and new items get the vectors of their neighbours."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from recblr.data import Dataset
from recblr.data.joined import neighbours, with_events, without_items
from recblr.recommender.saved import Fitted
from recblr.run.model_items import changed, with_items


def grown(fitted: Fitted, new: Dataset) -> tuple[Fitted, dict[str, int]]:
    """The same model with the events of `new`, and how many events were left out, {which: count}.

    A new item gets the mean of the vectors of the known items that stand right before and after it.
    """
    known = fitted.dataset.num_items
    dataset, had = with_events(fitted.dataset, new)
    beside = neighbours(dataset.histories, known)
    lonely = np.array([n for n in range(known, dataset.num_items) if n not in beside], np.int64)
    likes = [[dataset.item_ids[n] for n in beside[number]] for number in sorted(beside)]
    alone = 0
    if len(lonely):
        dataset, alone = without_items(dataset, lonely)
    content = changed(fitted.content)
    if likes:
        content = with_items(content, dataset.item_ids[known:], like=likes)
    left_out = {
        "that the recommender has already": had,
        "of new items that stand beside no known item": alone,
    }
    return replace(fitted, dataset=dataset, content=content, more=True), left_out
