"""Every mistake is one sentence that names the thing and the remedy, and changes nothing."""

from __future__ import annotations

import copy
import datetime
import decimal
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from serving.engines import (
    BY_NAME,
    CASES,
    IDS,
    NUM_ITEMS,
    START,
    Case,
    case,
    everything,
    file_of,
    fresh,
    model_of,
    path_of,
)

from recblr.errors import InputError
from recblr.serving.engine import Engine

HUGE = 10**5000
BAD_IDS: dict[str, Any] = {
    "None": None,
    "a float": 1.0,
    "a float of numpy": np.float32(1),
    "bytes": b"i1",
    "a truth value": True,
    "a truth value of numpy": np.bool_(True),
    "half a surrogate pair": "i\ud800",
    "a list": ["i1"],
    "an array": np.array([1, 2]),
    "an array of floats": np.array(1.0),
    "too large an integer": HUGE,
    "an object": object(),
}
BAD_LISTS: dict[str, Any] = {
    "None": None,
    "text": "i1",
    "bytes": b"i1",
    "bytes that change": bytearray(b"i1"),
    "a number": 3,
    "an array without dimensions": np.array(3),
    "nested": [["i1"]],
    "two dimensions": np.ones((2, 2), np.int64),
    "numbers that are not whole": np.array([1.5]),
}
BAD_TIMES: dict[str, Any] = {
    "text": "1700000000",
    "a date": datetime.datetime(2024, 1, 1),
    "a date of numpy": np.datetime64("2024-01-01T00:00:00", "ns"),
    "a span of numpy": np.timedelta64(1, "s"),
    "a truth value": True,
    "a complex number": 1e9j,
    "NaN": float("nan"),
    "infinity": float("inf"),
    "minus infinity": -np.inf,
    "too large an integer": 10**400,
    "a list": [START + 100],
    "an object": object(),
}
UNKNOWN = ("i99", "", "I1", "i1 ", "i1\0", "x" * 10_000, "é" * 5000, "a\nb", 5, -1)


@pytest.fixture(scope="module", params=["plain", "past", "request", "window"])
def engine(request: pytest.FixtureRequest) -> Engine:
    made = fresh(request.param, history=True)
    made.update_many(["u", "v", "u"], IDS[:3], times=[START, START, START + 60], event_ids=[1, 2, 3])
    return made


def refused(engine: Engine, call: Callable[[], object]) -> str:
    """The sentence of the error, after which the engine is as before."""
    before = everything(engine)
    with pytest.raises(InputError) as raised:
        call()
    said = str(raised.value)
    assert raised.value.problem
    assert raised.value.remedy
    assert len(said) < 400
    assert said.isprintable()
    assert everything(engine) == before
    return said


def calls_with_item(engine: Engine, item: Any) -> Iterator[Callable[[], object]]:
    t = START + 100
    yield lambda: engine.update("u", item, time=t)
    yield lambda: engine.update("new", item, time=t)
    yield lambda: engine.update_many(["new", "u", "u"], ["i1", "i2", item], times=[t] * 3)
    yield lambda: engine.recommend("u", exclude=["i1", item])
    yield lambda: engine.recommend("u", allow=["i1", item])
    yield lambda: engine.recommend_many(["u"], exclude=[item])
    yield lambda: engine.recommend_many(["u"], allow=[item])
    yield lambda: engine.recommend_history(["i1", item], times=[t, t])
    yield lambda: engine.recommend_history(["i1"], times=[t], exclude=[item])
    yield lambda: engine.score("u", [item])
    yield lambda: engine.explain("u", item)
    yield lambda: engine.similar(item)
    yield lambda: engine.rebuild({"new": (["i1"], [t]), "u": (["i1", item], [t, t])})
    yield lambda: engine.retire_items(["i1", item])
    yield lambda: engine.add_items(["n1"], like=[["i1", item]])


def calls_with_user(engine: Engine, user: Any) -> Iterator[Callable[[], object]]:
    yield lambda: engine.recommend(user)
    yield lambda: engine.recommend_many(["u", user])
    yield lambda: engine.score(user, ["i1"])
    yield lambda: engine.explain(user, "i1")
    yield lambda: engine.state(user)
    yield lambda: engine.seen(user)


@pytest.mark.parametrize("item", UNKNOWN, ids=lambda item: repr(item)[:12])
def test_an_unknown_item(engine: Engine, item: Any) -> None:
    for call in calls_with_item(engine, item):
        assert "the model has no item" in refused(engine, call)


@pytest.mark.parametrize("user", ["new", "", "u\0", "U", 5, "x" * 10_000], ids=lambda user: repr(user)[:12])
def test_an_unknown_user(engine: Engine, user: Any) -> None:
    for call in calls_with_user(engine, user):
        assert "the engine has no user" in refused(engine, call)
    assert engine.forget(user) is False
    assert user not in engine


