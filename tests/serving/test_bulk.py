"""Lists in bulk are those of single requests, in any parts, and the engine's own users stay as they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving.engines import (
    BY_NAME,
    CASES,
    IDS,
    NUM_ITEMS,
    START,
    Case,
    assert_near,
    cleared,
    everything,
    fresh,
    model_of,
)

from recblr.data import Packed
from recblr.errors import InputError
from recblr.serving import bulk, recommend_in_bulk, recommend_many, recommendations
from recblr.serving.engine import Engine

K = 7


def histories_of(lengths: list[int], seed: int, *, timed: bool, requests: bool) -> Packed:
    rng = np.random.default_rng(seed)
    packed = Packed.from_lengths(rng.integers(0, NUM_ITEMS, sum(lengths)), np.array(lengths))
    if not timed:
        return packed
    packed = replace(packed, times=START + rng.choice([0, 60, 86400.5], sum(lengths)).cumsum())
    last = packed.times[packed.offsets[1:] - 1] if packed.times is not None else None
    return packed.asked_at(last + rng.integers(0, 10**5, len(lengths))) if requests else packed


def one_by_one(engine: Engine, histories: Packed, k: int, **filters: object) -> list[list[tuple[int, float]]]:
    found = []
    for s, (first, last) in enumerate(zip(histories.offsets[:-1], histories.offsets[1:], strict=True)):
        items = [IDS[item] for item in histories.items[first:last]]
        times = None if histories.times is None else histories.times[first:last]
        asked = None if histories.request_times is None else float(histories.request_times[s])
        best = engine.recommend_history(items, k, times=times, time=asked, **filters)  # type: ignore[arg-type]
        found.append([(IDS.index(item), score) for item, score in best])
    return found


def in_bulk(engine: Engine, histories: Packed, k: int, **filters: object) -> list[list[tuple[int, float]]]:
    found, users = [], []
    for part in recommend_in_bulk(engine, histories, k, **filters):  # type: ignore[arg-type]
        assert part.items.shape == part.scores.shape == (len(part.users), k)
        assert (part.items.dtype, part.scores.dtype) == (np.int64, np.float32)
        assert ((part.items == -1) == np.isnan(part.scores)).all()
        users += part.users.tolist()
        for items, scores in zip(part.items.tolist(), part.scores.tolist(), strict=True):
            found.append([(item, score) for item, score in zip(items, scores, strict=True) if item >= 0])
    assert users == list(range(len(histories)))
    return found


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=10)
@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=12),
    st.integers(0, 1000),
    st.booleans(),
    st.sampled_from([(1, 10**6), (5, 10**6), (1000, 20), (1000, 1), (1000, 10**6)]),
)
def test_lists_are_those_of_single_requests_in_any_parts(
    case: Case, lengths: list[int], seed: int, requests: bool, most: tuple[int, int]
) -> None:
    engine = cleared(case)
    histories = histories_of(lengths, seed, timed=case.timed, requests=requests)
    filters = {"exclude": IDS[:2], "allow": IDS[: 20 if seed % 2 else 4], "mask_seen": seed % 3 > 0}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bulk, "_USERS", most[0])
        patch.setattr(bulk, "_EVENTS", most[1])
        assert in_bulk(engine, histories, K, **filters) == one_by_one(engine, histories, K, **filters)
    assert engine.num_users == 0


def test_users_of_the_engine_stay_as_they_are() -> None:
    engine = fresh("plain")
    engine.rebuild({"0": IDS[:3], "1": IDS[3:5]})
    before = everything(engine)
    histories = histories_of([3, 4], 0, timed=False, requests=False)
    assert len(in_bulk(engine, histories, K)) == 2
    assert everything(engine) == before


def test_progress_counts_users_and_a_part_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_USERS", 3)
    monkeypatch.setattr(bulk, "_EVENTS", 10)
    seen: list[int] = []
    histories = histories_of([2, 2, 2, 2, 30, 9, 2], 0, timed=False, requests=False)
    parts = list(recommend_in_bulk(fresh("plain"), histories, 2, progress=seen.append))
    assert [part.users.tolist() for part in parts] == [[0, 1, 2], [3], [4], [5], [6]]
    assert seen == [3, 4, 5, 6, 7]


def test_long_lists_come_in_smaller_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_LISTED", 8)
    histories = histories_of([2] * 4, 0, timed=False, requests=False)
    for k, sizes in ((2, [4]), (3, [2, 2]), (9, [1] * 4)):
        parts = recommend_in_bulk(fresh("plain"), histories, k)
        assert [len(part.users) for part in parts] == sizes
    for k in (0, "many"):
        with pytest.raises(InputError, match="k, the number of items to recommend"):
            list(recommend_in_bulk(fresh("plain"), histories, k))  # type: ignore[arg-type]


def test_ctrl_c_while_guests_leave_lets_nobody_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, forget, calls = fresh("plain"), Engine.forget, []

    def interrupted(self: Engine, user: str) -> bool:
        calls.append(user)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return forget(self, user)

    monkeypatch.setattr(Engine, "forget", interrupted)
    with pytest.raises(KeyboardInterrupt):
        list(recommend_in_bulk(engine, histories_of([2] * 4, 0, timed=False, requests=False), 2))
    assert engine.num_users == 0


def test_no_histories_give_no_parts() -> None:
    assert list(recommend_in_bulk(fresh("plain"), histories_of([], 0, timed=False, requests=False))) == []


def test_iterators_of_filters_hold_for_all_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_USERS", 1)
    histories = histories_of([2, 2, 2], 0, timed=False, requests=False)
    lists = in_bulk(fresh("plain"), histories, 3, allow=iter(IDS[:3]), exclude=iter(IDS[:1]), mask_seen=False)
    assert [{item for item, _ in one} for one in lists] == [{1, 2}] * 3


def test_an_item_that_is_added_between_two_parts_has_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_USERS", 1)
    engine = fresh("plain")
    parts = recommend_in_bulk(engine, histories_of([2, 2], 0, timed=False, requests=False), 1)
    first = next(parts)
    best, vector = IDS[first.items[0, 0]], 100 * engine.items()[1][first.items[0, 0]]
    engine.add_items(["new", "opposite"], vectors=[vector, -vector])
    assert next(parts).items[0, 0] in (NUM_ITEMS, NUM_ITEMS + 1), best


@pytest.mark.parametrize(
    ("histories", "sentence"),
    [
        (Packed(np.array([1, 2]), np.array([0, 1, 1, 2])), "history 1 is empty"),
        (Packed(np.array([1, -1]), np.array([0, 1, 2])), "event 1 has item -1, outside the catalogue"),
        (Packed(np.array([NUM_ITEMS]), np.array([0, 1])), f"event 0 has item {NUM_ITEMS}, outside"),
    ],
)
def test_a_wrong_history_is_named_and_nobody_stays(histories: Packed, sentence: str) -> None:
    engine = fresh("plain")
    with pytest.raises(InputError, match=sentence):
        list(recommend_in_bulk(engine, histories, 2))
    assert engine.num_users == 0


def test_missing_times_and_a_large_k_are_refused_and_nobody_stays() -> None:
    engine = fresh("past")
    with pytest.raises(InputError, match="has no times"):
        list(recommend_in_bulk(engine, histories_of([2], 0, timed=False, requests=False), 2))
    with pytest.raises(InputError, match=f"k is {NUM_ITEMS + 1}"):
        list(recommend_in_bulk(engine, histories_of([2], 0, timed=True, requests=False), NUM_ITEMS + 1))
    assert engine.num_users == 0


def test_an_interrupt_between_parts_leaves_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "_USERS", 1)
    engine = fresh(BY_NAME["plain"])

    def stop(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(
            recommend_in_bulk(engine, histories_of([2, 2], 0, timed=False, requests=False), 2, progress=stop)
        )
    assert engine.num_users == 0


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("requests", [False, True])
@pytest.mark.parametrize("mask_seen", [False, True])
def test_the_model_itself_gives_the_lists_of_the_engine(
    case: Case, requests: bool, mask_seen: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recommendations, "_SCORES", 3 * NUM_ITEMS)  # three users at a time
    engine, model = fresh(case), model_of(case)
    engine.retire_items([IDS[4], IDS[11]])
    histories = histories_of([30, 1, 3, 60, 2, 9, 1], 5, timed=case.timed, requests=requests)
    ours = list(recommend_in_bulk(engine, histories, NUM_ITEMS, mask_seen=mask_seen))
    done: list[int] = []
    parts = recommend_many(
        model, histories, NUM_ITEMS, mask_seen=mask_seen, retired=[4, 11], progress=done.append
    )
    theirs = list(parts)
    assert done == [3, 6, 7]
    assert np.concatenate([part.users for part in theirs]).tolist() == list(range(7))
    items, scores = (np.concatenate([getattr(part, name) for part in ours]) for name in ("items", "scores"))
    assert np.array_equal(np.concatenate([part.items for part in theirs]), items)
    others = np.concatenate([part.scores for part in theirs])
    assert np.array_equal(np.isnan(others), np.isnan(scores))
    assert_near(np.nan_to_num(others), np.nan_to_num(scores))


@pytest.mark.parametrize(
    ("k", "retired", "early", "sentence"),
    [
        (0, [], 0, "k, the number of items to recommend, is 0; give a number of at least 1"),
        (2, [NUM_ITEMS], 0, "retired"),
        (2, [-1], 0, "retired"),
        (2, [], 1e6, "the request is at .*, but the last event is later"),
    ],
)
def test_the_model_itself_names_mistakes_before_the_first_part(
    k: int, retired: list[int], early: float, sentence: str
) -> None:
    histories = histories_of([3, 2], 0, timed=True, requests=True)
    assert histories.request_times is not None
    with pytest.raises(InputError, match=sentence):
        recommend_many(
            model_of(BY_NAME["request"]),
            histories.asked_at(histories.request_times - early),
            k,
            retired=retired,
        )


def test_the_model_itself_names_a_wrong_history() -> None:
    with pytest.raises(InputError, match="history 0 is empty"):
        list(recommend_many(model_of(BY_NAME["plain"]), Packed(np.array([1]), np.array([0, 0, 1])), 2))
