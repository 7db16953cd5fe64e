"""How often users take what they have taken before."""

import math

import numpy as np

from recblr.data.packed import Packed


def repeat_log_odds(histories: Packed, num_items: int) -> float:
    """By how much the log-odds of items that a user already has exceed those of a draw at random.

    Of every event but the first of each history, what came before is known: the share of such events that
    repeat an earlier one (one more of either kind being added, so that none and all have log-odds too), and
    the share of the catalogue that the user had by then, which is how often a draw at random would.

    histories: of at least one event that is not the first of its history, else 0 is returned.
    num_items: size of the catalogue.
    """
    items, lengths = histories.items, histories.lengths
    owner = np.repeat(np.arange(len(histories)), lengths)
    order = np.lexsort((items, owner))  # stable: the earliest of equal ones comes first
    again = np.zeros(items.size, dtype=np.bool_)
    again[order[1:]] = (np.diff(items[order]) == 0) & (np.diff(owner[order]) == 0)
    new = (~again).astype(np.int64)
    held = np.cumsum(new) - new  # distinct items before each event, of all histories so far
    held -= np.repeat(held[histories.offsets[:-1][lengths > 0]], lengths[lengths > 0])
    targets = np.ones(items.size, dtype=np.bool_)
    targets[histories.offsets[:-1][lengths > 0]] = False
    count = int(targets.sum())
    if count == 0:
        return 0.0
    by_chance = min(float(held[targets].mean()) / num_items, 0.5)
    repeated = (float(again.sum()) + 1) / (count + 2)
    return math.log(repeated / (1 - repeated)) - math.log(by_chance / (1 - by_chance))
