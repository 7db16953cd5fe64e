"""A service against a dictionary of histories, on every store; two services on one store; new models."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving.engines import BY_NAME, IDS, START, Case, cleared, file_of, fresh, model_of
from serving.stores.places import kinds, needs_redis, place

from recblr import Engine
from recblr.errors import InputError
from recblr.serving import MemoryStore, Service, StoreError, service
from recblr.serving.stores import lmdb
from recblr.serving.stores.store import Batch, Conflict, Store

USERS = ["a", "b", "ü", "7"]
ALL = kinds("memory", "lmdb", "redis")
MODELS = [BY_NAME["request"], BY_NAME["average"], BY_NAME["past"]]


@pytest.fixture(autouse=True, scope="module")
def _often() -> Iterator[None]:
    """States are written and events are folded after a few events."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(service, "_STATE_EVERY", 2)
        patch.setattr(lmdb, "_FOLD_EVENTS", 3)
        yield


def serve(store: Store, case: Case | str = "request", **options: Any) -> Service:
    return Service(fresh(case, threads=1), store, **{"write_behind": 3600.0, **options})


def expected(case: Case, history: list[tuple[str, float]], time: float) -> np.ndarray:
    """The scores of all items after a history, in a new engine."""
    engine = cleared(case, threads=1)
    items, times = [item for item, _ in history], list(accumulate((t for _, t in history), max))
    engine.rebuild({"one": (items, times) if case.timed else items})
    return engine.score("one", IDS, time=time)


def assert_right(serving: Service, case: Case, histories: dict[str, list[tuple[str, float]]]) -> None:
    """To the last bit, as the engine promises."""
    for user in USERS:
        history = histories.get(user, [])
        now = max([START, *(time for _, time in history)]) + 1e6
        assert serving.knows(user) == bool(history)
        assert serving.history(user) == ([item for item, _ in history], [time for _, time in history])
        if history:
            assert serving.score(user, IDS, time=now).tolist() == expected(case, history, now).tolist()
            (best,) = serving.recommend_many([user], 3, times=[now])
            assert best == serving.recommend(user, 3, time=now)
            assert not {item for item, _ in best} & {item for item, _ in history}
        else:
            assert serving.recommend(user, 3, time=now) == []
            assert serving.recommend_many([user, user], 3, times=[now, now]) == [[], []]
            assert serving.score(user, IDS).tolist() == []


events = st.tuples(
    st.sampled_from(USERS), st.sampled_from(IDS[:9]), st.integers(0, 9), st.sampled_from(["", "", *"pq"])
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("update"), st.lists(events, min_size=1, max_size=6)),
        st.tuples(st.just("bad"), st.lists(events, min_size=1, max_size=3)),
        st.tuples(st.just("forget"), st.sampled_from(USERS)),
        st.tuples(st.just("model"), st.sampled_from(MODELS)),
        st.tuples(st.sampled_from(["maintain", "kill", "switch", "load"]), st.none()),
    ),
    max_size=14,
)


def run(kind: str, sequence: list[tuple[str, Any]]) -> None:
    histories: dict[str, list[tuple[str, float]]] = {}
    counted: set[tuple[str, str]] = set()
    case, clock = MODELS[0], START
    with place(kind) as open_it:
        # Two processes, of which the second keeps two users at most in the engine.
        services = [serve(open_it(), case), serve(open_it(), case, max_users=2)]
        for step, value in sequence:
            serving = services[0]
            if step == "update":
                clock += 10
                group = [(u, i, clock + place, e) for place, (u, i, _, e) in enumerate(value)]
                new = []
                for user, item, time, event_id in group:
                    if not event_id or (user, event_id) not in counted:
                        new.append((user, item, time))
                        counted.add((user, event_id))
                users, items, times, ids = (list(column) for column in zip(*group, strict=True))
                assert serving.update_many(
                    users, items, times=times, event_ids=[e or None for e in ids]
                ) == len(new)
                for user, item, time in new:
                    histories.setdefault(user, []).append((item, time))
            elif step == "bad":
                users = [user for user, *_ in value]
                with pytest.raises(InputError, match="nothing like it"):
                    serving.update_many([*users, "a"], [IDS[0]] * len(users) + ["nothing like it"])
                if users[0] in histories and case.timed:
                    with pytest.raises(InputError, match="earlier than"):
                        serving.update_many([users[0]], [IDS[0]], times=[1.0])
            elif step == "forget":
                assert serving.forget(value) == (value in histories)
                histories.pop(value, None)
                counted = {key for key in counted if key[0] != value}
            elif step == "model":
                case = value
                for one in services:
                    one.replace_engine(fresh(case, threads=1))
            elif step == "maintain":
                serving.write_states()
            elif step == "load":
                assert serving.load() == len(histories)
            elif step == "kill":  # nothing is closed
                services[0] = serve(open_it(), case)
            else:
                services.reverse()
            assert_right(services[0], case, histories)
        assert_right(services[1], case, histories)
        assert services[1].engine.num_users <= max(2, len(USERS))
        for one in services:
            one._ending.set()


