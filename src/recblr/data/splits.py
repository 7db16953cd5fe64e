"""What trains, what validates and what tests: by each user's last events, or by the clock."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recblr.data.dataset import Dataset
from recblr.data.packed import Int64Array, Numbers, Packed
from recblr.errors import InputError

SPLITS = ("leave-one-out", "time")


@dataclass(frozen=True, eq=False)
class Holdout:
    """What is asked of a model: given histories, S of them, which is the next item?

    targets: (S,) int64, the item that came next in each history.
    users: (S,) int64, the index in the dataset of each history's user; None where nobody has to know.
    """

    histories: Packed
    targets: Int64Array
    users: Int64Array | None = None


@dataclass(frozen=True, eq=False)
class Split:
    """train: a history for each user of the dataset, perhaps empty; valid, test: later events of theirs, each
    after all that was known before it, for all users or some.
    """

    train: Packed
    valid: Holdout
    test: Holdout


def split_dataset(
    dataset: Dataset,
    how: str = "leave-one-out",
    *,
    valid_share: float | None = None,
    test_share: float | None = None,
) -> Split:
    """Split a dataset the way that `how`, one of SPLITS, says: see leave_one_out and split_by_time.

    valid_share: of users or of events, as the split has it; None for its default.
    test_share: for "time" only; None for the default of split_by_time.
    Raises InputError for another `how`, shares that do not go with it, and data that cannot be split so.
    """
    shares = {"valid_share": valid_share, "test_share": test_share}
    given = {name: share for name, share in shares.items() if share is not None}
    if how == "time":
        return split_by_time(dataset, **given)
    if how != "leave-one-out":
        raise InputError(f"there is no split {how!r}: choose one of {', '.join(SPLITS)}")
    if test_share is not None:
        raise InputError(
            "--test-share (test_share= in Python) goes with a split by time, and this one is leave-one-out: "
            "leave it out, or choose --split time"
        )
    return leave_one_out(dataset, **given)


def leave_one_out(dataset: Dataset, *, valid_share: float = 1.0) -> Split:
    """Each user's last event tests, the one before it validates, the rest trains; the order of users stays.

    valid_share: of all users, how many validate; the others' last event but one trains too. They are spread
        evenly over the users, the same for the same data.

    The test history ends with the validation target: at test time everything before the target is known.
    Raises InputError where a user has fewer than 3 events, who is named, and for a share outside (0, 1].
    """
    if not 0 < valid_share <= 1:
        raise InputError(
            f"--valid-share (valid_share= in Python) is a share of the users and is {valid_share:g}: give a "
            "number above 0 and up to 1, such as 0.1"
        )
    histories = dataset.histories
    lengths = histories.lengths
    if (lengths < 3).any():
        short = int(np.argmax(lengths < 3))
        raise InputError(
            f"user {dataset.user_ids[short]!r} of {dataset.name} has {lengths[short]} event(s), and to "
            "train, validate and test takes 3: drop such users with --k-core 3 or more (k_core= in Python)"
        )
    ends = histories.offsets[1:]
    users = len(histories)
    asked = min(users, max(1, round(valid_share * users)))
    validating = np.arange(asked) * users // asked
    held_out = np.ones(users, dtype=np.int64)
    held_out[validating] = 2
    train, known = histories.heads(lengths - held_out), histories.trimmed(last=1)
    return Split(
        train,
        Holdout(train.select(validating), histories.items[ends[validating] - 2], validating),
        Holdout(known, histories.items[ends - 1], np.arange(users)),
    )


def split_by_time(dataset: Dataset, *, valid_share: float = 0.1, test_share: float = 0.1) -> Split:
    """Train on what was before one moment, the same for all users, and test on what came after it.

    The last test_share of all events (0.1: a tenth) lie in the test period, the valid_share before them in
    the validation period, the rest trains; events at the very moment where a period begins belong to it. A
    user's target in a period is the first event there, after a history of all events before the period.
    Users without events on both sides are not asked about, as there is nothing to go by or nothing to
    hit; items that appear only after training stay in the catalogue, as candidates and as targets.

    This follows the global temporal split with first targets and validation by time of Gusak et al., "Time to
    Split" (RecSys 2025, arXiv 2507.16289); theirs takes the validation share of what precedes the test.
    Leave-one-out trains on events that happened after some of its targets; here nothing of the future leaks,
    which is what a model meets that is trained today and serves from tomorrow. First targets follow a pause
    more often than other events do, and those who come rarely count as much as regulars, so figures do not
    compare with leave-one-out's.

    Raises InputError where the dataset has no times, the shares leave nothing to train on, or a period has
    no target.
    """
    if dataset.times is None:
        raise InputError(
            f"{dataset.name} has no times to split by: read it with a time column (--time-column, time= in "
            "Python), or choose the split leave-one-out"
        )
    for name, share in (("valid_share", valid_share), ("test_share", test_share)):
        if not 0 < share < 1:
            raise InputError(
                f"--{name.replace('_', '-')} ({name}= in Python) is a share of the events and is {share:g}: "
                "give a number between 0 and 1, such as 0.1"
            )
    if valid_share + test_share >= 1:
        raise InputError(
            f"the validation and test shares, {valid_share:g} and {test_share:g}, leave nothing to train on: "
            "lower --valid-share or --test-share (valid_share=, test_share= in Python)"
        )
    if dataset.num_interactions < 3:
        raise InputError(
            f"{dataset.name} has {dataset.num_interactions} event(s), and to train, validate and test takes 3"
        )
    moments = np.sort(dataset.times)
    before_valid = dataset.histories.count(dataset.times < _start(moments, valid_share + test_share))
    before_test = dataset.histories.count(dataset.times < _start(moments, test_share))
    return Split(
        dataset.histories.heads(before_valid),
        _first_after(before_valid, before_test, dataset, "validation"),
        _first_after(before_test, dataset.histories.lengths, dataset, "test"),
    )


def _start(moments: Numbers, share: float) -> float:
    """When the last `share` of the sorted moments begins."""
    start: float = moments[-max(1, round(share * moments.size))]
    return start


def _first_after(before: Int64Array, until: Int64Array, dataset: Dataset, period: str) -> Holdout:
    """The event at place before[s] of each history, where the period from before[s] to until[s] has one."""
    histories = dataset.histories
    users = np.flatnonzero((before > 0) & (until > before))
    if not users.size:
        flag = "valid" if period == "validation" else period
        raise InputError(
            f"no user of {dataset.name} has events both before and in the {period} period: give it a larger "
            f"share with --{flag}-share ({flag}_share= in Python), or choose the split leave-one-out"
        )
    targets = histories.items[histories.offsets[users] + before[users]]
    return Holdout(histories.heads(before).select(users), targets, users)
