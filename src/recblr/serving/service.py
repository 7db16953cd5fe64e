"""An engine and a store: events that outlive the process, and answers that count every acknowledged event.

The store is right, and the engine is a cache of users.  Each user has a version in the store.  Before the
service answers for a user, it compares this version with the one that the engine's state has, and takes in
what lacks.  So several processes may serve one store, and a process may be killed at any moment.
"""

import logging
import random
import secrets
import time as clock
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import islice
from math import isfinite
from threading import Condition, Event, Thread
from typing import Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recblr.errors import InputError
from recblr.serving.engine import Engine, Id, Recommendation
from recblr.serving.stores.store import LONGEST_ID, Batch, Conflict, History, Store, StoreError, Transaction

_TRIES = 30  # of a group of events whose users get events from other servers at the same time
_SPLIT_FROM = 256  # events of a group; for fewer, another thread takes longer to start than it saves
_STATE_EVERY = 32  # events; to take these in again takes less than 0.3 ms
_AT_ONCE = 64  # users whose states are written together, and who wait meanwhile
_log = logging.getLogger("recblr.serving")
_T = TypeVar("_T")


class Service:
    """Serves a model on a store of events.

    An event that was taken in is durable, as far as the store is, and counts once.  Ids are as those of
    :class:`Engine`, but shorter: at most 400 bytes, without the character NUL.  Times are seconds since 1970.
    An event without a time gets that of the clock.

    A user without events is unknown.  Nothing is recommended to an unknown user.

    All methods may be called from many threads at once.  Make one service for each process, after a fork.
    """

    def __init__(
        self,
        engine: Engine,
        store: Store,
        *,
        write_behind: float = 5.0,
        max_users: int | None = None,
    ) -> None:
        """Serve with an engine and a store, which belong to the service from now on.

        Args:
            engine: without users.  `explain` needs one with ``history=True``.
            write_behind: seconds between two writes of states in the background.  A state is written when 32
                or more events of its user are newer than the last one that was written.
            max_users: how many users the engine may keep; the others are loaded from the store when they are
                asked for.  Those that answers have loaded may be more until the next write of states.  None
                means no limit.

        Raises InputError if an argument is wrong.
        """
        if engine.num_users:
            raise InputError(f"the engine has {engine.num_users:,} users", "give an engine without users")
        if not write_behind > 0:
            raise InputError(f"write_behind is {write_behind!r}", "give a number of seconds above 0")
        if max_users is not None and (type(max_users) is not int or max_users < 1):
            raise InputError(
                f"max_users is {max_users!r}", "give a whole number from 1 on, or None for no limit"
            )
        self._store = store
        self._write_behind, self._max_users = write_behind, max_users
        self._held = _Held(engine)
        self._left_out = 0
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="recblr-engine")
        self._ending = Event()
        self._thread = Thread(target=self._behind, name="recblr-states", daemon=True)
        self._thread.start()

    # --- events ---------------------------------------------------------------------------------

    def update(self, user: Id, item: Id, *, time: float | None = None, event_id: Id | None = None) -> bool:
        """Take in an event, and return whether it counted.  Durable when it returns.

        Arguments and errors as :meth:`update_many`.
        """
        times = None if time is None else [time]
        ids = None if event_id is None else [event_id]
        return self.update_many([user], [item], times=times, event_ids=ids) == 1

    def update_many(
        self,
        users: Iterable[Id],
        items: Iterable[Id],
        *,
        times: ArrayLike | Sequence[float | None] | None = None,
        event_ids: Iterable[Id | None] | None = None,
    ) -> int:
        """Take in N events, those of a user in the order of the list: all or none, durable when it returns.

        Args:
            times: of the events; None for the time of the clock, for one event or for all.
            event_ids: of the events; None for no id, for one event or for all.  An event whose id was
                remembered with its user does not count again.  docs/stores.md says how long ids are
                remembered.

        Returns how many events counted.

        Raises:
            InputError: as Engine.update, and an id is too long or holds the character NUL.
            StoreError: the events could not be written.  None of them counts, except that a store which stops
                answering may have written them before.  Give events an id, and send them again.
        """
        return len(self._update(users, items, times, event_ids))

    def update_each(
        self,
        users: Sequence[Id],
        items: Sequence[Id],
        *,
        times: Sequence[float | None] | None = None,
        event_ids: Sequence[Id | None] | None = None,
    ) -> list[bool]:
        """As :meth:`update_many`, but returns for each event whether it counted."""
        counted = [False] * len(users)
        for place in self._update(users, items, times, event_ids):
            counted[place] = True
        return counted

    def _update(
        self,
        users: Iterable[Id],
        items: Iterable[Id],
        times: ArrayLike | Sequence[float | None] | None,
        event_ids: Iterable[Id | None] | None,
    ) -> Sequence[int]:
        """The places of the events that counted."""
        now = clock.time()
        batch = _batch(users, items, times, event_ids, now)
        if not batch.users:
            return []
        for attempt in range(_TRIES):
            try:
                return self._take_in(batch, now)
            except Conflict:
                clock.sleep(random.random() * min(0.001 * 2**attempt, 0.05))
        raise StoreError(
            f"other servers changed the same users in each of {_TRIES} attempts to add events",
            "send smaller groups, or send the events of a user to one server",
        )

    def _take_in(self, batch: Batch, now: float) -> Sequence[int]:
        """now: the time of the events that were given without one."""
        new: Sequence[int] = range(len(batch.users))
        distinct = list(dict.fromkeys(batch.users))
        held = self._held
        with held.busy(distinct), self._store.transaction(distinct) as transaction:
            if batch.event_ids:
                new = transaction.new(batch.users, batch.event_ids)
                if len(new) < len(batch.users):
                    batch = batch.only(new)
                    distinct = list(dict.fromkeys(batch.users))
                    if not new:
                        return new
            self._bring(held, distinct, transaction.versions(distinct))
            self._append(held, transaction, batch, distinct, now)
        self._limit(held)
        return new

    def _append(
        self, held: "_Held", transaction: Transaction, batch: Batch, distinct: list[str], now: float
    ) -> None:
        """Take events of users who are up to date into the engine and then into the store."""
        taken = False
        try:
            try:
                self._engine_takes(held, transaction, batch)
            except InputError:
                # The clock of another server may be ahead of ours.
                if now not in batch.times:
                    raise
                batch = batch._replace(times=_not_before(batch, now, held.last_times(distinct)))
                self._engine_takes(held, transaction, batch)
            taken = True
            first = transaction.append(batch)
            held.versions.update(zip(batch.users, range(first, first + len(batch.users)), strict=True))
            held.recent.append(batch.users)
        except BaseException as error:
            if taken or not isinstance(error, InputError):  # else the engine has taken in nothing
                for user in distinct:
                    held.drop(user)
            raise

    def _engine_takes(self, held: "_Held", transaction: Transaction, batch: Batch) -> None:
        if len(batch.users) == 1:  # this takes less time than a list of one
            held.engine.update(batch.users[0], batch.items[0], time=batch.times[0])
        elif len(batch.users) < _SPLIT_FROM:
            held.engine.update_many(batch.users, batch.items, times=batch.times)
        else:
            # The engine's threads do not hold Python's lock.
            taking = self._helper.submit(held.engine.update_many, batch.users, batch.items, times=batch.times)
            with suppress(Exception):  # append would raise it too
                transaction.prepare(batch)
            taking.result()

    # --- answers --------------------------------------------------------------------------------

    def knows(self, user: Id) -> bool:
        """Whether a user has events."""
        return self._store.version(_text(user, "user")) > 0

    def recommend(
        self,
        user: Id,
        k: int = 10,
        *,
        time: float | None = None,
        exclude: Iterable[Id] = (),
        allow: Iterable[Id] | None = None,
        mask_seen: bool = True,
    ) -> list[Recommendation]:
        """As Engine.recommend, with every acknowledged event.  The list of an unknown user is empty."""
        exclude, allow = list(exclude), None if allow is None else list(allow)
        return self._answer(
            user,
            lambda engine, known: engine.recommend(
                known, k, time=time, exclude=exclude, allow=allow, mask_seen=mask_seen
            ),
            [],
        )

    def recommend_at_once(
        self, user: str, k: int, *, time: float | None, mask_seen: bool
    ) -> list[Recommendation] | None:
        """As :meth:`recommend`, or None if the user must be loaded first, or other calls be waited for."""
        held, version = self._held, self._store.version(_text(user, "user"))
        if held.versions.get(user, 0) == version:
            with suppress(InputError):
                return held.engine.recommend(user, k, time=time, mask_seen=mask_seen) if version else []
        return None

    def unknown_item(self, items: list[str]) -> str | None:
        """The first of these items that the model does not have, or None."""
        held = self._held
        return None if held.has_items(items) else next((i for i in items if i not in held.items), None)

    def recommend_many(
        self,
        users: Iterable[Id],
        k: int = 10,
        *,
        times: ArrayLike | None = None,
        exclude: Iterable[Id] = (),
        allow: Iterable[Id] | None = None,
        mask_seen: bool = True,
    ) -> list[list[Recommendation]]:
        """As Engine.recommend_many, with every acknowledged event.  Lists of unknown users are empty."""
        asked = [_text(user, "user") for user in users]
        exclude, allow = list(exclude), None if allow is None else list(allow)
        held, distinct = self._held, list(dict.fromkeys(asked))
        with held.busy(distinct):  # so nobody drops them meanwhile
            self._bring(held, distinct, self._store.versions(distinct))
            known = [place for place, user in enumerate(asked) if user in held.engine]
            found = held.engine.recommend_many(
                [asked[place] for place in known],
                k,
                times=None if times is None else np.asarray(times)[known],
                exclude=exclude,
                allow=allow,
                mask_seen=mask_seen,
            )
        best: list[list[Recommendation]] = [[] for _ in asked]
        for place, one in zip(known, found, strict=True):
            best[place] = one
        return best

    def recommend_history(
        self,
        items: Iterable[Id],
        k: int = 10,
        *,
        times: ArrayLike | None = None,
        time: float | None = None,
        exclude: Iterable[Id] = (),
        allow: Iterable[Id] | None = None,
        mask_seen: bool = True,
    ) -> list[Recommendation]:
        """As Engine.recommend_history.  The list after an empty history is empty."""
        items = list(items)
        if not items:
            return []
        return self._held.engine.recommend_history(
            items, k, times=times, time=time, exclude=exclude, allow=allow, mask_seen=mask_seen
        )

    def similar(self, item: Id, k: int = 10) -> list[Recommendation]:
        """As Engine.similar."""
        return self._held.engine.similar(item, k)

    def score(self, user: Id, items: Iterable[Id], *, time: float | None = None) -> NDArray[np.float32]:
        """As Engine.score, with every acknowledged event.  No scores, (0,), for an unknown user."""
        items = list(items)
        return self._answer(
            user, lambda engine, known: engine.score(known, items, time=time), np.empty(0, np.float32)
        )

    def explain(self, user: Id, item: Id, *, time: float | None = None) -> list[tuple[int, str, float]]:
        """As Engine.explain, with every acknowledged event.  The list of an unknown user is empty."""
        return self._answer(user, lambda engine, known: engine.explain(known, item, time=time), [])

    def history(self, user: Id) -> tuple[list[str], list[float]]:
        """The items of a user's events and their times, oldest first; empty for an unknown user."""
        history = self._store.history(_text(user, "user"))
        return history.items, history.times

    def _answer(self, user: Id, ask: Callable[[Engine, str], _T], unknown: _T) -> _T:
        text, held = _text(user, "user"), self._held
        version = self._store.version(text)
        if held.versions.get(text, 0) != version:
            self._bring_shut(held, [text], [version])
        if not version:
            return unknown
        with suppress(InputError):
            return ask(held.engine, text)
        # The question is wrong, or another thread has dropped the user.  Once more, while nobody can.
        with held.busy([text]):
            self._bring(held, [text], self._store.versions([text]))
            if text not in held.engine:
                return unknown  # forgotten, or the model has none of the items that the user has
            return ask(held.engine, text)

    def explain_history(
        self, items: Iterable[Id], item: Id, *, times: ArrayLike | None = None, time: float | None = None
    ) -> list[tuple[int, str, float]]:
        """As Engine.explain, for a history of nobody.  The list of an empty history is empty."""
        engine, items = self._held.engine, list(items)
        if not items:
            return []
        if engine.time_use != "none" and times is None:
            raise InputError(
                f"the model was trained with --time {engine.time_use}, so it needs the times of the history",
                "give times=",
            )
        # The engine explains users only.  No user of a store has such an id.
        nobody = f"\0{secrets.token_hex(16)}"
        engine.rebuild({nobody: items if times is None else (items, times)})
        try:
            return engine.explain(nobody, item, time=time)
        finally:
            engine.forget(nobody)

    # --- users ----------------------------------------------------------------------------------

    def load(self, users: Iterable[Id] | None = None) -> int:
        """Bring users into the engine, so that their first answer takes no longer.  Returns how many.

        users: None means all users of the store.
        """
        count = 0
        waiting = iter(self._store.users() if users is None else (_text(user, "user") for user in users))
        while group := list(islice(waiting, 1024)):
            self._bring_shut(self._held, group, self._store.versions(group))
            self._limit(self._held)
            count += len(group)
        return count

    def forget(self, user: Id) -> bool:
        """Drop all that is kept of a user, the ids of events too; durable when it returns.

        Returns whether there was anything.  Raises StoreError.
        """
        text, held = _text(user, "user"), self._held
        with held.busy([text]):
            known = self._store.forget(text)
            held.drop(text)
        return known

    def replace_engine(self, engine: Engine) -> None:
        """Serve with another engine, without users, from now on.  Calls in flight finish on the old one.

        Users are loaded when they are asked for: from their states if the model is the same, else from their
        histories.  Events of items that the new model lacks are left out, and stay in the store.
        """
        if engine.num_users:
            raise InputError(f"the engine has {engine.num_users:,} users", "give an engine without users")
        self._held = _Held(engine)

    @property
    def engine(self) -> Engine:
        """The engine that answers now.  Do not change its users."""
        return self._held.engine

    @property
    def store(self) -> Store:
        """The store of the service.  Add events with the service, not with the store."""
        return self._store

    @property
    def local(self) -> bool:
        """Whether a look into the store takes microseconds, because it needs no network."""
        return self._store.local

    @property
    def left_out(self) -> int:
        """How many events were left out when users were loaded: the model does not have their items."""
        return self._left_out

    # --- loading --------------------------------------------------------------------------------

    def _bring_shut(self, held: "_Held", users: list[str], versions: list[int]) -> None:
        """As _bring, of users whom no call keeps busy."""
        with held.busy(users):
            self._bring(held, users, versions)

    def _bring(self, held: "_Held", users: list[str], versions: list[int]) -> None:
        """Take in what the engine lacks of users whom the caller keeps busy."""
        have = held.versions.get
        stale = [user for user, version in zip(users, versions, strict=True) if have(user, 0) != version]
        whole: dict[str, History] = {}
        for user in stale:
            if not self._catch_up(held, user):
                held.drop(user)
                history = self._store.history(user)
                if history.version:
                    whole[user] = self._known(held, user, history)
        if whole:
            timed = held.engine.time_use != "none"
            held.engine.rebuild(
                {user: (h.items, h.times) if timed else h.items for user, h in whole.items() if h.items}
            )
            for user, history in whole.items():
                held.versions[user] = history.version
                held.lacking[user] = len(history.items)

    def _catch_up(self, held: "_Held", user: str) -> bool:
        """Bring a user up to date from the engine's state or the store's.  False if neither is of use."""
        after = held.versions.get(user, 0)
        try:
            if not after:
                kept = self._store.state(user, held.model)
                if not kept:
                    return False
                after = kept[0]
                held.engine.set_state(user, kept[1])
            history = self._store.history(user, after)
            if history.whole:  # the user was forgotten, and maybe came again
                return False
            history = self._known(held, user, history)
            if history.items:
                held.engine.update_many([user] * len(history.items), history.items, times=history.times)
        except InputError as error:
            if isinstance(error, StoreError):
                raise
            return False  # the state is damaged, or of an engine with other options; the history is right
        except BaseException:  # such as Ctrl-C: nobody knows what the engine has taken in
            held.drop(user)
            raise
        held.versions[user] = history.version
        held.lacking[user] += len(history.items)
        return True

    def _known(self, held: "_Held", user: str, history: History) -> History:
        """The events whose items the model has, in the order of time."""
        items, times = history.items, history.times
        if not held.has_items(items):
            known = [place for place, item in enumerate(items) if item in held.items]
            if not self._left_out:
                first = next(item for item in items if item not in held.items)
                _log.warning(
                    "the model does not have item %r of user %r: such events are left out, and counted",
                    first[:60], user[:60],
                )  # fmt: skip
            self._left_out += len(items) - len(known)
            items, times = [items[place] for place in known], [times[place] for place in known]
        # A model that ignores time takes events in any order, and the next model may know time.
        return history._replace(items=items, times=np.maximum.accumulate(times).tolist() if times else times)

    def _limit(self, held: "_Held") -> None:
        """Drop the users who came first, if the engine keeps more than it may."""
        if self._max_users is None or len(held.versions) <= self._max_users:
            return
        held.count()
        try:
            victims = list(islice(held.versions, max(0, len(held.versions) - self._max_users)))
        except RuntimeError:  # another thread has changed the users meanwhile; the next call drops them
            return
        try:
            self._write_states(held, [user for user in victims if held.lacking[user] >= _STATE_EVERY])
        except StoreError as error:  # the caller's events are acknowledged, and a state is only a short cut
            _log.warning("states are not written: %s", error)
        for user in victims:
            with held.busy([user]):
                held.drop(user)

    # --- in the background ----------------------------------------------------------------------

    def _behind(self) -> None:
        said, work = "", self._store.maintain  # at the start, it reads the ids of events
        while True:
            try:
                work()
                said = ""
            except Exception as error:  # the next try may succeed, and nothing is lost
                if str(error) != said:
                    _log.warning("states are not written: %s", error)
                said = str(error)
            if self._ending.wait(self._write_behind):
                return
            work = self.write_states

    def write_states(self) -> None:
        """Do now what is done in the background: write the states of users with many new events."""
        self._store.maintain()
        held = self._held
        held.count()
        waiting = [user for user, count in held.lacking.copy().items() if count >= _STATE_EVERY]
        self._write_states(held, waiting)
        self._limit(held)  # answers bring users too, and must not wait for this

    def _write_states(self, held: "_Held", users: list[str]) -> None:
        for start in range(0, len(users), _AT_ONCE):
            group, states = users[start : start + _AT_ONCE], {}
            with held.busy(group):
                for user in group:
                    if user in held.versions and user in held.engine:
                        states[user] = (held.versions[user], held.engine.state(user))
                        held.lacking[user] = 0
            try:
                self._store.put_states(held.model, states)
            except BaseException:
                held.lacking.update(dict.fromkeys(states, _STATE_EVERY))
                raise

    def close(self) -> None:
        """Write states, and close the store.  No call may follow; closing twice is allowed."""
        if self._ending.is_set():
            return
        self._ending.set()
        self._thread.join()
        self._helper.shutdown()
        try:
            self.write_states()
        finally:
            self._store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Held:
    """An engine, and what the service knows of the engine's users."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.model = engine.digest
        self.versions: dict[str, int] = {}  # of the engine's states
        self.lacking: Counter[str] = Counter()  # events since the user's last state that was written
        self.recent: deque[list[str]] = deque()  # the users of events that are not in `lacking` yet
        self.items = frozenset(engine.item_ids)
        self.changing = Condition()
        self._busy: list[_Users] = []  # of the calls that change users now

    @contextmanager
    def busy(self, users: Sequence[str]) -> Iterator[None]:
        """Wait until no other call changes these users, and keep others from changing them."""
        with self.changing:
            while any(not others.isdisjoint(users) for others in self._busy):
                self.changing.wait()
            # A set is made only for calls that meet another one.
            self._busy.append(mine := _Users(users))
        try:
            yield
        finally:
            with self.changing:
                self._busy.remove(mine)
                self.changing.notify_all()

    def count(self) -> None:
        """Count the events of recent updates.  The background does so, because it takes time."""
        with suppress(IndexError):  # until none is left
            while True:
                self.lacking.update(self.recent.popleft())

    def drop(self, user: str) -> None:
        # The version goes first: a call that finds no state looks at the version again.
        self.versions.pop(user, None)
        self.lacking.pop(user, None)
        self.engine.forget(user)

    def has_items(self, items: list[str]) -> bool:
        if self.items.issuperset(items):
            return True
        if len(self.items) != self.engine.num_items:
            self.items = frozenset(self.engine.item_ids)
        return self.items.issuperset(items)

    def last_times(self, users: list[str]) -> dict[str, float]:
        """The time of each user's newest event, read from the state (docs/engine.md has the layout)."""
        states = ((user, self.engine.state(user)) for user in users if user in self.engine)
        return {user: float(np.frombuffer(state, np.float64, 1, 48)[0]) for user, state in states}


