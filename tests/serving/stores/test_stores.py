"""Every store against a dictionary: any sequence of groups, retries, forgets, folds and reopenings."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import nullcontext

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving.stores.places import kinds, needs_lmdb, needs_redis, place

from recblr.errors import InputError
from recblr.serving.stores import lmdb, log, memory
from recblr.serving.stores.address import open_store
from recblr.serving.stores.store import Batch, Conflict, Store

ALL = kinds("memory", "lmdb", "redis")
USERS = ["a", "aa", "b", "ü", "7", "../a", "a\n"]
SPAN = 12


@pytest.fixture(autouse=True, scope="module")
def _small() -> Iterator[None]:
    """Files, folds and spans so small that a short test passes their ends."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log, "_FILE_BYTES", 600)
        patch.setattr(log, "_READ_BYTES", 100)
        patch.setattr(lmdb, "_FOLD_MOST", 5)
        for module in (lmdb, memory):
            patch.setattr(module, "SPAN", SPAN)
        yield


events = st.tuples(
    st.sampled_from(USERS),
    st.sampled_from(["i1", "i2", "ï3"]),
    st.floats(0, 2e9),
    st.sampled_from(["", *"pqrst"]),
)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.lists(events, min_size=1, max_size=8)),
        st.tuples(st.just("abort"), st.lists(events, min_size=1, max_size=3)),
        st.tuples(st.just("forget"), st.sampled_from(USERS)),
        st.tuples(st.just("state"), st.sampled_from(USERS)),
        st.tuples(st.sampled_from(["fold", "reopen", "switch"]), st.none()),
    ),
    max_size=25,
)


class Model:
    """What a store must hold: a dictionary."""

    def __init__(self) -> None:
        self.events: dict[str, list[tuple[int, str, float]]] = {}
        self.ids: dict[tuple[str, str], int] = {}  # the number of events that came before
        self.count = 0
        self.given: set[int] = set()
        self.states: dict[str, tuple[str, int]] = {}

    def append(self, store: Store, group: list[tuple[str, str, float, str]]) -> None:
        users, items, times, ids = (list(column) for column in zip(*group, strict=True))
        with store.transaction(list(dict.fromkeys(users))) as transaction:
            distinct = list(dict.fromkeys(users))
            assert transaction.versions(distinct) == [self.version(user) for user in distinct]
            new = transaction.new(users, ids)
            self.check_new(users, ids, new)
            if not new:
                return
            first = transaction.append(Batch(users, items, times, ids).only(new))
        for number, at in enumerate(new):
            version = first + number
            assert version not in self.given
            assert version > self.version(users[at])
            self.given.add(version)
            self.events.setdefault(users[at], []).append((version, items[at], times[at]))
            if ids[at]:
                self.ids[users[at], ids[at]] = self.count
            self.count += 1

    def check_new(self, users: list[str], ids: list[str], new: list[int]) -> None:
        seen = set()
        for at, key in enumerate(zip(users, ids, strict=True)):
            if not key[1]:
                assert at in new
            elif key in seen:
                assert at not in new
            elif key not in self.ids:
                assert at in new
            elif self.count - self.ids[key] < SPAN - 8:
                assert at not in new
            seen.add(key)

    def version(self, user: str) -> int:
        return self.events[user][-1][0] if user in self.events else 0

    def check(self, store: Store) -> None:
        assert sorted(store.users()) == sorted(self.events)
        assert store.versions(USERS) == [self.version(user) for user in USERS]
        for user in USERS:
            events = self.events.get(user, [])
            for start in range(len(events) + 1):
                after = events[start - 1][0] if start else 0
                found = store.history(user, after)
                assert found == (
                    self.version(user), [e[1] for e in events[start:]], [e[2] for e in events[start:]],
                    not start,
                )  # fmt: skip
            kept = store.state(user, "model")
            if user in self.states and kept:
                assert kept == (self.states[user][1], self.states[user][0].encode())
            assert store.state(user, "other") is None

    def forget(self, store: Store, user: str) -> None:
        old = self.version(user)
        assert store.forget(user) == (user in self.events)
        self.events.pop(user, None)
        self.states.pop(user, None)
        self.ids = {key: count for key, count in self.ids.items() if key[0] != user}
        # A server that knows nothing of it asks for what came after, and writes a state that is too late.
        assert store.history(user, old) == (0, [], [], True)
        store.put_states("model", {user: (old, b"too late")})
        assert store.state(user, "model") is None

    def put_state(self, store: Store, user: str) -> None:
        version = self.version(user)
        name = f"{user} at {version}"
        store.put_states("model", {user: (version, name.encode()), "nobody": (5, b"state")})
        store.put_states("model", {user: (version - 1, b"older")})
        if version:
            self.states[user] = (name, version)


