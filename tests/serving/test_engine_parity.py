"""The engine gives the scores of the full pass, for every model, every split of a history, and every time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
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
    scores_of,
)

from recblr.errors import InputError
from recblr.serving.engine import Engine

GAPS = st.one_of(
    st.sampled_from([0.0, 0.0, 0.25, 1.0, 59.999, 60.0, 3600.0, 86400.0, 1e6, 3e7, 1e9]),
    st.floats(0, 1e8, allow_subnormal=False),
)
EVENTS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, NUM_ITEMS - 1), GAPS), min_size=1, max_size=40)
LENGTHS = st.lists(st.integers(1, 12), min_size=1)


def histories_of(events: list[tuple[int, int, float]]) -> dict[str, tuple[list[int], list[float]]]:
    """The items and the times of each user."""
    histories: dict[str, tuple[list[int], list[float]]] = {}
    now = START
    for user, item, gap in events:
        now += gap
        items, times = histories.setdefault(f"u{user}", ([], []))
        items.append(item)
        times.append(now)
    return histories


def take_in(engine: Engine, case: Case, events: list[tuple[int, int, float]], lengths: list[int]) -> None:
    """Give events in calls of these lengths, with requests between them, which must leave no trace."""
    now, at, call = START, 0, 0
    while at < len(events):
        part = events[at : at + lengths[call % len(lengths)]]
        users, items = [f"u{user}" for user, _, _ in part], [IDS[item] for _, item, _ in part]
        times, total = [], now  # summed as in histories_of, because other orders may round differently
        for _, _, gap in part:
            total += gap
            times.append(total)
        if len(part) == 1:
            assert engine.update(users[0], items[0], time=times[0] if case.timed else None)
        else:
            assert engine.update_many(users, items, times=times if case.timed else None) == len(part)
        at, call, now = at + len(part), call + 1, times[-1]
        before = everything(engine)
        engine.recommend(users[0], 3, time=now + 10)
        engine.recommend_many(users, 2, mask_seen=False)
        engine.score(users[-1], [IDS[0]], time=now + 1e6)
        engine.recommend_history(items, 5, times=times)
        engine.similar(items[0])
        assert everything(engine) == before


@pytest.mark.parametrize("case", CASES, ids=str)
@settings(max_examples=12)
@given(EVENTS, LENGTHS, GAPS)
@example([(0, n * 7 % NUM_ITEMS, 1000.0 * n) for n in range(300)], [1, 299], 5.0)
@example([(n % 3, n % NUM_ITEMS, 60.0) for n in range(150)], [70], 0.0)
def test_any_split_of_any_history_has_the_scores_of_the_full_pass(
    case: Case, events: list[tuple[int, int, float]], lengths: list[int], gap: float
) -> None:
    engine = cleared(case)
    take_in(engine, case, events, lengths)
    histories = histories_of(events)
    request = max(times[-1] for _, times in histories.values()) + gap
    right = scores_of(case, [(items, times, request) for items, times in histories.values()])
    for (user, (items, times)), scores in zip(histories.items(), right, strict=True):
        ours = engine.score(user, IDS, time=request)
        assert ours.dtype == np.float32
        assert_near(ours, scores)
        names = [IDS[item] for item in items]
        given_times = times if case.timed else None

        # The same bits on every way.
        all_items = engine.recommend(user, NUM_ITEMS, time=request, mask_seen=False)
        assert dict(all_items) == dict(zip(IDS, ours.tolist(), strict=True))
        again = engine.recommend_history(names, NUM_ITEMS, times=given_times, time=request, mask_seen=False)
        assert again == all_items
        engine.rebuild({"rebuilt": (names, times) if case.timed else names})
        assert engine.state("rebuilt") == engine.state(user)
        one_by_one = cleared_user(engine, "single")
        for place, name in enumerate(names):
            one_by_one.update("single", name, time=times[place] if case.timed else None)
        assert engine.state("single") == engine.state(user)
        assert engine.seen(user) == sorted({IDS[item] for item in items}, key=IDS.index)


def cleared_user(engine: Engine, user: str) -> Engine:
    engine.forget(user)
    return engine


@pytest.mark.parametrize("case", [c for c in CASES if c.timed], ids=str)
def test_a_request_without_a_time_comes_right_after_the_last_event(case: Case) -> None:
    engine = cleared(case)
    engine.update_many(["u"] * 3, IDS[:3], times=[START, START + 5, START + 1000])
    right = scores_of(case, [([0, 1, 2], [START, START + 5, START + 1000], START + 1000)])
    assert_near(engine.score("u", IDS), right[0])
    assert engine.recommend_history(IDS[:3], 4, times=[START, START + 5, START + 1000]) == engine.recommend(
        "u", 4
    )


@pytest.mark.parametrize("name", ["past in days", "request", "request in minutes"])
@pytest.mark.parametrize(
    "times",
    [
        [-2e9, -2e9, 0.0, 2e9],  # decades, and before 1970
        [1.0, 1.0, 1.0, 1.0],
        [0.5, 59.999999, 60.0, 3599.5],
        [-1e300, 0.0, 1.0, 1e300],
        [-1.797e308, 0.0, 1.797e308, 1.7976931348623157e308],
    ],
    ids=["decades", "equal", "near the steps", "huge", "the largest"],
)
def test_extreme_times_are_those_of_the_model(name: str, times: list[float]) -> None:
    case, engine = BY_NAME[name], cleared(BY_NAME[name])
    assert engine.update_many(["u"] * 4, IDS[:4], times=times) == 4
    request = times[-1]
    right = scores_of(case, [([0, 1, 2, 3], times, request)])
    assert_near(engine.score("u", IDS, time=request), right[0])


@pytest.mark.parametrize("case", [CASES[3], CASES[6], CASES[7]], ids=str)
def test_states_of_16_bits_have_a_bounded_error(case: Case) -> None:
    engine = fresh(case, states="bfloat16")
    random = np.random.default_rng(0)
    items, times = random.integers(0, NUM_ITEMS, 300), START + np.cumsum(random.exponential(1e4, 300))
    engine.update_many(["u"] * 200, [IDS[i] for i in items[:200]], times=times[:200])
    for item, time in zip(items[200:], times[200:], strict=True):
        engine.update("u", IDS[item], time=time)
    right = scores_of(case, [(items.tolist(), times.tolist(), times[-1] + 50)])[0]
    error = np.abs(engine.score("u", IDS, time=times[-1] + 50) - right).max() / np.abs(right).max()
    assert 1e-5 < error < 0.05
    engine.rebuild({"rebuilt": ([IDS[i] for i in items], times)})
    assert engine.state("rebuilt") == engine.state("u")
    assert engine.bytes_of_user <= fresh(case).bytes_of_user / 2 + 64


@pytest.mark.parametrize("case", [c for c in CASES if c.timed], ids=str)
@pytest.mark.parametrize("time", [START - 1e-3, float("nan"), float("inf"), float("-inf"), None])
def test_a_time_that_cannot_be_is_refused_and_changes_nothing(case: Case, time: float | None) -> None:
    engine = cleared(case)
    engine.update("u", "i1", time=START)
    before = everything(engine)
    with pytest.raises(InputError):
        engine.update("u", "i2", time=time)
    with pytest.raises(InputError):
        engine.update_many(["new", "u"], ["i2", "i3"], times=None if time is None else [START, time])
    if time is not None:
        with pytest.raises(InputError):
            engine.recommend_history(["i1", "i2"], 3, times=[START, time])
    assert everything(engine) == before
    assert engine.update("u", "i2", time=START)


@pytest.mark.parametrize("case", [c for c in CASES if c.config.time_use == "request"], ids=str)
def test_a_request_before_the_last_event_is_refused(case: Case) -> None:
    engine = cleared(case)
    engine.update("u", "i1", time=START)
    before = everything(engine)
    for time in (START - 1, float("nan"), float("inf")):
        for ask in (
            lambda t=time: engine.recommend("u", 3, time=t),
            lambda t=time: engine.recommend_many(["u"], 3, times=[t]),
            lambda t=time: engine.score("u", ["i1"], time=t),
            lambda t=time: engine.recommend_history(["i1"], 3, times=[START], time=t),
        ):
            with pytest.raises(InputError):
                ask()
    assert everything(engine) == before
