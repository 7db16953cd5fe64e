"""Packed histories equal lists of histories, also after selecting and trimming."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from data.packing import pack, unpack
from hypothesis import given
from hypothesis import strategies as st

from recblr.data.packed import Packed, repeat_log_odds

HISTORIES = st.lists(st.lists(st.integers(0, 9), max_size=6), max_size=8)


@given(HISTORIES)
def test_packing_loses_nothing(histories: list[list[int]]) -> None:
    packed = pack(histories)
    assert unpack(packed) == histories
    assert packed.lengths.tolist() == [len(history) for history in histories]


@given(HISTORIES, st.data())
def test_select_gives_the_chosen_histories_in_their_order(
    histories: list[list[int]], data: st.DataObject
) -> None:
    index = st.integers(0, max(len(histories) - 1, 0))
    chosen = data.draw(st.lists(index, max_size=10 if histories else 0))
    selected = pack(histories).select(np.array(chosen, dtype=np.int64))
    assert unpack(selected) == [histories[s] for s in chosen]


@given(HISTORIES, st.data())
def test_a_mask_selects_the_histories_at_which_it_is_true(
    histories: list[list[int]], data: st.DataObject
) -> None:
    mask = data.draw(st.lists(st.booleans(), min_size=len(histories), max_size=len(histories)))
    selected = pack(histories).select(np.array(mask, dtype=np.bool_))
    assert unpack(selected) == [history for history, wanted in zip(histories, mask, strict=True) if wanted]


@given(st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=6), max_size=8))
def test_trimming_drops_the_ends_of_every_history(histories: list[list[int]]) -> None:
    assert unpack(pack(histories).trimmed(first=1, last=2)) == [history[1:-2] for history in histories]


@given(HISTORIES, st.data())
def test_heads_are_the_oldest_events_of_every_history(
    histories: list[list[int]], data: st.DataObject
) -> None:
    lengths = [data.draw(st.integers(0, len(history))) for history in histories]
    heads = pack(histories).heads(np.array(lengths, dtype=np.int64))
    assert unpack(heads) == [history[:n] for history, n in zip(histories, lengths, strict=True)]


@pytest.mark.parametrize("lengths", [[1], [1, 2], [-1, 0]])
def test_wrong_lengths_of_heads_are_refused(lengths: list[int]) -> None:
    with pytest.raises(ValueError, match="from 0 to the history's length"):
        pack([[1, 2], [3]]).heads(np.array(lengths))


@given(HISTORIES, st.integers(0, 8))
def test_latest_keeps_the_newest_events_of_every_history(histories: list[list[int]], length: int) -> None:
    newest = [history[max(0, len(history) - length) :] for history in histories]
    assert unpack(pack(histories).latest(length)) == newest


@given(HISTORIES)
def test_all_events_but_the_first_of_a_history_have_a_past(histories: list[list[int]]) -> None:
    expected = [place > 0 for history in histories for place in range(len(history))]
    assert pack(histories).has_past.tolist() == expected


@given(HISTORIES, st.integers(0, 9))
def test_a_mask_is_counted_in_each_history(histories: list[list[int]], item: int) -> None:
    packed = pack(histories)
    assert packed.count(packed.items == item).tolist() == [history.count(item) for history in histories]


def test_a_history_is_a_view() -> None:
    packed = pack([[1, 2], [3]])
    assert np.shares_memory(packed.history(1), packed.items)


def test_trimming_more_events_than_a_history_has_is_refused() -> None:
    with pytest.raises(ValueError, match="history 1 has 1 events"):
        pack([[1, 2], [3]]).trimmed(last=2)


@pytest.mark.parametrize("wrong", [[2], [-1], [0, 5]])
def test_selecting_a_missing_history_is_refused(wrong: list[int]) -> None:
    with pytest.raises(IndexError, match=r"indices must lie in 0\.\.1"):
        pack([[1], [2]]).select(np.array(wrong))


def test_a_mask_of_another_length_is_refused() -> None:
    with pytest.raises(IndexError, match="mask"):
        pack([[1], [2]]).select(np.array([True]))


@pytest.mark.parametrize("s", [-1, 2])
def test_a_history_outside_the_range_is_refused(s: int) -> None:
    with pytest.raises(IndexError, match="no history"):
        pack([[1], [2]]).history(s)


@pytest.mark.parametrize(
    ("offsets", "message"),
    [([0, 2], "end at 3"), ([1, 3], "start at 0"), ([], "start at 0"), ([0, 2, 1, 3], "never fall")],
)
def test_offsets_must_rise_from_zero_to_the_number_of_events(offsets: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Packed(np.arange(3), np.array(offsets, dtype=np.int64))


@pytest.mark.parametrize("items", [np.zeros(2, dtype=np.int32), np.zeros((1, 2), dtype=np.int64)])
def test_items_must_be_one_dimensional_int64(items: np.ndarray) -> None:
    with pytest.raises(ValueError, match="items must be a one-dimensional int64 array"):
        Packed(items, np.array([0, 2]))


def log_odds_with_sets(histories: list[list[int]], num_items: int) -> float:
    """The definition of repeat_log_odds, in plain Python."""
    targets = repeats = held = 0
    for history in histories:
        for t in range(1, len(history)):
            targets += 1
            repeats += history[t] in history[:t]
            held += len(set(history[:t]))
    if not targets:
        return 0.0
    share, by_chance = (repeats + 1) / (targets + 2), min(held / targets / num_items, 0.5)
    return math.log(share / (1 - share)) - math.log(by_chance / (1 - by_chance))


@given(st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.lists(st.lists(st.integers(0, n - 1))))))
def test_log_odds_of_repeats_equal_a_count_with_sets(problem: tuple[int, list[list[int]]]) -> None:
    num_items, histories = problem
    expected = log_odds_with_sets(histories, num_items)
    assert repeat_log_odds(pack(histories), num_items) == pytest.approx(expected)


def test_log_odds_are_negative_if_no_item_repeats_and_positive_if_all_do() -> None:
    never, always = [list(range(20))] * 99, [[3] * 20] * 9
    assert repeat_log_odds(pack(never), 1000) < -2
    assert repeat_log_odds(pack(always), 1000) > 10


def with_times(histories: list[list[int]]) -> Packed:
    """Histories of different items. The time of each event, and each request time, follow from its item."""
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    items = np.arange(lengths.sum())
    packed = Packed.from_lengths(items, lengths, items * 1.5)
    return packed.asked_at(packed.offsets[1:] * 1.5)


@given(HISTORIES, st.integers(0, 3))
def test_times_travel_with_their_events(histories: list[list[int]], length: int) -> None:
    packed = with_times(histories)
    lengths = np.minimum(packed.lengths, length)
    mask = packed.lengths != length
    for part in (
        packed.select(mask),
        packed.heads(lengths),
        packed.latest(length),
        packed.select(packed.lengths >= length).trimmed(last=length),
        packed.pieces(packed.offsets[:-1], lengths),
    ):
        assert part.times is not None
        assert part.times.tolist() == (part.items * 1.5).tolist()


@given(HISTORIES, st.integers(0, 3))
def test_request_times_stay_with_the_ends_of_histories(histories: list[list[int]], length: int) -> None:
    packed = with_times(histories)
    assert packed.request_times is not None
    mask = packed.lengths != length
    chosen, latest = packed.select(mask).request_times, packed.latest(length).request_times
    assert chosen is not None
    assert latest is not None
    assert chosen.tolist() == packed.request_times[mask].tolist()
    assert latest.tolist() == packed.request_times.tolist()
    assert packed.heads(packed.lengths).request_times is None


@pytest.mark.parametrize(
    ("times", "request_times", "message"),
    [
        (np.zeros(3), None, "times must have a finite number for each event, 2 in total"),
        (np.array([0.0, np.nan]), None, "times must have a finite number for each event"),
        (np.zeros(2, dtype=np.float32), None, "times must be a one-dimensional float64 array, not float32"),
        (None, np.zeros(2), "request_times must have a finite number for each history, 1 in total"),
        (None, [0.0], "request_times must be a one-dimensional float64 array, not a list"),
    ],
)
def test_times_that_do_not_fit_are_refused(times: Any, request_times: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Packed(np.arange(2), np.array([0, 2]), times, request_times)


def test_owners_and_last_times() -> None:
    packed = Packed(np.array([5, 6, 7]), np.array([0, 2, 2, 3]), np.array([1.0, 2, 3]))
    assert packed.owners.tolist() == [0, 0, 2]
    with pytest.raises(ValueError, match="one event or more, with times"):
        _ = packed.last_times
    with pytest.raises(ValueError, match="one event or more, with times"):
        _ = replace(packed, times=None).last_times
    assert packed.select(np.array([2, 0])).last_times.tolist() == [3, 2]
