"""Two simple models without training.  A trained model is useful only if it is better than both.

`popular` ignores the history, and `successor` uses only its last item.
"""

import numpy as np
import numpy.typing as npt
import torch

from recblr.data.packed import Packed, ranges
from recblr.evaluation.ranking import Scorer, check_catalogue, check_items


def popular(train: Packed, num_items: int) -> Scorer:
    """Score every item by how often it occurs in `train`, for any history.

    The scorer returns (S, num_items) float64, a read-only view that repeats one row.

    Raises InputError if `train` holds items outside [0, num_items).
    """
    row = torch.from_numpy(_popularity(train, num_items))

    def score(histories: Packed) -> torch.Tensor:
        return row.expand(len(histories), num_items)

    return score


def successor(train: Packed, num_items: int) -> Scorer:
    """Score every item by how often it directly follows the last item of the history in `train`.

    Popularity, scaled below 1, is added.  It breaks ties, orders the items that never follow, and alone
    scores an empty history.  The scorer returns (S, num_items) float64.

    Raises InputError if `train` holds items outside [0, num_items).  The scorer raises it for the last items.
    """
    popularity = _popularity(train, num_items)
    # float64, because float32 would lose the popularity next to counts of a few thousand.
    base = popularity / (popularity.max() + 1.0)
    starts, followers, counts = _count_successors(train, num_items)

    def score(histories: Packed) -> torch.Tensor:
        scores = np.tile(base, (len(histories), 1))
        rows = np.flatnonzero(histories.lengths > 0)
        last = histories.items[histories.offsets[1:][rows] - 1]
        check_items(last, num_items, "last items")
        widths = starts[last + 1] - starts[last]
        entries = ranges(starts[last], widths)
        scores[np.repeat(rows, widths), followers[entries]] += counts[entries]
        return torch.from_numpy(scores)

    return score


def _popularity(train: Packed, num_items: int) -> npt.NDArray[np.float64]:
    check_catalogue(num_items)
    check_items(train.items, num_items, "train.items")
    return np.bincount(train.items, minlength=num_items).astype(np.float64)


def _count_successors(
    train: Packed, num_items: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """starts, followers, counts, as compressed sparse rows.

    followers[starts[v]:starts[v+1]] are the distinct items that directly follow item v.
    """
    lengths = train.lengths
    inner = np.maximum(lengths - 1, 0)
    first = ranges(train.offsets[:-1], inner)
    pairs = train.items[first] * num_items + train.items[first + 1]
    unique, counts = np.unique(pairs, return_counts=True)
    starts = np.searchsorted(unique, np.arange(num_items + 1) * num_items)
    return starts, unique % num_items, counts