@pytest.mark.parametrize("wrong", BAD_IDS.values(), ids=BAD_IDS)
def test_an_id_of_a_wrong_type(engine: Engine, wrong: Any) -> None:
    t = START + 100
    calls: list[Callable[[], object]] = [
        *calls_with_item(engine, wrong),
        *calls_with_user(engine, wrong),
        lambda: engine.update(wrong, "i1", time=t),
        lambda: engine.update_many(["u", wrong], ["i1", "i1"], times=[t, t]),
        lambda: engine.update_many(["u", "u"], ["i1", "i1"], times=[t, t], event_ids=["a", wrong]),
        lambda: engine.forget(wrong),
        lambda: wrong in engine,
        lambda: engine.set_state(wrong, engine.state("u")),
        lambda: engine.add_items([wrong], like=[["i1"]]),
    ]
    if wrong is not None:
        calls.append(lambda: engine.update("u", "i1", time=t, event_id=wrong))
    if isinstance(wrong, int | float | str | bytes | None):  # what can be a key
        calls.append(lambda: engine.rebuild({"new": (["i1"], [t]), wrong: (["i1"], [t])}))
    for call in calls:
        refused(engine, call)


@pytest.mark.parametrize("wrong", BAD_LISTS.values(), ids=BAD_LISTS)
def test_no_list_of_ids(engine: Engine, wrong: Any) -> None:
    t = START + 100
    calls: list[Callable[[], object]] = [
        lambda: engine.update_many(wrong, ["i1"], times=[t]),
        lambda: engine.update_many(["u"], wrong, times=[t]),
        lambda: engine.recommend_many(wrong),
        lambda: engine.recommend_history(wrong, times=[t]),
        lambda: engine.score("u", wrong),
        lambda: engine.rebuild({"u": (wrong, [t])}),
        lambda: engine.retire_items(wrong),
        lambda: engine.add_items(wrong, like=[["i1"]]),
        lambda: engine.add_items(["n1"], like=[wrong]),
        lambda: engine.add_items(["n1"], vectors=wrong),
    ]
    if wrong is not None:
        calls += [
            lambda: engine.update_many(["u"], ["i1"], times=[t], event_ids=wrong),
            lambda: engine.recommend("u", exclude=wrong),
            lambda: engine.recommend("u", allow=wrong),
        ]
    if wrong is not None and wrong is not BAD_LISTS["nested"]:
        calls.append(lambda: engine.add_items(["n1"], like=wrong))
    for call in calls:
        refused(engine, call)


@pytest.mark.parametrize("wrong", BAD_TIMES.values(), ids=BAD_TIMES)
def test_a_time_that_is_no_number_of_seconds(engine: Engine, wrong: Any) -> None:
    is_number = isinstance(wrong, float) or (type(wrong) is int and wrong > 1)
    many = np.array([True, True]) if wrong is True else [START + 100, wrong]
    if engine.time_use == "none" and is_number:
        return  # such a model ignores times
    calls: list[Callable[[], object]] = [
        lambda: engine.update("u", "i1", time=wrong),
        lambda: engine.update("new", "i1", time=wrong),
        lambda: engine.update_many(["new", "u"], ["i1", "i2"], times=many),
        lambda: engine.recommend_history(["i1", "i2"], times=many),
    ]
    if not is_number or engine.time_use == "request":
        calls += [
            lambda: engine.recommend("u", time=wrong),
            lambda: engine.recommend_many(["u", "v"], times=many),
            lambda: engine.score("u", ["i1"], time=wrong),
            lambda: engine.explain("u", "i1", time=wrong),
            lambda: engine.recommend_history(["i1"], times=[START], time=wrong),
        ]
    if engine.time_use != "none":
        calls.append(lambda: engine.rebuild({"new": (["i1"], [START]), "u": (["i1", "i2"], many)}))
    for call in calls:
        refused(engine, call)


@pytest.mark.parametrize(
    "times",
    [[START], [START] * 3, [[START, START]], START, "ab", np.array(["1", "2"]), np.array([1, 2], "M8[s]"),
     [None, START], [START, [START]], [True, False], [decimal.Decimal(1), decimal.Decimal(2)]],
    ids=repr,
)  # fmt: skip
def test_times_that_do_not_fit(engine: Engine, times: Any) -> None:
    refused(engine, lambda: engine.update_many(["u", "new"], ["i1", "i2"], times=times))
    refused(engine, lambda: engine.recommend_many(["u", "v"], times=times))
    refused(engine, lambda: engine.recommend_history(["i1", "i2"], times=times))
    if engine.time_use != "none":
        refused(engine, lambda: engine.rebuild({"new": (["i1", "i2"], times)}))