def run(kind: str, sequence: list[tuple[str, object]]) -> None:
    model = Model()
    with place(kind) as open_it:
        stores = [open_it(), open_it()]  # two processes' stores, which take turns
        for step, value in sequence:
            store = stores[0]
            if step == "append":
                model.append(store, value)  # type: ignore[arg-type]
            elif step == "abort":
                with store.transaction([event[0] for event in value]) as transaction:  # type: ignore[attr-defined]
                    transaction.new(["a"], ["p"])
            elif step == "forget":
                model.forget(store, value)  # type: ignore[arg-type]
            elif step == "state":
                model.put_state(store, value)  # type: ignore[arg-type]
            elif step == "fold":
                getattr(store, "fold", store.maintain)()
            elif step == "reopen":
                stores[0] = open_it()
            else:
                stores.reverse()
            model.check(stores[0])
        model.check(stores[1])


@pytest.mark.parametrize("kind", ALL)
@settings(max_examples=30)
@given(sequence=steps)
def test_a_store_is_a_dictionary(kind: str, sequence: list[tuple[str, object]]) -> None:
    run(kind, sequence)


@needs_lmdb
def test_states_are_found_again_where_they_were_put() -> None:
    """The property above allows a store to have none, which the memory has not."""
    with place("lmdb") as open_it:
        store = open_it()
        model = Model()
        model.append(store, [("a", "i1", 1.0, "")])
        for _ in range(2):
            model.put_state(store, "a")
            assert store.state("a", "model") == (model.version("a"), f"a at {model.version('a')}".encode())
            store.fold()  # type: ignore[attr-defined]
            model.append(store, [("a", "i2", 2.0, "")])
        store.put_states("other", {"a": (1, b"of another model")})
        assert store.state("a", "model") is None
        assert store.state("a", "other") == (1, b"of another model")


@needs_lmdb
def test_a_state_of_a_forgotten_user_that_comes_late_is_of_no_use() -> None:
    """A process has not yet seen that another one has forgotten a user."""
    with place("lmdb") as open_it:
        late, other = open_it(), open_it()
        model = Model()
        model.append(late, [("a", "i1", 1.0, "")])
        version = late.version("a")
        other.forget("a")
        other.fold()  # type: ignore[attr-defined]
        late.put_states("model", {"a": (version, b"late")})
        for store in (late, other, open_it()):
            store.maintain()
            assert store.version("a") == 0
            assert list(store.users()) == []
            assert store.state("a", "model") is None


