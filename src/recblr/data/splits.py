"""Leave-one-out: each user's last event tests, the one before it validates, the rest trains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recblr.data.dataset import Dataset
from recblr.data.packed import Int64Array, Packed
from recblr.errors import InputError


@dataclass(frozen=True, eq=False)
class Holdout:
    """What is asked of a model: given histories, S of them, which is the next item?

    targets: (S,) int64, the item that came next in each history.
    """

    histories: Packed
    targets: Int64Array


@dataclass(frozen=True, eq=False)
class Split:
    """train: every history without its last two events; valid, test: those two, each after all before it."""

    train: Packed
    valid: Holdout
    test: Holdout


def leave_one_out(dataset: Dataset) -> Split:
    """Split every user's history; the order of the users stays.

    The test history ends with the validation target: at test time everything before the target is known.
    Raises InputError, which names the user, where a user has fewer than 3 events.
    """
    histories = dataset.histories
    lengths = histories.lengths
    if (lengths < 3).any():
        short = int(np.argmax(lengths < 3))
        raise InputError(
            f"user {dataset.user_ids[short]!r} of {dataset.name} has {lengths[short]} event(s), and to "
            "train, validate and test takes 3: drop such users with --k-core 3 or more (k_core= in Python)"
        )
    ends = histories.offsets[1:]
    train = histories.trimmed(last=2)
    valid = Holdout(train, histories.items[ends - 2])
    test = Holdout(histories.trimmed(last=1), histories.items[ends - 1])
    return Split(train, valid, test)
