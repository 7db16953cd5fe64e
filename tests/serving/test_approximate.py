"""The approximate search: what it may miss, and what it must not."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
from serving.engines import START, Case, case, file_of, model_of

from recblr.errors import InputError
from recblr.serving import ApproximateIndex
from recblr.serving.engine import Engine

MANY = 3000
PLAIN, TIMED = case("many", time="none", d_model=16), case("timed", time="request", d_model=16, bias=9.0)


@lru_cache
def _path(case: Case) -> Any:
    return file_of(model_of(case, MANY), [f"i{number}" for number in range(MANY)])


def engine_of(case: Case) -> Engine:
    """An engine with 40 users, of whom each has three events more than the one before."""
    engine, random = Engine.load(_path(case), threads=2), np.random.default_rng(1)
    for number in range(40):
        count = 1 + 3 * number
        items = [f"i{item}" for item in random.integers(MANY, size=count)]
        engine.update_many([f"u{number}"] * count, items, times=START + 60 * np.arange(count))
    return engine


@pytest.fixture(scope="module")
def usearch() -> None:
    pytest.importorskip("usearch")


@pytest.fixture(scope="module")
def plain(usearch: None) -> ApproximateIndex:
    return ApproximateIndex(engine_of(PLAIN))


def recall(index: ApproximateIndex, engine: Engine, k: int = 10) -> float:
    """The share of the best k items that the index finds, over all users."""
    found = [
        len(dict(index.recommend(user, k)).keys() & dict(engine.recommend(user, k)).keys())
        for user in engine.user_ids
    ]
    return sum(found) / (k * len(found))


def test_the_index_finds_most_of_the_best_items(plain: ApproximateIndex) -> None:
    engine = engine_of(PLAIN)
    assert recall(plain, engine) >= 0.95
    poor = ApproximateIndex(engine, connectivity=2, expansion_add=1, expansion_search=1)
    assert recall(poor, engine) < 0.9  # it is approximate: the numbers matter


@pytest.mark.parametrize("case", [PLAIN, TIMED], ids=str)
def test_scores_order_and_filters_are_exact(usearch: None, case: Case) -> None:
    engine = engine_of(case)
    engine.retire_items(["i0", "i1", "i2"])
    index = ApproximateIndex(engine)
    assert len(index._index) == MANY - 3
    engine.retire_items([item for user in ("u3", "u7") for item, _ in engine.recommend(user, 12)])
    for number in (0, 3, 7, 39):
        user, time = f"u{number}", START + 60 * 120 + 5
        excluded = [item for item, _ in engine.recommend(user, 5, time=time)]
        for options in ({}, {"exclude": excluded}, {"mask_seen": False}, {"exclude": iter(excluded)}):
            ours = index.recommend(user, 20, time=time, **options)
            if "exclude" in options:
                options["exclude"] = excluded
            exact = engine.recommend(user, MANY, time=time, **options)
            assert len(ours) == 20
            places = [exact.index(pair) for pair in ours]  # the same bits, and no item that is left out
            assert places == sorted(places)
            assert len(set(places)) == 20
            assert places[10] < 60


def test_seen_items_that_the_bias_lifts_are_found(usearch: None) -> None:
    engine = engine_of(TIMED)
    index = ApproximateIndex(engine)
    exact = engine.recommend("u1", 4, mask_seen=False)
    assert {item for item, _ in exact} >= set(engine.seen("u1"))
    assert index.recommend("u1", 4, mask_seen=False) == exact


def test_items_that_came_or_went_after_the_index_was_made(usearch: None) -> None:
    engine = engine_of(PLAIN)
    index = ApproximateIndex(engine)
    vector = engine.vector("u5")
    engine.add_items(["new", "newer"], vectors=np.stack([vector, 2 * vector]))
    best = index.recommend("u5", 3)
    assert best == engine.recommend("u5", 3)
    assert [item for item, _ in best[:2]] == ["newer", "new"]
    engine.retire_items(["newer", best[2][0]])
    engine.add_items(["newest"], vectors=[3 * vector])
    again = index.recommend("u5", 3)
    assert [item for item, _ in again[:2]] == ["newest", "new"]
    assert best[2] not in again
    engine.update("u5", "newest")
    assert index.recommend("u5", 3, exclude=["new"])[0][0].startswith("i")


def test_the_exact_search_answers_where_the_graph_cannot(plain: ApproximateIndex) -> None:
    engine = engine_of(PLAIN)
    allowed = [f"i{number}" for number in range(0, MANY, 300)]
    assert plain.recommend("u2", 5, allow=allowed) == engine.recommend("u2", 5, allow=allowed)
    assert plain.recommend("u2", MANY) == engine.recommend("u2", MANY)
    most = [f"i{number}" for number in range(4, MANY)]
    assert plain.recommend("u2", 5, exclude=most) == engine.recommend("u2", 5, exclude=most)


def test_a_list_is_not_short_after_many_items_were_retired(usearch: None) -> None:
    engine = engine_of(PLAIN)
    index = ApproximateIndex(engine)
    engine.retire_items([item for item, _ in engine.recommend("u2", MANY, mask_seen=False)[:-4]])
    assert index.recommend("u2", 10) == engine.recommend("u2", 10)
    assert 1 <= len(index.recommend("u2", 10)) <= 4


def test_mistakes_get_the_sentences_of_the_engine(plain: ApproximateIndex) -> None:
    engine = engine_of(PLAIN)
    for user, k, options in (
        ("nobody", 10, {}),
        ("u1", 0, {}),
        ("u1", MANY + 1, {}),
        ("u1", "ten", {}),
        ("u1", 10, {"exclude": ["what"]}),
        ("u1", 10, {"exclude": "i1"}),
        ("u1", 10, {"exclude": 5}),
        ("u1", 10, {"allow": []}),
        ("u1", 10, {"time": "now"}),
    ):
        with pytest.raises(InputError) as ours:
            plain.recommend(user, k, **options)
        with pytest.raises(InputError) as theirs:
            engine.recommend(user, k, **options)
        assert str(ours.value) == str(theirs.value)


def test_many_threads_get_the_answers_of_one(plain: ApproximateIndex) -> None:
    users = [f"u{number}" for number in range(40)] * 5
    expected = [plain.recommend(user) for user in users]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(plain.recommend, users)) == expected


@pytest.mark.parametrize("name", ["connectivity", "expansion_add", "expansion_search"])
@pytest.mark.parametrize("value", [0, -1, 2**40, 2.0, True, None])
def test_numbers_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=f"^{name} is {value}; give a whole number"):
        ApproximateIndex(engine_of(PLAIN), **{name: value})


def test_the_error_says_how_to_install_usearch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    monkeypatch.setitem(sys.modules, "usearch", None)
    with pytest.raises(ModuleNotFoundError) as raised:
        ApproximateIndex(engine_of(PLAIN))
    expected = "recblr.serving.ApproximateIndex needs usearch, which is not installed: pip install usearch"
    assert str(raised.value) == expected