@needs_lmdb
def test_a_history_is_read_as_of_one_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The user is forgotten and folded by another process at the worst moment."""
    with place("lmdb") as open_it:
        store, other = open_it(), open_it()
        model = Model()
        model.append(store, [("a", "i1", 1.0, ""), ("a", "i2", 2.0, "")])
        store.fold()  # type: ignore[attr-defined]
        follow = store._follow  # type: ignore[attr-defined]

        def then_forgotten() -> None:
            follow()
            if other.forget("a"):
                other.fold()  # type: ignore[attr-defined]

        monkeypatch.setattr(store, "_follow", then_forgotten)
        assert store.history("a").items in (["i1", "i2"], [])
        assert store.history("a").items == []


@needs_lmdb
def test_a_fold_does_not_trust_what_readers_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """After a kill right behind a commit, readers of LMDB see the state before it until the next writer."""
    with place("lmdb") as open_it:
        store, killed = open_it(), open_it()
        model = Model()
        model.append(store, [("a", "i1", 1.0, ""), ("a", "i2", 2.0, "")])
        transaction, old = store._txn, store._env.begin()  # type: ignore[attr-defined]
        killed.fold()  # type: ignore[attr-defined]
        model.append(store, [("a", "i1", 3.0, "")])
        with old, monkeypatch.context() as patch:
            patch.setattr(
                store, "_txn", lambda write=False: transaction(write) if write else nullcontext(old)
            )
            store._fold_some()  # type: ignore[attr-defined]
        model.check(store)
        model.check(open_it())


@pytest.mark.parametrize("kind", ALL)
def test_ids_are_remembered_as_long_as_is_promised(kind: str) -> None:
    with place(kind) as open_it:
        store, model = open_it(), Model()
        for number in range(40):
            model.append(store, [("a", "i1", float(number), f"e{number}")])
            getattr(store, "fold", store.maintain)()
            newest = [f"e{n}" for n in range(max(0, number - SPAN + 2), number + 1)]
            for opened in (store, open_it()):
                with opened.transaction(["a"]) as transaction:
                    assert transaction.new(["a"] * len(newest), newest) == []


def test_a_user_is_forgotten_in_no_time_among_many_ids(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SPAN", 1_000_000)
    store = memory.MemoryStore()
    users = [f"user{number}" for number in range(100_000)]
    store.append(Batch(users, ["i1"] * len(users), [1.0] * len(users), ["x"] * len(users)))
    began = time.monotonic()
    for user in users[:500]:
        store.forget(user)
    assert time.monotonic() - began < 1
    assert store.new(users[:600], ["x"] * 600) == list(range(500))


@needs_lmdb
def test_many_folds_make_few_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lmdb, "_SMALL_CHUNK", 300)  # 15 events
    with place("lmdb") as open_it:
        store, model = open_it(), Model()
        for number in range(60):
            model.append(store, [("a", f"i{number}", float(number), ""), ("b", "i1", 1.0, "")])
            if number == 30:
                model.put_state(store, "a")
            if number == 40:
                model.forget(store, "a")
            store.fold()  # type: ignore[attr-defined]
        with store._txn() as txn:  # type: ignore[attr-defined]
            assert txn.stat(store._dbs["histories"])["entries"] < 10  # type: ignore[attr-defined]
        model.check(store)


@needs_lmdb
def test_memory_has_only_what_is_not_folded() -> None:
    with place("lmdb") as open_it:
        store, other, model = open_it(), open_it(), Model()
        for number in range(30):
            model.append(store, [(user, "i1", float(number), "") for user in USERS[: 1 + number % 7]])
        model.check(other)
        store.fold()  # type: ignore[attr-defined]
        model.append(store, [("a", "i2", 99.0, "")])
        for one in (store, other):
            one.maintain()
            assert one.versions(USERS) == [model.version(user) for user in USERS]
            assert list(one._newest) == ["a"]  # type: ignore[attr-defined]
            model.check(one)


@needs_lmdb
def test_files_of_the_log_are_deleted_when_they_are_of_no_use() -> None:
    with place("lmdb") as open_it:
        store, model = open_it(), Model()
        asleep = open_it()
        most = 0
        for number in range(300):
            model.append(store, [("a", f"item{number}", float(number), "")])
            if number % 10 == 9:
                store.fold()  # type: ignore[attr-defined]
            most = max(most, len(list(store.path.glob("events-*.log"))))  # type: ignore[attr-defined]
        assert 2 <= most <= 6
        model.check(store)
        model.check(asleep)  # it has missed files that are deleted by now
        model.check(open_it())


@needs_redis
def test_another_server_conflicts() -> None:
    with place("redis") as open_it:
        ours, theirs = open_it(), open_it()
        group = Batch(["a", "b"], ["i1", "i2"], [1.0, 2.0])
        with ours.transaction(["a", "b"]) as transaction:
            with theirs.transaction(["b"]) as other:
                other.append(Batch(["b"], ["i3"], [1.5]))
            with pytest.raises(Conflict):
                transaction.append(group)
        assert ours.history("a").version == 0
        assert ours.history("b").items == ["i3"]
        with ours.transaction(["a", "b"]) as transaction:
            theirs.forget("b")
            with pytest.raises(Conflict):
                transaction.append(group)
        with ours.transaction(["a", "b"]) as transaction:
            with theirs.transaction(["c"]) as other:
                other.append(Batch(["c"], ["i3"], [1.5]))
            transaction.append(group)  # of others
        assert ours.history("b").items == ["i2"]


@needs_redis
def test_an_append_that_is_sent_again_counts_once() -> None:
    """redis-py sends a command again if the connection broke before the answer."""
    with place("redis") as open_it:
        store = open_it()
        script = store._append  # type: ignore[attr-defined]
        store._append = lambda args: (script(args=args), script(args=args))[1]  # type: ignore[attr-defined]
        with store.transaction(["a"]) as transaction:
            version = transaction.append(Batch(["a"], ["i1"], [1.0]))
        assert store.history("a") == (version, ["i1"], [1.0], True)


@pytest.mark.parametrize("address", ["", "lmdb", "lmdb:", "disk:/tmp/x", "redis", "http://localhost"])
def test_an_unknown_address_is_refused(address: str) -> None:
    with pytest.raises(InputError, match=r"lmdb:PATH|redis://HOST"):
        open_store(address)


@pytest.mark.parametrize("kind", kinds("lmdb"))
def test_a_group_larger_than_a_file_fits(kind: str) -> None:
    with place(kind) as open_it:
        store, model = open_it(), Model()
        for size in (1, 100, 1, 300, 2):
            model.append(store, [(USERS[n % 7], f"item{n}", float(n), "") for n in range(size)])
        model.check(store)
        model.check(open_it())
