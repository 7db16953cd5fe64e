"""What the engine recommends, explains and finds similar, against plain loops over the scores."""

from __future__ import annotations

from typing import Any

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
    case,
    cleared,
    file_of,
    fresh,
    model_of,
    scores_of,
)

from recblr.serving.engine import Engine

ITEMS = st.lists(st.integers(0, NUM_ITEMS - 1), max_size=NUM_ITEMS)
ANSWERING = [BY_NAME[name] for name in ("whole vectors", "wide", "past", "request in minutes", "window")]


def best_of(
    scores: np.ndarray, k: int, *, without: set[int], allowed: set[int] | None = None
) -> list[tuple[str, float]]:
    """The k best items by a full sort; of equal scores the earlier item first."""
    order = [i for i in np.argsort(-scores, kind="stable").tolist() if i not in without]
    return [(IDS[i], float(scores[i])) for i in order if allowed is None or i in allowed][:k]


@pytest.mark.parametrize("case", ANSWERING, ids=str)
@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, NUM_ITEMS - 1), st.floats(0, 1e6)), min_size=1, max_size=30),
    st.integers(1, NUM_ITEMS), ITEMS, st.none() | ITEMS.filter(len), st.booleans(), st.floats(0, 1e5),
)  # fmt: skip
def test_the_best_items_are_those_of_a_full_sort(
    case: Case,
    events: list[tuple[int, float]],
    k: int,
    excluded: list[int],
    allowed: list[int] | None,
    mask_seen: bool,
    gap: float,
) -> None:
    engine = cleared(case)
    items, times = [item for item, _ in events], (START + np.cumsum([g for _, g in events])).tolist()
    request = times[-1] + gap
    engine.update_many(["u"] * len(items), [IDS[i] for i in items], times=times)
    scores = engine.score("u", IDS, time=request)
    right = scores_of(case, [(items, times, request)])[0]
    assert_near(scores, right)
    without = set(excluded) | (set(items) if mask_seen else set())
    only = None if allowed is None else set(allowed)
    filters: dict[str, Any] = {
        "exclude": [IDS[i] for i in excluded],
        "allow": None if allowed is None else [IDS[i] for i in allowed],
        "mask_seen": mask_seen,
    }
    best = engine.recommend("u", k, time=request, **filters)
    assert best == best_of(scores, k, without=without, allowed=only)
    # By torch's scores the same items, except where two scores are nearly equal.
    places = [IDS.index(item) for item, _ in best]
    kept = sorted(-right[i] for i in range(NUM_ITEMS) if i not in without and (only is None or i in only))
    assert np.abs(right[places] + kept[: len(places)]).max(initial=0) <= 1e-5 * np.abs(right).max()

    assert engine.recommend_many(["u", "u"], k, times=[request] * 2, **filters) == [best, best]
    names = [IDS[i] for i in items]
    assert engine.recommend_history(names, k, times=times, time=request, **filters) == best


def test_of_equal_scores_the_earlier_item_comes_first() -> None:
    model = model_of(BY_NAME["whole vectors"])
    table = model.item_embedding.weight.data
    table[3:20] = table[3]
    table[20] = 0
    engine = Engine.load(file_of(model, IDS))
    engine.update("u", "i0")
    best = [item for item, _ in engine.recommend("u", NUM_ITEMS, mask_seen=False)]
    equal = [f"i{n}" for n in range(3, 20)]
    at = best.index("i3")
    assert best[at : at + 17] == equal
    for k in range(1, NUM_ITEMS + 1):
        assert [item for item, _ in engine.recommend("u", k, mask_seen=False)] == best[:k]


