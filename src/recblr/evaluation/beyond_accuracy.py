"""What a hit rate does not say of lists: how much of the catalogue they show, and how popular it is.

All figures are of the lists that users would get, without the items that they have.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from recblr.data.packed import Packed
from recblr.evaluation.bootstrap import mean_interval
from recblr.evaluation.ranking import Ranks, users_metric
from recblr.serving.filters import users_of_items

K = 10
"""The length of the lists."""


@dataclass(frozen=True)
class Popularity:
    """How popular each item is in the training.

    users: (V,) int64, the number of users who have the item, at least 1.
    events: (V,) int64, its events.
    active: the users with an event.
    """

    users: npt.NDArray[np.int64]
    events: npt.NDArray[np.int64]
    active: int

    @classmethod
    def of(cls, train: Packed, num_items: int) -> Self:
        """That of histories of items in [0, num_items)."""
        return cls(
            np.maximum(users_of_items(train, num_items), 1),
            np.bincount(train.items, minlength=num_items),
            int(np.count_nonzero(train.lengths)),
        )


def beyond_accuracy(lists: npt.NDArray[np.int64], known: Popularity, *, k: int = K) -> dict[str, float]:
    """Coverage, novelty and popularity of lists (S, k) of items; -1 is no item.

    coverage@k: the share of the catalogue that is in at least one list.
    novelty@k: how rare the items are in the training, as the mean over all places of all lists of
        -log2(share of the users who have the item).  An item without users counts as if it had one.
    popularity@k: how many times as many events the items have as those that people choose: the mean number of
        training events of the items in the lists, divided by that of the items of the training events.

    Lists without any item have only a coverage, which is 0.
    """
    shown, events = lists[lists >= 0], known.events
    result = {f"coverage@{k}": np.unique(shown).size / events.size}
    if shown.size and known.active:
        result[f"novelty@{k}"] = float(-np.log2(known.users[shown] / known.active).mean())
        chosen = (events / events.sum()) @ events
        result[f"popularity@{k}"] = float(events[shown].mean() / chosen)
    return result


def beyond_simple(
    targets: npt.NDArray[np.int64],
    ours: npt.NDArray[np.int64],
    simple: Sequence[npt.NDArray[np.int64]],
) -> dict[str, float]:
    """How often lists are right where those of simple models are, and where not; shares of the users.

    A list is right if the target of its user is in it.  targets: (S,); ours, and each of `simple`: (S, k).

    simple@k: users for whom the list of at least one of the simple models is right.
    beyond-simple@k: users for whom ours is right, and none of theirs.
    """
    right, *theirs = ((lists == targets[:, None]).any(1) for lists in (ours, *simple))
    known = np.any(theirs, axis=0)
    k = ours.shape[1]
    return {f"simple@{k}": float(known.mean()), f"beyond-simple@{k}": float((right & ~known).mean())}


def intervals(ranks: Ranks, *, k: int = K) -> Mapping[str, Mapping[str, dict[str, float]]]:
    """{masking: {metric: {"low", "high"}}}: 95 % intervals of HR@k and NDCG@k over resamples of users."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for masking, those in (("unmasked", ranks.unmasked), ("masked", ranks.masked)):
        result[masking] = {}
        for metric in ("hr", "ndcg"):
            low, high = mean_interval(users_metric(those, metric, k))
            result[masking][f"{metric}@{k}"] = {"low": low, "high": high}
    return result