@pytest.mark.parametrize(
    "k",
    [0, -1, NUM_ITEMS + 1, 2**31, 2**63, 2**70, -(2**70), 1.0, "3", None, True, np.array([1, 2]), [1]],
    ids=repr,
)
def test_a_k_that_cannot_be(engine: Engine, k: Any) -> None:
    for call in (
        lambda: engine.recommend("u", k),
        lambda: engine.recommend_many(["u"], k),
        lambda: engine.recommend_many([], k),
        lambda: engine.recommend_history(["i1"], k, times=[START]),
        lambda: engine.similar("i1", k),
    ):
        assert "k" in refused(engine, call)


def test_lists_that_do_not_fit(engine: Engine) -> None:
    t = START + 100
    assert "allow is empty" in refused(engine, lambda: engine.recommend("u", allow=[]))
    assert "allow is empty" in refused(engine, lambda: engine.recommend_many(["u"], allow=iter(())))
    assert "2 users" in refused(engine, lambda: engine.update_many(["u", "w"], ["i1"], times=[t, t]))
    assert "event ids" in refused(
        engine, lambda: engine.update_many(["u", "w"], ["i1", "i1"], times=[t, t], event_ids=[5])
    )
    assert "event id is empty" in refused(engine, lambda: engine.update("u", "i1", time=t, event_id=""))
    assert "history is empty" in refused(engine, lambda: engine.recommend_history([], times=[]))
    assert "history is empty" in refused(engine, lambda: engine.rebuild({"w": (["i1"], [t]), "x": ([], [])}))
    twice = {7: (["i1"], [t]), "7": (["i2"], [t])}
    assert "user '7' has two histories" in refused(engine, lambda: engine.rebuild(twice))
    refused(engine, lambda: engine.rebuild([("u", ["i1"])]))  # type: ignore[arg-type]


def test_an_error_of_a_generator_is_passed_on(engine: Engine) -> None:
    def broken() -> Iterator[str]:
        yield "i1"
        raise KeyError("broken")

    before = everything(engine)
    with pytest.raises(KeyError, match="broken"):
        engine.update_many(["u", "v"], broken(), times=[START + 100] * 2)
    assert everything(engine) == before


@pytest.mark.parametrize("name", ["past", "request", "window"])
def test_a_call_that_fails_at_its_last_event_changes_nothing(name: str) -> None:
    engine = fresh(name, history=True)
    engine.update("u", "i1", time=START, event_id="first")
    users, items = ["new"] * 50 + ["u"] * 50 + ["other"], ["i2"] * 101
    times, ids = [START + 10] * 101, [str(n) for n in range(101)]
    for place, time in ((99, START - 5), (50, START - 5), (49, START + 9), (99, np.nan)):
        wrong = list(times)
        wrong[place] = time
        refused(engine, lambda w=wrong: engine.update_many(users, items, times=w, event_ids=ids))
    # Not even the ids of the events were remembered.
    assert engine.update_many(users, items, times=times, event_ids=ids) == 101


def test_explain_needs_histories() -> None:
    engine = fresh("plain")
    engine.update("u", "i1")
    assert "load it with history=True" in refused(engine, lambda: engine.explain("u", "i1"))


def test_a_model_with_a_window_needs_histories() -> None:
    for name in ("window", "released"):
        with pytest.raises(InputError, match=r"max_length.*history=True"):
            fresh(name, history=False)


@pytest.mark.parametrize(
    "options",
    [{"threads": 0}, {"threads": -1}, {"threads": 1.0}, {"threads": "2"}, {"threads": True},
     {"threads": 2**40}, {"states": "float16"}, {"table": "float64"}, {"table": None}, {"seen_bytes": -1},
     {"seen_bytes": 1.5}, {"seen_bytes": 2**63}, {"seen_bytes": True}, {"states": ["float32"]}],
    ids=repr,
)  # fmt: skip
def test_options_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(options))):
        fresh("plain", **options)


@pytest.mark.parametrize("path", [None, 5, b"model.safetensors", {}], ids=repr)
def test_no_path(path: Any) -> None:
    with pytest.raises(InputError):
        Engine.load(path)


@pytest.mark.parametrize(
    "vectors",
    [np.zeros((1, 7)), np.zeros((2, 8)), np.zeros(8), np.zeros((1, 1, 8)), [[1.0] * 8, [1.0]], [["a"] * 8],
     np.full((1, 8), np.nan), np.full((1, 8), -np.inf), np.full((1, 8), 1e39), np.ones((1, 8), complex), [],
     [[None] * 8], np.ones((1, 8), bool)],
    ids=lambda v: str(np.shape(v)) if isinstance(v, np.ndarray) else repr(v)[:10],
)  # fmt: skip
def test_vectors_that_do_not_fit(vectors: Any) -> None:
    engine = fresh("plain")
    refused(engine, lambda: engine.add_items(["new"], vectors=vectors))