@pytest.mark.parametrize("table", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("threads", [1, 2])
def test_every_table_has_the_same_answer_with_many_items(table: Any, threads: int) -> None:
    many = case("many", time="none", d_model=20, bias=0.5)
    model, ids = model_of(many, 3000), [f"{n}" for n in range(3000)]
    engine = Engine.load(file_of(model, ids), table=table, threads=threads)
    random = np.random.default_rng(1)
    users = [f"u{n}" for n in range(70)]
    for _ in range(5):
        engine.update_many(users, random.integers(0, 3000, 70))
    engine.retire_items(range(100, 140))
    exclude, allow = random.integers(0, 3000, 100), np.arange(1500)
    for options in ({}, {"mask_seen": False}, {"exclude": exclude}, {"allow": allow, "exclude": exclude}):
        lists = engine.recommend_many(users, 20, **options)
        for user, best in list(zip(users, lists, strict=True))[:: 10 if options else 1]:
            scores, banned = engine.score(user, ids), set(range(100, 140))
            banned |= set(map(int, engine.seen(user))) if "mask_seen" not in options else set()
            banned |= set(options.get("exclude", np.zeros(0)).tolist())
            banned |= set() if "allow" not in options else set(range(1500, 3000))
            order = [i for i in np.argsort(-scores, kind="stable").tolist() if i not in banned][:20]
            assert best == [(ids[i], float(scores[i])) for i in order]
            assert engine.recommend(user, 20, **options) == best


def test_the_list_is_shorter_if_fewer_items_may_be_recommended() -> None:
    engine = cleared(BY_NAME["plain"])
    engine.update_many(["u"] * NUM_ITEMS, IDS)
    assert engine.recommend("u", 5) == []
    assert len(engine.recommend("u", NUM_ITEMS, mask_seen=False)) == NUM_ITEMS
    assert len(engine.recommend("u", 5, allow=["i3"], mask_seen=False)) == 1
    assert engine.recommend("u", 5, allow=["i3"], exclude=["i3"], mask_seen=False) == []
    assert engine.recommend_many([], 5) == []


@pytest.mark.parametrize("case", CASES, ids=str)
def test_explain_is_the_score_less_that_without_the_event(case: Case) -> None:
    engine = fresh(case, history=True)
    random = np.random.default_rng(3)
    items = random.integers(0, 9, 12).tolist()
    times = (START + np.cumsum(random.exponential(1e5, 12))).tolist()
    engine.rebuild({"u": ([IDS[i] for i in items], times)})
    for wanted, request in ((2, times[-1]), (items[-1], times[-1] + 100), (20, times[-1] + 1e6)):
        explained = engine.explain("u", IDS[wanted], time=request)
        assert sorted(place for place, _, _ in explained) == list(range(12))
        assert [abs(change) for _, _, change in explained] == sorted(
            (abs(change) for _, _, change in explained), reverse=True
        )
        whole = engine.score("u", [IDS[wanted]], time=request)[0]
        for place, item, change in explained:
            assert item == IDS[items[place]]
            rest = [IDS[i] for n, i in enumerate(items) if n != place]
            rest_times = [t for n, t in enumerate(times) if n != place]
            engine.rebuild({"without": (rest, rest_times)})
            without = engine.score("without", [IDS[wanted]], time=request)[0]
            assert change == whole - without


def test_explain_is_about_the_newest_100_events() -> None:
    engine = fresh("plain", history=True)
    engine.update_many(["u"] * 150, [IDS[n % 20] for n in range(150)])
    assert {place for place, _, _ in engine.explain("u", "i1")} == set(range(50, 150))
    engine.update("one", "i4")
    ((place, item, change),) = engine.explain("one", "i1")
    assert (place, item) == (0, "i4")
    assert change == engine.score("one", ["i1"])[0]  # without any event, all scores are zero


@pytest.mark.parametrize("scale", [1.0, 1e-22, 1e22])
def test_similar_items_have_the_largest_cosines(scale: float) -> None:
    model = model_of(BY_NAME["whole vectors"])
    vectors = model.item_embedding.weight.data
    vectors *= scale
    vectors[5] = 0
    vectors[7] = vectors[9]
    engine = Engine.load(file_of(model, IDS))
    engine.retire_items(["i11"])
    rows = vectors.double().numpy() / scale
    norms = np.linalg.norm(rows, axis=1)
    for item in range(NUM_ITEMS):
        with np.errstate(invalid="ignore"):
            right = np.nan_to_num(rows @ rows[item] / norms / norms[item])
        order = [i for i in np.argsort(-right.round(12), kind="stable") if i not in (item, 11)]
        best = engine.similar(IDS[item], NUM_ITEMS)
        np.testing.assert_allclose([cosine for _, cosine in best], right[order], atol=1e-6)
        if item != 5:
            assert [name for name, _ in best] == [IDS[i] for i in order]
        assert engine.similar(IDS[item], 3) == best[:3]


def test_ids_are_text_or_numbers_in_any_sequence() -> None:
    model = model_of(BY_NAME["past"])
    engine = Engine.load(file_of(model, [str(n) for n in range(NUM_ITEMS)]))
    times = np.array([1, 2, 3, 4], np.int64)
    assert engine.update_many(np.array([7, 7, -8, 7]), (n for n in (1, 2, 3, 4)), times=times) == 4
    assert engine.update("7", np.str_("5"), time=np.float32(5))
    assert engine.update(np.int8(7), np.uint64(6), time=6)
    assert engine.update(2**70, 2, time=1)
    assert set(engine.user_ids) == {"7", "-8", str(2**70)}
    assert engine.seen(7) == ["1", "2", "4", "5", "6"]
    filters: dict[str, Any] = {"exclude": np.array([0, 1]), "allow": np.arange(12)}
    best = engine.recommend(np.int64(7), np.int64(4), **filters)
    assert best == engine.recommend("7", 4, exclude={"0", "1"}, allow=tuple(str(n) for n in range(12)))
    assert best == engine.recommend("7", 4, exclude=(n for n in (0, 1)), allow=iter(range(12)))
    assert engine.recommend_many(np.array(["7", "-8"]), 4, **filters)[0] == best
    assert all(type(item) is str and type(score) is float for item, score in best)
    assert engine.score(7, np.array([3, 3])).tolist() == [engine.score(7, ["3"])[0]] * 2
    assert engine.score(7, []).shape == (0,)
    assert engine.update_many([], [], times=[]) == 0


@pytest.mark.parametrize("user", ["", "a\0b", "a\0", "é" * 5000, "\n", " ", "0" * 10_000, "\U0010ffff"])
def test_any_text_is_an_id_of_a_user(user: str) -> None:
    engine = cleared(BY_NAME["plain"])
    assert engine.update_many([user, "a", user], ["i1", "i2", "i3"]) == 3
    assert set(engine.user_ids) == {user, "a"}
    assert engine.seen(user) == ["i1", "i3"]
    assert user in engine
    assert engine.forget(user)
    assert user not in engine
    assert engine.user_ids == ["a"]
