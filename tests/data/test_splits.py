"""Leave-one-out uses every event of a history once; a split by time uses nothing from the future."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from data.packing import dataset
from hypothesis import assume, given
from hypothesis import strategies as st

from recblr.data import SPLITS, Dataset, Holdout, leave_one_out, split_by_time, split_dataset
from recblr.errors import InputError

DIGITS = [str(digit) for digit in range(10)]

# The events of four users as (item, time). The last tenth of the 20 events begins at time 19, and the tenth
# before it at time 17.
TIMED = [
    [(0, 1), (1, 2), (2, 3), (3, 17), (4, 18), (5, 20)],
    [(1, 4), (2, 5), (3, 6), (4, 7), (5, 8), (6, 9), (7, 10), (8, 19)],
    [(0, 11), (1, 12), (2, 13), (3, 14), (4, 15)],
    [(9, 16)],
]

EVENTS = st.lists(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=12), min_size=1, max_size=8
)


def timed(histories: list[list[tuple[int, int]]]) -> Dataset:
    ordered = [sorted(history, key=lambda event: event[1]) for history in histories]
    return dataset(
        [[item for item, _ in history] for history in ordered],
        items=DIGITS,
        times=[time for history in ordered for _, time in history],
    )


def asked(holdout: Holdout) -> dict[int, tuple[list[int], int]]:
    """{user: (history, next item)} for the users of a holdout."""
    assert holdout.users is not None
    return {
        int(user): (holdout.histories.history(s).tolist(), int(holdout.targets[s]))
        for s, user in enumerate(holdout.users)
    }


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=8), max_size=6))
def test_training_validation_and_test_make_up_the_history(histories: list[list[int]]) -> None:
    split = leave_one_out(dataset(histories, items=DIGITS))
    assert len(split.train) == len(histories)
    valid, test = asked(split.valid), asked(split.test)
    for s, history in enumerate(histories):
        assert split.train.history(s).tolist() == history[:-2]
        assert valid[s] == (history[:-2], history[-2])
        assert test[s] == (history[:-1], history[-1])


@given(
    st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=8), min_size=1, max_size=30),
    st.floats(0, 1, exclude_min=True),
)
def test_users_that_do_not_validate_train_on_one_more_event(
    histories: list[list[int]], valid_share: float
) -> None:
    split = leave_one_out(dataset(histories, items=DIGITS), valid_share=valid_share)
    valid, test = asked(split.valid), asked(split.test)
    assert len(valid) == max(1, round(valid_share * len(histories)))
    for s, history in enumerate(histories):
        assert split.train.history(s).tolist() == history[: -2 if s in valid else -1]
        assert test[s] == (history[:-1], history[-1])
    for s, question in valid.items():
        assert question == (histories[s][:-2], histories[s][-2])


def test_users_that_validate_are_spread_evenly() -> None:
    data = dataset([[1, 2, 3]] * 1000, items=DIGITS)
    assert list(asked(leave_one_out(data, valid_share=0.1).valid)) == list(range(0, 1000, 10))


@pytest.mark.parametrize("valid_share", [0, -0.1, 1.5, float("nan")])
def test_an_invalid_share_of_the_users_is_refused(valid_share: float) -> None:
    with pytest.raises(
        InputError, match=r"--valid-share .* is a share of the users, and it is .*such as 0.1"
    ):
        leave_one_out(dataset([[1, 2, 3]], items=DIGITS), valid_share=valid_share)


def test_a_user_with_two_events_is_named_with_both_remedies() -> None:
    says = r"user 'user1' of shop has 2 event\(s\).*--min-user-events 3 .*--keep-short \(keep_short=\)"
    with pytest.raises(InputError, match=says):
        leave_one_out(dataset([[1, 2, 3], [4, 5], [6]], items=DIGITS))


@given(
    st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=30),
    st.floats(0, 1, exclude_min=True),
)
def test_users_with_few_events_train_on_all_of_them_and_are_not_tested(
    histories: list[list[int]], valid_share: float
) -> None:
    tested = [s for s, history in enumerate(histories) if len(history) >= 3]
    assume(tested or not histories)
    split = leave_one_out(dataset(histories, items=DIGITS), valid_share=valid_share, keep_short=True)
    longer = leave_one_out(dataset([histories[s] for s in tested], items=DIGITS), valid_share=valid_share)
    for ours, theirs in ((split.valid, longer.valid), (split.test, longer.test)):
        assert asked(ours) == {tested[s]: question for s, question in asked(theirs).items()}
    assert len(split.train) == len(histories)
    train = {s: longer.train.history(number).tolist() for number, s in enumerate(tested)}
    for s, history in enumerate(histories):
        assert split.train.history(s).tolist() == train.get(s, history)


def test_somebody_must_have_enough_events_to_be_tested() -> None:
    with pytest.raises(InputError, match=r"no user of shop has the 3 events .*; give longer histories"):
        leave_one_out(dataset([[1, 2], [3]], items=DIGITS), keep_short=True)


def test_a_split_by_time_refuses_to_keep_short_users() -> None:
    with pytest.raises(InputError, match=r"--keep-short \(keep_short= in Python\) .*; leave it out"):
        split_dataset(timed(TIMED), "time", keep_short=True)
    kept = split_dataset(dataset([[1, 2, 3], [4]], items=DIGITS), keep_short=True)
    assert (len(kept.train), len(kept.test.targets)) == (2, 1)


def test_the_target_of_a_split_by_time_is_the_first_event_of_a_period() -> None:
    split = split_by_time(timed(TIMED))
    assert [split.train.history(s).tolist() for s in range(4)] == [
        [0, 1, 2],
        [1, 2, 3, 4, 5, 6, 7],
        [0, 1, 2, 3, 4],
        [9],
    ]
    assert asked(split.valid) == {0: ([0, 1, 2], 3)}
    assert asked(split.test) == {0: ([0, 1, 2, 3, 4], 5), 1: ([1, 2, 3, 4, 5, 6, 7], 8)}


def test_an_item_that_occurs_only_after_training_can_be_a_target() -> None:
    split = split_by_time(timed(TIMED))
    assert 8 not in split.train.items
    assert 8 in split.test.targets


def test_a_user_who_appears_after_training_has_an_empty_history_and_no_target() -> None:
    split = split_by_time(timed([*TIMED, [(7, 21), (8, 22)]]), valid_share=0.2, test_share=0.2)
    assert len(split.train) == 5
    assert split.train.history(4).size == 0
    assert asked(split.valid).keys() == {0, 2}
    assert asked(split.test).keys() == {0, 1}


@given(EVENTS, st.sampled_from([0.1, 0.25, 0.4]), st.sampled_from([0.1, 0.3, 0.5]))
def test_a_split_by_time_equals_its_definition(
    histories: list[list[tuple[int, int]]], valid_share: float, test_share: float
) -> None:
    moments = sorted(time for history in histories for _, time in history)
    assume(len(moments) >= 3)
    test_from = moments[-max(1, round(test_share * len(moments)))]
    valid_from = moments[-max(1, round((valid_share + test_share) * len(moments)))]

    def expected(start: float, end: float) -> dict[int, tuple[list[int], int]]:
        questions = {}
        for user, history in enumerate(histories):
            ordered = sorted(history, key=lambda event: event[1])
            before = [item for item, time in ordered if time < start]
            period = [item for item, time in ordered if start <= time < end]
            if before and period:
                questions[user] = (before, period[0])
        return questions

    valid, test = expected(valid_from, test_from), expected(test_from, 1000)
    if valid and test:
        split = split_by_time(timed(histories), valid_share=valid_share, test_share=test_share)
        assert (asked(split.valid), asked(split.test)) == (valid, test)
        assert split.train.items.size == sum(moment < valid_from for moment in moments)
    else:
        with pytest.raises(InputError, match="has events both before and in the"):
            split_by_time(timed(histories), valid_share=valid_share, test_share=test_share)


def test_a_larger_share_leaves_less_to_train_on() -> None:
    data = timed(TIMED)
    sizes = [split_by_time(data, valid_share=share).train.items.size for share in (0.1, 0.2, 0.4)]
    assert all(more > less for more, less in pairwise(sizes))


@pytest.mark.parametrize(
    ("shares", "says"),
    [
        ({"test_share": 0}, r"--test-share .* is 0; give a number between 0 and 1"),
        ({"valid_share": 1}, "--valid-share"),
        ({"valid_share": float("nan")}, "is nan"),
        ({"valid_share": 0.5, "test_share": 0.5}, "0.5 and 0.5, leave nothing to train on"),
    ],
)
def test_invalid_shares_of_the_events_are_refused(shares: dict[str, float], says: str) -> None:
    with pytest.raises(InputError, match=says):
        split_by_time(timed(TIMED), **shares)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (
            dataset([[1, 2, 3]], items=DIGITS),
            r"shop has no times to split by; .*--time-column.*leave-one-out",
        ),
        (timed([[(1, 1), (2, 2)]]), r"has 2 event\(s\)"),
        (timed([[(1, 5), (2, 5), (3, 5), (4, 5)]]), r"no user .* in the validation period.*--valid-share"),
        (timed([[(1, 1), (2, 2)], [(3, 3)]]), "in the validation period"),
        (timed([[(1, n) for n in range(9)], [(2, 20)]]), "in the test period.*--test-share"),
    ],
)
def test_data_that_cannot_be_split_by_time_are_refused(data: Dataset, says: str) -> None:
    with pytest.raises(InputError, match=says):
        split_by_time(data)


def test_split_dataset_chooses_the_split_by_name() -> None:
    data = timed(TIMED[:2])
    by_name = {how: asked(split_dataset(data, how).test) for how in SPLITS}
    assert by_name == {
        "leave-one-out": asked(leave_one_out(data).test),
        "time": asked(split_by_time(data).test),
    }
    assert asked(split_dataset(data).test) == by_name["leave-one-out"]
    later = split_dataset(data, "time", valid_share=0.3, test_share=0.2)
    assert asked(later.test) == asked(split_by_time(data, valid_share=0.3, test_share=0.2).test)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(InputError, match="no split 'random'; choose one of leave-one-out, time"):
        split_dataset(timed(TIMED), "random")


def test_a_test_share_is_only_for_a_split_by_time() -> None:
    with pytest.raises(InputError, match=r"--test-share .* choose --split time"):
        split_dataset(timed(TIMED), test_share=0.2)


@pytest.mark.parametrize("how", SPLITS)
@pytest.mark.parametrize("unit", ["s", "ms"])
def test_targets_are_asked_for_at_their_times_in_seconds(how: str, unit: str) -> None:
    log = replace(timed(TIMED[:3]), time_unit=unit)
    assert log.times is not None
    second = {"s": 1, "ms": 1000}[unit]
    time_of = {(user, item): time / second for user, events in enumerate(TIMED) for item, time in events}
    split = split_dataset(log, how)
    assert split.train.times is not None
    assert split.train.request_times is None
    owners = np.repeat(np.arange(3), split.train.lengths)
    expected = [time_of[pair] for pair in zip(owners.tolist(), split.train.items.tolist(), strict=True)]
    assert split.train.times.tolist() == expected
    for holdout in (split.valid, split.test):
        assert holdout.users is not None
        assert holdout.histories.request_times is not None
        pairs = zip(holdout.users.tolist(), holdout.targets.tolist(), strict=True)
        assert holdout.histories.request_times.tolist() == [time_of[pair] for pair in pairs]


def test_without_a_unit_there_are_no_times_in_a_split() -> None:
    split = split_dataset(timed(TIMED), "time")
    assert split.train.times is None
    assert split.test.histories.request_times is None