def test_new_items_that_cannot_be() -> None:
    engine = fresh("plain")
    row = [[1.0] * 8]
    assert "already" in refused(engine, lambda: engine.add_items(["i3"], vectors=row))
    assert "already" in refused(engine, lambda: engine.add_items(["n", "n"], vectors=row * 2))
    assert "already" in refused(engine, lambda: engine.add_items([5, "5"], vectors=row * 2))
    assert "either" in refused(engine, lambda: engine.add_items(["n"]))
    assert "either" in refused(engine, lambda: engine.add_items(["n"], vectors=row, like=[["i1"]]))
    assert "empty" in refused(engine, lambda: engine.add_items(["n"], like=[[]]))
    assert "2 lists" in refused(engine, lambda: engine.add_items(["n"], like=[["i1"], ["i2"]]))
    assert "all items" in refused(engine, lambda: engine.retire_items(IDS))
    engine.retire_items(IDS[:20])
    assert "all items" in refused(engine, lambda: engine.retire_items(IDS[15:]))
    engine.add_items([], vectors=np.zeros((0, 8)))
    engine.add_items([], like=[])
    engine.retire_items([])
    engine.retire_items(IDS[:20])


def test_an_engine_can_be_neither_pickled_nor_copied() -> None:
    engine = fresh("plain")
    for f in (pickle.dumps, copy.copy, copy.deepcopy):
        assert "pickled" in refused(engine, lambda f=f: f(engine))


def test_a_state_that_is_not_bytes(engine: Engine) -> None:
    for wrong in (None, "recblrST", 5, [1, 2], np.zeros(3)):
        refused(engine, lambda w=wrong: engine.set_state("u", w))
        refused(engine, lambda w=wrong: engine.set_state("new", w))


@pytest.mark.parametrize("case", [BY_NAME[name] for name in ("past", "request", "window")], ids=str)
def test_every_flipped_byte_and_every_cut_of_a_state_is_refused(case: Case) -> None:
    engine = fresh(case, history=True)
    engine.update_many(["u"] * 4, IDS[:4], times=[START] * 4)
    state = engine.state("u")
    before = everything(engine)
    for place in range(len(state)):
        changed = bytearray(state)
        changed[place] ^= 1 << place % 8
        with pytest.raises(InputError, match="damaged"):
            engine.set_state("u", bytes(changed))
    for length in range(len(state)):
        with pytest.raises(InputError, match="damaged"):
            engine.set_state("new", state[:length])
    for more in (b"\0", state):
        with pytest.raises(InputError, match="damaged"):
            engine.set_state("new", state + more)
    assert everything(engine) == before


def test_the_state_of_another_model_is_refused() -> None:
    states = {}
    for one in CASES:
        engine = fresh(one)
        engine.update("u", "i1", time=START)
        states[one.name] = engine.state("u")
    # Of the same configuration, but other weights, another bias, or the same items in another order.
    for seed, bias, ids in ((1, None, IDS), (0, 0.25, IDS), (0, None, [*IDS[:-2], IDS[-1], IDS[-2]])):
        other = case("other", time="none", history_average=False, bias=bias)
        engine = Engine.load(file_of(model_of(other, seed=seed), ids))
        engine.update("u", "i1")
        states[f"{seed} {bias} {ids[-1]}"] = engine.state("u")
    for one in CASES:
        engine = fresh(one)
        for name, state in states.items():
            if name != one.name:
                assert "another model" in refused(engine, lambda s=state, e=engine: e.set_state("u", s))
        engine.set_state("u", states[one.name])
        assert engine.state("u") == states[one.name]


def test_the_state_of_other_options_is_refused() -> None:
    engines = [
        fresh("past"),
        fresh("past", states="bfloat16"),
        fresh("past", history=True),
        fresh("past", states="bfloat16", history=True),
    ]
    for engine in engines:
        engine.update("u", "i1", time=START)
    for engine in engines:
        for other in engines:
            if other is not engine:
                said = refused(engine, lambda e=engine, o=other: e.set_state("v", o.state("u")))
                assert "other states= or history=" in said


def test_a_damaged_file_is_refused(tmp_path: Any) -> None:
    content = bytearray(path_of(BY_NAME["plain"]).read_bytes())
    broken = tmp_path / "m.safetensors"
    for change in (slice(-1, None), slice(len(content) // 2, len(content) // 2 + 1)):
        wrong = bytearray(content)
        wrong[change] = bytes([wrong[change][0] ^ 4])
        broken.write_bytes(wrong)
        with pytest.raises(InputError):
            Engine.load(broken)
    for length in (0, 7, 100, len(content) - 1):
        broken.write_bytes(content[:length])
        with pytest.raises(InputError):
            Engine.load(broken)