class _Users:
    """The users of a call."""

    def __init__(self, users: Sequence[str]) -> None:
        self._list = users
        self._set: set[str] | None = None

    def isdisjoint(self, users: Sequence[str]) -> bool:
        if self._set is None:
            self._set = set(self._list)
        return self._set.isdisjoint(users)


def _not_before(batch: Batch, now: float, last: dict[str, float]) -> list[float]:
    """The times of a group; where it is `now`, not earlier than that of the user's event before."""
    times = []
    for user, time in zip(batch.users, batch.times, strict=True):
        last[user] = max(time, last.get(user, time)) if time == now else time
        times.append(last[user])
    return times


# --- arguments -----------------------------------------------------------------------------------


def _batch(
    users: Iterable[Id],
    items: Iterable[Id],
    times: ArrayLike | Sequence[float | None] | None,
    event_ids: Iterable[Id | None] | None,
    now: float,
) -> Batch:
    """The arguments of update_many as a group of events.  now: the time of an event without one."""
    names = _texts(users, "user")
    batch = Batch(names, _texts(items, "item"), [], None if event_ids is None else _texts(event_ids, "event"))
    for name, column in (("items", batch.items), ("event ids", batch.event_ids)):
        if column is not None and len(column) != len(names):
            raise InputError(
                f"there are {len(names)} users, but {len(column)} {name}", "give one for each event"
            )
    if times is None:
        return batch._replace(times=[now] * len(names))
    return batch._replace(times=_seconds(times, len(names), now))