@pytest.mark.parametrize("kind", ALL)
@settings(max_examples=20)
@given(sequence=steps)
def test_a_service_is_a_dictionary_of_histories(kind: str, sequence: list[tuple[str, Any]]) -> None:
    run(kind, sequence)


@pytest.mark.parametrize("kind", ALL)
def test_threads_lose_no_event(kind: str) -> None:
    """Four threads, of two services, change the same users, while others read."""
    with place(kind) as open_it:
        services = [serve(open_it()), serve(open_it(), max_users=2)]
        wrong: list[BaseException] = []
        ended = threading.Event()

        def writes(number: int) -> None:
            for step in range(15):
                ids = [f"{number} {step} {n}" for n in range(3)]
                for _ in range(2):  # and once more, as a client that has lost the answer
                    services[number % 2].update_many(["a", "b", "a"], IDS[:3], event_ids=ids)

        def reads(number: int) -> None:
            while not ended.is_set():
                services[number % 2].recommend("a", 3)
                services[number % 2].recommend_many(["b", "a", "nobody"], 3)
                services[number % 2].write_states()

        def safely(call: Callable[[int], None], number: int) -> None:
            try:
                call(number)
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=safely, args=(writes, number)) for number in range(4)]
        readers = [threading.Thread(target=safely, args=(reads, number)) for number in range(2)]
        for thread in threads + readers:
            thread.start()
        for thread in threads:
            thread.join()
        ended.set()
        for thread in readers:
            thread.join()
        assert wrong == []
        items, _ = services[0].history("a")
        assert len(items) == 4 * 15 * 2
        histories = {user: list(zip(*services[0].history(user), strict=True)) for user in ("a", "b")}
        for one in services:
            assert_right(one, BY_NAME["request"], histories)


@pytest.mark.parametrize("kind", kinds("lmdb", "redis"))
def test_a_state_saves_the_way_through_the_history(kind: str) -> None:
    with place(kind) as open_it:
        first = serve(open_it())
        for number in range(5):
            first.update("a", IDS[number], time=START + number)
        first.write_states()
        first.update("a", IDS[7], time=START + 9)
        store = open_it()
        asked = []
        history = store.history
        store.history = lambda user, after=0: asked.append((user, after > 0)) or history(user, after)  # type: ignore[method-assign]
        assert_right(serve(store), BY_NAME["request"], {"a": list(zip(*history("a")[1:3], strict=True))})
        assert asked[:2] == [("a", False), ("a", True)]  # the first one is of the test


