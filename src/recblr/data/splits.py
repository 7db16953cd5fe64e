"""Splits a dataset into training, validation and test: by the last events of each user, or by time."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from recblr.data.dataset import Dataset
from recblr.data.packed import Int64Array, Numbers, Packed
from recblr.errors import InputError

SPLITS = ("leave-one-out", "time")

TESTED_EVENTS = 3
"""The fewest events of a user that leave-one-out tests: one to train on, one to validate, one to test."""


@dataclass(frozen=True, eq=False)
class Holdout:
    """S histories whose next item a model has to find.

    histories: their request times are the times of the targets, if times are known.
    targets: (S,) int64, the next item of each history.
    users: (S,) int64, the index in the dataset of each history's user; None if it is not needed.
    """

    histories: Packed
    targets: Int64Array
    users: Int64Array | None = None


@dataclass(frozen=True, eq=False)
class Split:
    """The three parts of a dataset.

    train: one history for each user of the dataset; it may be empty.
    valid, test: later events of all users or of some, each with the history before it.
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
    keep_short: bool = False,
) -> Split:
    """Split a dataset by `how`, one of SPLITS: see leave_one_out and split_by_time.

    valid_share: a share of the users ("leave-one-out") or of the events ("time"); None for the default.
    test_share: a share of the events, only for "time"; None for the default.
    keep_short: only for "leave-one-out": users with fewer than 3 events train and are not tested.

    Raises InputError for another `how`, for an option that the split does not take, and for data that it
    cannot split.
    """
    shares = {"valid_share": valid_share, "test_share": test_share}
    given = {name: share for name, share in shares.items() if share is not None}
    if how == "time":
        if keep_short:
            raise InputError(
                "--keep-short (keep_short= in Python) goes with the split leave-one-out only: a split by "
                "time refuses no user",
                "leave it out, or choose --split leave-one-out",
            )
        return split_by_time(dataset, **given)
    if how != "leave-one-out":
        raise InputError(f"there is no split {how!r}", f"choose one of {', '.join(SPLITS)}")
    if test_share is not None:
        raise InputError(
            "--test-share (test_share= in Python) goes with a split by time only, and this split is "
            "leave-one-out",
            "leave it out, or choose --split time",
        )
    return leave_one_out(dataset, keep_short=keep_short, **given)


