"""An engine and a store: events that outlive the process, and answers that count every acknowledged event.

The store is right, and the engine is a cache of users.  Each user has a version in the store.  Before the
service answers for a user, it compares this version with the one that the engine's state has, and adds
the events that are missing.  So several processes may serve one store, and a process may be killed at any
moment.
"""

import logging
import random
import secrets
import time as clock
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from threading import Event, Thread
from typing import Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from recblr.errors import InputError
from recblr.serving.engine import Engine, Id, Recommendation
from recblr.serving.event_arguments import batch_of, text_of
from recblr.serving.loaded_users import LoadedUsers
from recblr.serving.stores.store import Batch, Conflict, History, Store, StoreError, Transaction

_TRIES = 30  # of a group of events whose users get events from other servers at the same time
_SPLIT_FROM = 256  # events of a group; for fewer, another thread takes longer to start than it saves
_STATE_EVERY = 32  # events; to take these in again takes less than 0.3 ms
_STATE_BYTES = 1024  # for each new event: a larger state, of a long history, waits for more events
_STATES_AT_ONCE = 64  # users whose states are written together
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
                or more events of its user are newer than the last one that was written.  A state of more than
                32 KiB, after a long history, waits for one event for each KiB.
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
        self._loaded = LoadedUsers(engine)
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="recblr-engine")
        self._ending = Event()
        self._thread = Thread(target=self._work_in_background, name="recblr-states", daemon=True)
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
            StoreError: the events could not be written.  None of them counts, except that a Redis whose
                answer was lost, or a disk that failed twice, may have them.  Give events an id, and send them
                again.
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
        batch = batch_of(users, items, times, event_ids, now)
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
        loaded = self._loaded
        with loaded.busy(distinct):
            if self._store.local:  # all writers wait for a transaction, so nobody is loaded in it
                away = [user for user in distinct if user not in loaded.versions]
                if away:
                    self._bring(loaded, away, self._store.versions(away))
            with self._store.transaction(distinct) as transaction:
                if batch.event_ids:
                    new = transaction.new(batch.users, batch.event_ids)
                    if len(new) < len(batch.users):
                        batch = batch.only(new)
                        distinct = list(dict.fromkeys(batch.users))
                        if not new:
                            return new
                self._bring(loaded, distinct, transaction.versions(distinct))
                self._append(loaded, transaction, batch, distinct, now)
        self._limit(loaded, write=False)  # a write may wait for a fold, and these events are acknowledged
        return new

    def _append(
        self, loaded: LoadedUsers, transaction: Transaction, batch: Batch, distinct: list[str], now: float
    ) -> None:
        """Take events of users who are up to date into the engine and then into the store."""
        taken = False
        try:
            try:
                self._engine_takes(loaded, transaction, batch)
            except InputError:
                # The clock of another server may be ahead of ours.
                if now not in batch.times:
                    raise
                batch = batch._replace(times=_not_before(batch, now, loaded.last_times(distinct)))
                self._engine_takes(loaded, transaction, batch)
            taken = True
            first = transaction.append(batch)
            loaded.versions.update(zip(batch.users, range(first, first + len(batch.users)), strict=True))
            loaded.recent.append(batch.users)
        except BaseException as error:
            if taken or not isinstance(error, InputError):  # else the engine has taken in nothing
                for user in distinct:
                    loaded.drop(user)
            raise

    def _engine_takes(self, loaded: LoadedUsers, transaction: Transaction, batch: Batch) -> None:
        if len(batch.users) == 1:  # this takes less time than a list of one
            loaded.engine.update(batch.users[0], batch.items[0], time=batch.times[0])
        elif len(batch.users) < _SPLIT_FROM:
            loaded.engine.update_many(batch.users, batch.items, times=batch.times)
        else:
            # The engine's threads do not hold Python's lock.
            taking = self._helper.submit(
                loaded.engine.update_many, batch.users, batch.items, times=batch.times
            )
            with suppress(Exception):  # append would raise it too
                transaction.prepare(batch)
            taking.result()

    # --- answers --------------------------------------------------------------------------------

    def knows(self, user: Id) -> bool:
        """Whether a user has events."""
        return self._store.version(text_of(user, "user")) > 0

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
        loaded, version = self._loaded, self._store.version(text_of(user, "user"))
        if loaded.versions.get(user, 0) == version:
            with suppress(InputError):
                return loaded.engine.recommend(user, k, time=time, mask_seen=mask_seen) if version else []
        return None

    def unknown_item(self, items: list[str]) -> str | None:
        """The first of these items that the model does not have, or None."""
        loaded = self._loaded
        return None if loaded.has_items(items) else next((i for i in items if i not in loaded.items), None)

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
        asked = [text_of(user, "user") for user in users]
        exclude, allow = list(exclude), None if allow is None else list(allow)
        moments = None if times is None else np.asarray(times)
        if moments is not None and moments.shape != (len(asked),):
            raise InputError(
                f"there are {len(asked)} users, but times of the shape {moments.shape}",
                "give one time for each user",
            )
        loaded, distinct = self._loaded, list(dict.fromkeys(asked))
        with loaded.busy(distinct):  # so nobody drops them meanwhile
            self._bring(loaded, distinct, self._store.versions(distinct))
            known = [place for place, user in enumerate(asked) if user in loaded.engine]
            found = loaded.engine.recommend_many(
                [asked[place] for place in known],
                k,
                times=None if moments is None else moments[known],
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
        return self._loaded.engine.recommend_history(
            items, k, times=times, time=time, exclude=exclude, allow=allow, mask_seen=mask_seen
        )

    def similar(self, item: Id, k: int = 10) -> list[Recommendation]:
        """As Engine.similar."""
        return self._loaded.engine.similar(item, k)

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
        history = self._store.history(text_of(user, "user"))
        return history.items, history.times

    def _answer(self, user: Id, ask: Callable[[Engine, str], _T], unknown: _T) -> _T:
        text, loaded = text_of(user, "user"), self._loaded
        version = self._store.version(text)
        if loaded.versions.get(text, 0) != version:
            self._bring_locked(loaded, [text], [version])
        if not version:
            return unknown
        with suppress(InputError):
            return ask(loaded.engine, text)
        # The question is wrong, or another thread has dropped the user.  Ask again while nobody can do that.
        with loaded.busy([text]):
            self._bring(loaded, [text], self._store.versions([text]))
            if text not in loaded.engine:
                return unknown  # forgotten, or the model has none of the items that the user has
            return ask(loaded.engine, text)

    def explain_history(
        self, items: Iterable[Id], item: Id, *, times: ArrayLike | None = None, time: float | None = None
    ) -> list[tuple[int, str, float]]:
        """As Engine.explain, for a history without a user.  The list of an empty history is empty."""
        engine, items = self._loaded.engine, list(items)
        if not items:
            return []
        if engine.time_use != "none" and times is None:
            raise InputError(
                f"the model was trained with --time {engine.time_use}, so it needs the times of the history",
                "give times=",
            )
        # The engine explains users only.  No user of a store has such an id.
        guest = f"\0{secrets.token_hex(16)}"
        engine.rebuild({guest: items if times is None else (items, times)})
        try:
            return engine.explain(guest, item, time=time)
        finally:
            engine.forget(guest)

    # --- users ----------------------------------------------------------------------------------

    def load(self, users: Iterable[Id] | None = None) -> int:
        """Bring users into the engine, so that their first answer takes no longer.  Returns how many.

        users: None means all users of the store.
        """
        count = 0
        waiting = iter(self._store.users() if users is None else (text_of(user, "user") for user in users))
        while group := list(islice(waiting, 1024)):
            self._bring_locked(self._loaded, group, self._store.versions(group))
            self._limit(self._loaded)
            count += len(group)
        return count

    def forget(self, user: Id) -> bool:
        """Drop all that is kept of a user, the ids of events too; durable when it returns.

        Returns whether there was anything.  Raises StoreError.
        """
        text, loaded = text_of(user, "user"), self._loaded
        with loaded.busy([text]):
            known = self._store.forget(text)
            loaded.drop(text)
        return known

    def replace_engine(self, engine: Engine) -> None:
        """Serve with another engine, without users, from now on.  Calls in flight finish on the old one.

        Users are loaded when they are asked for: from their states if the model is the same, else from their
        histories.  Events of items that the new model lacks are left out, and stay in the store.
        """
        if engine.num_users:
            raise InputError(f"the engine has {engine.num_users:,} users", "give an engine without users")
        self._loaded = LoadedUsers(engine)

    @property
    def engine(self) -> Engine:
        """The engine that answers now.  Do not change its users."""
        return self._loaded.engine

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
        """How many events of the engine's users are left out, because the model does not have their items.

        Those before a state that was loaded are not counted.
        """
        return sum(self._loaded.left_out.copy().values())

    # --- loading --------------------------------------------------------------------------------

    def _bring_locked(self, loaded: LoadedUsers, users: list[str], versions: list[int]) -> None:
        """As _bring, but keeps the users busy itself."""
        with loaded.busy(users):
            self._bring(loaded, users, versions)

    def _bring(self, loaded: LoadedUsers, users: list[str], versions: list[int]) -> None:
        """Bring users whom the caller keeps busy up to the versions that the store has."""
        have = loaded.versions.get
        stale = [user for user, version in zip(users, versions, strict=True) if have(user, 0) != version]
        whole: dict[str, History] = {}
        for user in stale:
            if not self._catch_up(loaded, user):
                loaded.drop(user)
                history = self._store.history(user)
                if history.version:
                    whole[user] = self._known(loaded, user, history)
        if whole:
            timed = loaded.engine.time_use != "none"
            loaded.engine.rebuild(
                {user: (h.items, h.times) if timed else h.items for user, h in whole.items() if h.items}
            )
            for user, history in whole.items():
                loaded.versions[user] = history.version
                loaded.unwritten[user] = len(history.items)

    def _catch_up(self, loaded: LoadedUsers, user: str) -> bool:
        """Bring a user up to date from the engine's state or the store's.  False if neither is of use."""
        after = loaded.versions.get(user, 0)
        try:
            if not after:
                kept = self._store.state(user, loaded.model)
                if not kept:
                    return False
                after = kept[0]
                loaded.engine.set_state(user, kept[1])
            history = self._store.history(user, after)
            if history.whole:  # the user was forgotten, and maybe came again
                return False
            history = self._known(loaded, user, history)
            if history.items:
                loaded.engine.update_many([user] * len(history.items), history.items, times=history.times)
        except InputError as error:
            if isinstance(error, StoreError):
                loaded.drop(user)
                raise
            return False  # the state is damaged, or of an engine with other options; the history is right
        except BaseException:  # such as Ctrl-C: nobody knows what the engine has taken in
            loaded.drop(user)
            raise
        loaded.versions[user] = history.version
        loaded.unwritten[user] += len(history.items)
        return True

    def _known(self, loaded: LoadedUsers, user: str, history: History) -> History:
        """The events whose items the model has, in the order of time."""
        items, times = history.items, history.times
        if not loaded.has_items(items):
            known = [place for place, item in enumerate(items) if item in loaded.items]
            if not loaded.warned:
                loaded.warned = True
                first = next(item for item in items if item not in loaded.items)
                _log.warning(
                    "the model does not have item %r of user %r: such events are left out, and counted",
                    first[:60], user[:60],
                )  # fmt: skip
            loaded.left_out[user] += len(items) - len(known)
            items, times = [items[place] for place in known], [times[place] for place in known]
        # A model that ignores time takes events in any order, and the next model may know time.
        return history._replace(items=items, times=np.maximum.accumulate(times).tolist() if times else times)

    def _limit(self, loaded: LoadedUsers, write: bool = True) -> None:
        """Drop the users who were loaded first, if the engine keeps more than it may.

        write: write their states before, so that loading them again takes less time.
        """
        if self._max_users is None or len(loaded.versions) <= self._max_users:
            return
        loaded.count()
        try:
            victims = list(islice(loaded.versions, max(0, len(loaded.versions) - self._max_users)))
        except RuntimeError:  # another thread has changed the users meanwhile; the next call drops them
            return
        if write:
            try:
                waiting = [user for user in victims if loaded.unwritten[user] >= _STATE_EVERY]
                self._write_states(loaded, waiting)
            except StoreError as error:  # a state is only a short cut
                _log.warning("states are not written: %s", error)
        for user in victims:
            with loaded.busy([user]):
                loaded.drop(user)

    # --- in the background ----------------------------------------------------------------------

    def _work_in_background(self) -> None:
        said: dict[str, str] = {}
        while True:
            for what, work in (
                ("the log of events is not folded", self._store.maintain),
                ("states are not written", self._write_waiting_states),
            ):
                try:
                    work()
                    said[what] = ""
                except Exception as error:  # the next try may succeed, and nothing is lost
                    if str(error) != said.get(what):
                        _log.warning("%s: %s", what, error)
                    said[what] = str(error)
            if self._ending.wait(self._write_behind):
                return

    def write_states(self) -> None:
        """Do now what is done in the background: write the states of users with many new events."""
        try:
            self._store.maintain()
        finally:
            self._write_waiting_states()

    def _write_waiting_states(self) -> None:
        loaded = self._loaded
        loaded.count()
        waiting = [user for user, count in loaded.unwritten.copy().items() if count >= _STATE_EVERY]
        self._write_states(loaded, waiting)
        self._limit(loaded)  # answers bring users too, and must not wait for this

    def _write_states(self, loaded: LoadedUsers, users: list[str]) -> None:
        for start in range(0, len(users), _STATES_AT_ONCE):
            group, states, counts = users[start : start + _STATES_AT_ONCE], {}, {}
            with loaded.busy(group):
                for user in group:
                    if user in loaded.versions and user in loaded.engine:
                        state, count = loaded.engine.state(user), loaded.unwritten[user]
                        if len(state) <= _STATE_BYTES * count:
                            states[user] = (loaded.versions[user], state)
                            counts[user], loaded.unwritten[user] = count, 0
            try:
                self._store.put_states(loaded.model, states)
            except BaseException:
                loaded.unwritten.update(counts)
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


def _not_before(batch: Batch, now: float, last: dict[str, float]) -> list[float]:
    """The times of a group; where it is `now`, not earlier than that of the user's event before."""
    times = []
    for user, time in zip(batch.users, batch.times, strict=True):
        last[user] = max(time, last.get(user, time)) if time == now else time
        times.append(last[user])
    return times