@pytest.mark.parametrize("kind", ALL)
def test_a_new_model_never_sees_old_states(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with place(kind) as open_it:
        serving = serve(open_it())
        users, items = ["a", "a", "a", "b"], [IDS[1], IDS[20], IDS[3], IDS[20]]
        serving.update_many(users, items, times=[START] * 4)
        serving.write_states()
        small = Engine.load(file_of(model_of(BY_NAME["plain"], num_items=10), IDS[:10]), threads=1)
        serving.replace_engine(small)
        with caplog.at_level(logging.WARNING, "recblr.serving"):
            assert serving.load() == 2
        assert "i20" in caplog.text
        assert len(caplog.records) == 1
        assert serving.left_out == 2
        serving._loaded.drop("a")
        assert serving.recommend("a", 1)
        assert serving.left_out == 2  # not once more
        other = Engine.load(file_of(model_of(BY_NAME["plain"], num_items=10), IDS[:10]), threads=1)
        other.rebuild({"a": [IDS[1], IDS[3]]})
        assert serving.recommend("a", 5) == other.recommend("a", 5)
        assert serving.recommend("b", 5) == []  # none of the items is known
        assert serving.recommend_many(["b", "a"], 5) == [[], other.recommend("a", 5)]
        assert serving.update("b", IDS[2], time=START)
        other.update("b", IDS[2])
        assert serving.recommend("b", 5) == other.recommend("b", 5)
        serving.replace_engine(fresh("request", threads=1))
        assert serving.left_out == 0
        assert_right(serving, BY_NAME["request"], {
            "a": [(IDS[1], START), (IDS[20], START), (IDS[3], START)],
            "b": [(IDS[20], START), (IDS[2], START)],
        })  # fmt: skip


def test_a_model_that_knows_time_takes_the_history_of_one_that_does_not() -> None:
    serving = serve(MemoryStore(), "plain")
    serving.update_many(["a", "a", "a"], IDS[:3], times=[START + 5, START, START + 9])
    serving.replace_engine(fresh("past", threads=1))
    history = [(IDS[0], START + 5), (IDS[1], START), (IDS[2], START + 9)]
    assert_right(serving, BY_NAME["past"], {"a": history})


def test_a_state_of_an_engine_with_other_options_is_made_again() -> None:
    with place("lmdb") as open_it:
        first = serve(open_it())
        first.update_many(["a"] * 3, IDS[:3], times=[START] * 3)
        first.write_states()
        half = Service(fresh("request", threads=1, states="bfloat16"), open_it(), write_behind=3600)
        other = fresh("request", threads=1, states="bfloat16")
        other.rebuild({"a": (IDS[:3], [START] * 3)})
        assert half.recommend("a", 5) == other.recommend("a", 5)


def test_the_clock_of_another_server_may_be_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    serving = serve(MemoryStore())
    ahead = START + 1e9
    serving.update("a", IDS[0], time=ahead)
    assert serving.update_many(["a", "b"], IDS[1:3]) == 2  # the time of our clock
    assert serving.history("a") == (IDS[:2], [ahead, ahead])
    assert serving.history("b")[1][0] < ahead
    assert serving.update_many(["c", "c"], IDS[1:3], times=[None, None]) == 2
    # One event of several has no time.
    assert serving.update_many(["b", "a", "a"], IDS[3:6], times=[ahead, None, ahead + 1]) == 3
    assert serving.history("a")[1] == [ahead, ahead, ahead, ahead + 1]
    with pytest.raises(InputError, match="earlier than"):
        serving.update_many(["a", "b"], IDS[3:5], times=[ahead, None])
    with pytest.raises(InputError, match="earlier than"):
        serving.update_many(["a"], [IDS[1]], times=[START])


class Failing(MemoryStore):
    """A store whose disk is full now and then."""

    full = False
    conflicts = 0

    def append(self, batch: Any) -> int:
        if self.conflicts:
            self.conflicts -= 1
            raise Conflict("a")
        if self.full:
            raise StoreError("the disk is full", "make room")
        return super().append(batch)


def test_users_come_and_go_while_threads_ask_for_them() -> None:
    """The engine keeps five users of 40, whom four threads change and ask for."""
    with place("lmdb") as open_it:
        serving = serve(open_it(), max_users=5, write_behind=0.01)
        users = [f"user{number}" for number in range(40)]
        wrong: list[BaseException] = []

        def works(first: int) -> None:
            try:
                for step in range(150):
                    user = users[(first * 10 + step * 7) % 40]
                    before = len(serving.history(user)[0]) if step % 10 == 0 else 0
                    serving.update_many([user, users[(step + 1) % 40]], [IDS[step % 9], IDS[first]])
                    assert serving.recommend(user, 3)
                    if step % 10 == 0:
                        assert len(serving.history(user)[0]) > before
            except BaseException as error:
                wrong.append(error)

        threads = [threading.Thread(target=works, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []
        assert serving.engine.num_users <= 8
        engine = fresh("request", threads=1)
        for user in users:
            items, times = serving.history(user)
            engine.rebuild({user: (items, times)})
            assert serving.recommend(user, 3) == engine.recommend(user, 3)
        serving.close()


def test_an_acknowledged_event_raises_nothing_if_states_cannot_be_written() -> None:
    class Full(Failing):
        def put_states(self, model: str, states: Any) -> None:
            raise StoreError("the disk is full", "make room")

    serving = serve(Full(), max_users=1)
    for number in range(8):
        assert serving.update_many(["a", "a", "b"], IDS[:3]) == 3
        assert len(serving.history("a")[0]) == 2 * number + 2


def test_an_event_that_is_not_written_does_not_count() -> None:
    store = Failing()
    serving = serve(store)
    serving.update("a", IDS[0], time=START, event_id="e0")
    store.full = True
    with pytest.raises(StoreError, match="the disk is full; make room"):
        serving.update_many(["a", "b"], IDS[1:3], times=[START] * 2, event_ids=["e1", "e2"])
    assert_right(serving, BY_NAME["request"], {"a": [(IDS[0], START)]})
    store.full = False
    assert serving.update_many(["a", "b"], IDS[1:3], times=[START] * 2, event_ids=["e1", "e2"]) == 2
    assert_right(
        serving, BY_NAME["request"], {"a": [(IDS[0], START), (IDS[1], START)], "b": [(IDS[2], START)]}
    )


def test_a_conflict_is_tried_again() -> None:
    store = Failing()
    serving = serve(store)
    store.conflicts = 5
    assert serving.update("a", IDS[0], time=START)
    assert_right(serving, BY_NAME["request"], {"a": [(IDS[0], START)]})
    store.conflicts = 10**9
    with pytest.raises(StoreError, match="other servers changed the same users"):
        serving.update("a", IDS[1], time=START)
    store.conflicts = 0
    assert_right(serving, BY_NAME["request"], {"a": [(IDS[0], START)]})


@needs_redis
def test_two_servers_that_change_one_user_lose_nothing() -> None:
    with place("redis") as open_it:
        services = [serve(open_it()) for _ in range(2)]

        def writes(one: Service, name: str) -> None:
            for number in range(30):
                one.update("a", IDS[number % 9], event_id=f"{name}{number}")

        threads = [threading.Thread(target=writes, args=pair) for pair in zip(services, "xy", strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        items, times = services[0].history("a")
        assert len(items) == 60
        for one in services:
            assert_right(one, BY_NAME["request"], {"a": list(zip(items, times, strict=True))})


LONG = "x" * 401
MISTAKES = {
    "a long user": (([LONG], ["i1"]), "has 401 bytes of UTF-8; give ids of at most 400"),
    "a long user of few letters": ((["ü" * 201], ["i1"]), "has 402 bytes"),
    "a NUL": ((["a\0b"], ["i1"]), "holds the character NUL; give ids without it"),
    "a half of a pair": ((["\ud800"], ["i1"]), "cannot be encoded as UTF-8"),
    "an empty user": (([""], ["i1"]), "the user id is empty"),
    "a float": (([1.5], ["i1"]), "the user id 1.5 has the type float; give text or an integer"),
    "a truth": (([True], ["i1"]), "has the type bool"),
    "one text": (("abc", ["i1"]), "give a list of ids"),
    "a number": ((5, ["i1"]), "give a list of ids"),
    "too few items": ((["a", "b"], ["i1"]), "there are 2 users, but 1 items"),
    "an unknown item": ((["a"], ["no item"]), "'no item'"),
}


@pytest.mark.parametrize(("arguments", "sentence"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_refused_in_one_sentence(arguments: Any, sentence: str) -> None:
    serving = serve(MemoryStore())
    with pytest.raises(InputError) as refused:
        serving.update_many(*arguments)
    assert sentence in str(refused.value)
    assert serving.engine.num_users == 0


@pytest.mark.parametrize("times", [["x"], [1, 2, 3], [float("nan")], [[1.0]], [float("inf")], "x", [1.0j]])
def test_wrong_times_are_refused(times: Any) -> None:
    with pytest.raises(InputError, match="time"):
        serve(MemoryStore()).update_many(["a"], ["i1"], times=times)


@pytest.mark.parametrize("event_ids", [[""], [LONG], ["a\0"], ["x", "y"], [1.5]])
def test_wrong_event_ids_are_refused(event_ids: Any) -> None:
    with pytest.raises(InputError, match="event id"):
        serve(MemoryStore()).update_many(["a"], ["i1"], event_ids=event_ids)


@pytest.mark.parametrize("options", [{"write_behind": 0}, {"max_users": 0}, {"max_users": True}])
def test_wrong_options_are_refused(options: Any) -> None:
    with pytest.raises(InputError, match="|".join(options)):
        serve(MemoryStore(), **options)


def test_an_engine_with_users_is_refused() -> None:
    engine = fresh("plain", threads=1)
    engine.update("a", IDS[0])
    with pytest.raises(InputError, match="has 1 users"):
        Service(engine, MemoryStore())
    with pytest.raises(InputError, match="has 1 users"):
        serve(MemoryStore()).replace_engine(engine)


def test_integers_are_ids_too() -> None:
    serving = serve(MemoryStore())
    assert serving.update_many([7, np.int64(7), "7"], IDS[:3], event_ids=[1, None, np.int32(2)]) == 3
    assert not serving.update(7, IDS[0], event_id="1")
    assert serving.history(7)[0] == IDS[:3]


def test_nothing_is_an_update() -> None:
    assert serve(MemoryStore()).update_many([], []) == 0


def test_the_other_answers_are_those_of_the_engine() -> None:
    serving = Service(fresh("request", threads=1, history=True), MemoryStore())
    engine = fresh("request", threads=1, history=True)
    engine.rebuild({"a": (IDS[:3], [START] * 3)})
    serving.update_many(["a"] * 3, IDS[:3], times=[START] * 3)
    assert serving.explain("a", IDS[5]) == engine.explain("a", IDS[5])
    assert serving.explain("nobody", IDS[5]) == []
    assert serving.similar(IDS[1], 4) == engine.similar(IDS[1], 4)
    history = {"times": [START] * 3, "time": START + 5}
    assert serving.recommend_history(IDS[:3], 4, **history) == engine.recommend_history(IDS[:3], 4, **history)
    assert serving.recommend_history([]) == []
    assert serving.recommend("a", 2, exclude=[IDS[5]], mask_seen=False) == engine.recommend(
        "a", 2, exclude=[IDS[5]], mask_seen=False
    )
    with pytest.raises(InputError, match="no item"):
        serving.recommend("a", 2, allow=["no item"])
    serving.close()
    serving.close()


def test_states_are_written_in_the_background() -> None:
    with place("lmdb") as open_it, serve(open_it(), write_behind=0.01) as serving:
        serving.update_many(["a"] * 3, IDS[:3], times=[START] * 3)
        store, waited = open_it(), threading.Event()
        for _ in range(1000):
            if store.state("a", serving.engine.digest):
                return
            waited.wait(0.01)
        pytest.fail("no state was written")


def test_answers_and_drops_at_the_same_time_are_right() -> None:
    """A user may be dropped between any two steps of an answer."""
    serving = serve(MemoryStore(), max_users=1)
    right = {}
    for number, user in enumerate(USERS):
        serving.update_many([user] * 3, IDS[number : number + 3], times=[START + n for n in range(3)])
        right[user] = serving.recommend(user, 3)
    wrong: list[object] = []
    until = time.monotonic() + 1

    def ask(user: str) -> None:
        while time.monotonic() < until and not wrong:
            try:
                for found in (serving.recommend(user, 3), serving.recommend_many([user], 3)[0]):
                    if found != right[user]:
                        wrong.append(found)
            except Exception as error:  # a thread cannot fail the test
                wrong.append(error)

    def drop() -> None:
        while time.monotonic() < until:
            serving._limit(serving._loaded)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=ask, args=(user,)) for user in USERS]
        threads += [threading.Thread(target=drop)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong
    serving.close()


def test_users_of_answers_are_dropped_too() -> None:
    serving = serve(MemoryStore(), max_users=2)
    for user in USERS:
        serving.update(user, IDS[0], time=START)
    for user in USERS:
        serving.recommend(user, 1)
    serving.write_states()
    assert serving.engine.num_users == 2
    serving.close()


def test_an_event_counts_although_another_thread_changes_the_users_meanwhile() -> None:
    class Changing(dict[str, int]):
        def __iter__(self) -> Iterator[str]:
            raise RuntimeError("dictionary changed size during iteration")

    serving = serve(MemoryStore(), max_users=1)
    serving.update("a", IDS[0], time=START)
    serving._loaded.versions = Changing(serving._loaded.versions)
    assert serving.update("b", IDS[0], time=START)
    assert serving.history("b")[0] == [IDS[0]]
    serving.close()


def test_an_interrupted_load_is_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C may come right after the engine has taken events in."""
    case, store = BY_NAME["request"], MemoryStore()
    ours, theirs = serve(store, case), serve(store, case)
    ours.update("a", IDS[0], time=START)
    theirs.update("a", IDS[1], time=START + 1)
    taken = Engine.update_many

    def interrupted(self: Engine, *args: Any, **options: Any) -> int:
        taken(self, *args, **options)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Engine, "update_many", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ours.score("a", IDS, time=START + 2)
    history = [(IDS[0], START), (IDS[1], START + 1)]
    assert ours.score("a", IDS, time=START + 2).tolist() == expected(case, history, START + 2).tolist()


def test_states_are_of_no_use_after_other_items_were_added() -> None:
    with place("lmdb") as open_it:
        recommended = []
        for names, like in (("xy", IDS[1:3]), ("yx", IDS[1:3]), ("xy", IDS[1:3]), ("xy", IDS[3:5])):
            serving = serve(open_it(), "plain")
            serving.engine.add_items(list(names), like=[[item] for item in like])
            if not recommended:
                serving.update_many(["a"] * 3, ["x", IDS[5], "x"])
            engine = fresh("plain", threads=1)
            engine.add_items(list(names), like=[[item] for item in like])
            engine.rebuild({"a": ["x", IDS[5], "x"]})
            recommended.append(serving.recommend("a", 5))
            assert recommended[-1] == engine.recommend("a", 5)
            assert serving.engine.seen("a") == [IDS[5], "x"]
            serving.write_states()
            assert open_it().state("a", serving.engine.state_digest)
        assert recommended[0] == recommended[2] != recommended[3]


def test_a_forgotten_user_leaves_no_counts() -> None:
    serving = serve(MemoryStore(), write_behind=3600)
    serving.update_many(["a", "b"], IDS[:2])
    serving.forget("a")
    serving._loaded.count()
    assert serving._loaded.unwritten == {"b": 1}


def test_a_fold_that_fails_is_named_and_holds_up_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    class Full(MemoryStore):
        failures = 0

        def maintain(self) -> None:
            self.failures += 1
            raise StoreError("the address space is used up", "give more")

    store = Full()
    with caplog.at_level(logging.WARNING, "recblr.serving"):
        serving = serve(store, write_behind=0.01)
        serving.update_many(USERS, IDS[:4])
        deadline = time.monotonic() + 10
        while (store.failures < 3 or serving._loaded.recent) and time.monotonic() < deadline:
            time.sleep(0.01)
        with pytest.raises(StoreError, match="address space"):
            serving.close()
    assert not serving._loaded.recent
    sentence = "the log of events is not folded: the address space is used up; give more"
    assert [record.getMessage() for record in caplog.records] == [sentence]


def test_a_large_state_waits_for_more_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """The state of a long history is not written again for a few events."""
    with place("lmdb") as open_it:
        engine = fresh("plain", threads=1, history=True)
        serving, other = Service(engine, open_it(), write_behind=3600), open_it()
        serving.update_many(["a"] * 5000, [IDS[n % 9] for n in range(5000)])

        def written() -> int:
            serving.write_states()
            return (other.state("a", engine.digest) or (0, b""))[0]

        first = written()
        assert first == other.version("a")
        needed = len(engine.state("a")) // 1024 + 2
        serving.update_many(["a"] * (needed - 3), IDS[:1] * (needed - 3))
        assert written() == first
        serving.update_many(["a"] * 3, IDS[:3])
        assert written() == other.version("a")


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("repeated", [False, True])
def test_a_conflict_mixes_up_no_events(late: bool, repeated: bool) -> None:
    """late: the other event comes after ours, which have no time; repeated: it is one of ours."""

    class Busy(MemoryStore):
        busy = False

        def append(self, batch: Any) -> int:
            if self.busy:
                self.busy = False
                super().append(theirs)
                raise Conflict("b")
            return super().append(batch)

    store, case = Busy(), BY_NAME["request"]
    serving = serve(store, case)
    serving.update_many(USERS, IDS[:4], times=[START] * 4)
    theirs = Batch(["b"], [IDS[6]], [4e9 if late else START], ["y1" if repeated else "other"])
    store.busy = True
    ids = [f"y{number}" for number in range(5)]
    counted = serving.update_each([*USERS, "b"], IDS[3:8], event_ids=ids)
    assert counted == [True, not repeated, True, True, True]
    histories = {user: list(zip(*serving.history(user), strict=True)) for user in USERS}
    assert [len(histories[user]) for user in USERS] == [2, 3 if repeated else 4, 2, 2]
    assert_right(serving, case, histories)