def _seconds(times: ArrayLike | Sequence[float | None], count: int, now: float) -> list[float]:
    if isinstance(times, list | tuple) and None in times:
        times = [now if time is None else time for time in times]
    if type(times) is list and len(times) == count and set(map(type, times)) == {float}:  # noqa: SIM102
        if all(map(isfinite, times)):
            return times
    try:
        array = np.asarray(times)
    except ValueError:
        array = np.empty(0, object)
    if (array.dtype.kind not in "iuf" and array.size) or array.ndim != 1:
        raise InputError("times is not a list of numbers", "give seconds since 1970, one for each event")
    if len(array) != count:
        raise InputError(f"there are {count} users, but {len(array)} times", "give one time for each event")
    seconds = array.astype(np.float64)
    if not np.isfinite(seconds).all():
        raise InputError("a time is not a finite number", "give seconds since 1970")
    found: list[float] = seconds.tolist()
    return found


def _texts(ids: Iterable[Id | None], what: str) -> list[str]:
    """Ids as texts that every store can keep; for events, "" for None."""
    if isinstance(ids, str | bytes):
        raise InputError(
            f"the {what} ids are one value of the type {type(ids).__name__}", "give a list of ids"
        )
    try:
        texts = list(ids)
    except TypeError:
        raise InputError(f"the {what} ids have the type {type(ids).__name__}", "give a list of ids") from None
    # Most lists are fine, and this says so faster than a look at each id.
    try:
        joined = "\0".join(texts)  # type: ignore[arg-type]
        plain = joined.isascii() and joined.count("\0") < max(len(texts), 1)
        if plain and max(map(len, texts), default=1) <= LONGEST_ID and "" not in texts:  # type: ignore[arg-type]
            return texts  # type: ignore[return-value]
    except TypeError:
        pass
    return ["" if id is None and what == "event" else _text(id, what) for id in texts]


def _text(id: object, what: str) -> str:
    """An id as a text that every store can keep."""
    if isinstance(id, np.integer) or (type(id) is int and -(10**300) < id < 10**300):
        id = str(int(id))
    if not isinstance(id, str):
        raise InputError(
            f"the {what} id {id!r:.60} has the type {type(id).__name__}", "give text or an integer"
        )
    try:
        size = len(id.encode())
    except UnicodeEncodeError:
        raise InputError(f"the {what} id {id[:60]!r} cannot be encoded as UTF-8", "give other text") from None
    if not id:
        raise InputError(f"the {what} id is empty", "give one or more characters")
    if size > LONGEST_ID:
        raise InputError(
            f"the {what} id {id[:60]!r} … has {size:,} bytes of UTF-8", f"give ids of at most {LONGEST_ID}"
        )
    if "\0" in id:
        raise InputError(f"the {what} id {id[:60]!r} holds the character NUL", "give ids without it")
    return id