def leave_one_out(dataset: Dataset, *, valid_share: float = 1.0, keep_short: bool = False) -> Split:
    """Test on the last event of each user, validate on the one before it, and train on the rest.

    valid_share: the share of the users that validate. They are spread evenly over all users, and are the same
        for the same data. The other users train on the event before their last one too.
    keep_short: users with fewer than 3 events train on all of them, and have no validation or test target.
        The users that validate are then a share of the other users.

    The order of the users stays the same. The test history ends with the validation target, because
    everything before the test target is known then. Raises InputError for a share outside (0, 1], and for a
    user with fewer than 3 events, whom it names; with keep_short, if no user has 3.
    """
    if not 0 < valid_share <= 1:
        raise InputError(
            f"--valid-share (valid_share= in Python) is a share of the users, and it is {valid_share:g}",
            "give a number above 0 and up to 1, such as 0.1",
        )
    histories = _with_times(dataset)
    lengths = histories.lengths
    short = lengths < TESTED_EVENTS
    if short.any() and not keep_short:
        first = int(np.argmax(short))
        raise InputError(
            f"user {dataset.user_ids[first]!r} of {dataset.name} has {lengths[first]} event(s), but "
            f"training, validation and test need {TESTED_EVENTS}",
            f"drop such users with --min-user-events {TESTED_EVENTS} (min_user_events= in Python), or let "
            "them train without a test with --keep-short (keep_short=)",
        )
    if lengths.size and short.all():
        raise InputError(
            f"no user of {dataset.name} has the {TESTED_EVENTS} events that training, validation and test "
            "need",
            "give longer histories",
        )
    tested = np.flatnonzero(~short)
    count = min(tested.size, max(1, round(valid_share * tested.size)))
    validating = tested[np.arange(count) * tested.size // count]
    held_out = np.where(short, 0, 1)
    held_out[validating] = 2
    train = histories.heads(lengths - held_out)
    return Split(
        train,
        _holdout(histories, lengths - 2, validating),
        _holdout(histories, lengths - 1, tested),
    )


def _with_times(dataset: Dataset) -> Packed:
    """The histories of the dataset with the times of their events in seconds, if they are known."""
    return replace(dataset.histories, times=dataset.seconds)


def _holdout(histories: Packed, before: Int64Array, users: Int64Array) -> Holdout:
    """For each user (M,) of S histories, the event after the first before[user] events; before is (S,)."""
    starts = histories.offsets[:-1][users]
    targets = starts + before[users]
    past = histories.pieces(starts, before[users])
    if histories.times is not None:
        past = past.asked_at(histories.times[targets])
    return Holdout(past, histories.items[targets], users)


def split_by_time(dataset: Dataset, *, valid_share: float = 0.1, test_share: float = 0.1) -> Split:
    """Train on the events before a moment that is the same for all users, and test on the events after it.

    The last test_share of all events (0.1: a tenth) are the test period. The valid_share before them are the
    validation period. All earlier events train. An event at the moment when a period begins belongs to that
    period. The target of a user in a period is the first event there. Its history is all events of the user
    before the period. Users without events before the period, or without events in it, have no target there.
    Items that occur only after the training stay in the catalogue, as candidates and as targets.

    This follows Gusak et al., "Time to Split" (RecSys 2025, arXiv 2507.16289): the global temporal split with
    first targets and validation by time. One thing differs: their validation share is a share of the events
    before the test period.

    Leave-one-out trains on events that are later than some of its targets. This split uses nothing from the
    future, like a model that is trained today and serves from tomorrow. Its figures do not compare with those
    of leave-one-out. First targets follow a pause more often than other events do, and users who come rarely
    count as much as users who come often.

    Raises InputError if the dataset has no times, if no events remain for training, or if a period has no
    target.
    """
    if dataset.times is None:
        raise InputError(
            f"{dataset.name} has no times to split by",
            "read it with a time column (--time-column, time= in Python), or choose the split leave-one-out",
        )
    for name, share in (("valid_share", valid_share), ("test_share", test_share)):
        if not 0 < share < 1:
            raise InputError(
                f"--{name.replace('_', '-')} ({name}= in Python) is a share of the events, and it is "
                f"{share:g}",
                "give a number between 0 and 1, such as 0.1",
            )
    if valid_share + test_share >= 1:
        raise InputError(
            f"the validation and test shares, {valid_share:g} and {test_share:g}, leave nothing to train on",
            "lower --valid-share or --test-share (valid_share=, test_share= in Python)",
        )
    if dataset.num_interactions < 3:
        raise InputError(
            f"{dataset.name} has {dataset.num_interactions} event(s), but training, validation and test "
            "need 3",
            "give a longer log",
        )
    histories, moments = _with_times(dataset), np.sort(dataset.times)
    before_valid = histories.count(dataset.times < _start(moments, valid_share + test_share))
    before_test = histories.count(dataset.times < _start(moments, test_share))
    return Split(
        histories.heads(before_valid),
        _first_after(before_valid, before_test, histories, "validation", dataset.name),
        _first_after(before_test, histories.lengths, histories, "test", dataset.name),
    )


def _start(moments: Numbers, share: float) -> float:
    """The moment at which the last `share` of the sorted moments begins."""
    start: float = moments[-max(1, round(share * moments.size))]
    return start


def _first_after(before: Int64Array, until: Int64Array, histories: Packed, period: str, name: str) -> Holdout:
    """The first event of each user in a period, with the history before it.

    The events of history s in the period are those from before[s] up to until[s]. Users without events before
    the period or in it are left out.

    name: the name of the dataset.
    """
    users = np.flatnonzero((before > 0) & (until > before))
    if not users.size:
        flag = "valid" if period == "validation" else period
        raise InputError(
            f"no user of {name} has events both before and in the {period} period",
            f"choose a larger --{flag}-share ({flag}_share= in Python), or the split leave-one-out",
        )
    return _holdout(histories, before, users)
