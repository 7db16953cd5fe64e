"""A store in the memory of one process.  If the process ends, the events are gone."""

from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from threading import RLock
from typing import NamedTuple

from recblr.serving.stores.store import SPAN, Batch, History


class _Events(NamedTuple):
    """All events of a user; the three lists have the same length."""

    versions: list[int]
    items: list[str]
    times: list[float]


class MemoryStore:
    """Keeps events in memory only: for tests, and where events need not outlive the process.

    It keeps all events, 100 to 200 bytes each, and the ids of the newest 1,000,000 events or more.  It keeps
    no states, because the engine has them.
    """

    local = True

    def __init__(self) -> None:
        self._lock = RLock()
        self._users: dict[str, _Events] = {}
        self._next = 1  # the version that the next event gives
        self._ids = RememberedIds()

    @contextmanager
    def transaction(self, users: Sequence[str]) -> Iterator["MemoryStore"]:
        """As Store.transaction.  It holds the lock of the store."""
        with self._lock:
            yield self

    def new(self, users: Sequence[str], event_ids: Sequence[str]) -> list[int]:
        """As Transaction.new."""
        return self._ids.new(users, event_ids)

    def prepare(self, batch: Batch) -> None:
        """Nothing."""

    def append(self, batch: Batch) -> int:
        """As Transaction.append, except that nothing is durable."""
        first = self._next
        for version, (user, item, time) in enumerate(zip(*batch[:3], strict=True), first):
            events = self._users.get(user)
            if events is None:
                events = self._users[user] = _Events([], [], [])
            events.versions.append(version)
            events.items.append(item)
            events.times.append(time)
        self._next += len(batch.users)
        if batch.event_ids:
            self._ids.add(self._next, batch.users, batch.event_ids)
        return first

    def version(self, user: str) -> int:
        """As Store.version."""
        with self._lock:
            return self._users[user].versions[-1] if user in self._users else 0

    def versions(self, users: Sequence[str]) -> list[int]:
        """As Store.versions."""
        with self._lock:
            return [self._users[user].versions[-1] if user in self._users else 0 for user in users]

    def history(self, user: str, after: int = 0) -> History:
        """As Store.history."""
        with self._lock:
            if user not in self._users:
                return History(0, [], [], True)
            versions, items, times = self._users[user]
            start = bisect_right(versions, after)
            return History(versions[-1], items[start:], times[start:], start == 0)

    def state(self, user: str, model: str) -> tuple[int, bytes] | None:
        """None: this store keeps no states."""
        return None

    def put_states(self, model: str, states: Mapping[str, tuple[int, bytes]]) -> None:
        """Nothing: a state in the memory of the engine needs no copy."""

    def forget(self, user: str) -> bool:
        """As Store.forget."""
        with self._lock:
            self._ids.forget(self._next, user)
            return self._users.pop(user, None) is not None

    def users(self) -> Iterator[str]:
        """As Store.users."""
        with self._lock:
            return iter(list(self._users))

    def maintain(self) -> None:
        """Nothing."""

    def close(self) -> None:
        """Drop all events."""
        with self._lock:
            self._users.clear()


class RememberedIds:
    """The ids of at least the newest SPAN events.  Not safe for threads."""

    def __init__(self) -> None:
        # Keys of events, and users who were forgotten -> the version after that.  A key that is not newer
        # than its user does not count any more.
        self._known: dict[str, int] = {}
        self._asked: tuple[Sequence[str], Sequence[str], list[str]] = ([], [], [])
        self._groups: deque[tuple[int, list[str]]] = deque()  # (version, what is known since), oldest first

    def new(self, users: Sequence[str], event_ids: Sequence[str]) -> list[int]:
        """The places of events whose ids are neither remembered nor earlier in these lists."""
        keys = _keys(users, event_ids)
        self._asked = (users, event_ids, keys)
        if self._known.keys().isdisjoint(keys) and len(set(keys)) == len(keys) and "" not in event_ids:
            return list(range(len(keys)))
        found, here, known = [], set(), self._known.get
        for place, key in enumerate(keys):
            if not event_ids[place]:
                found.append(place)
            elif known(key, 0) <= known(users[place], 0) and key not in here:
                here.add(key)
                found.append(place)
        return found

    def add(self, version: int, users: Sequence[str], event_ids: Sequence[str]) -> None:
        """Remember the ids of a group of events, and drop old ones.  version: the one after the group."""
        asked = self._asked  # the same lists, if none of the events was known
        keys = asked[2] if asked[0] is users and asked[1] is event_ids else _keys(users, event_ids)
        if "" in event_ids:
            keys = [key for key, event_id in zip(keys, event_ids, strict=True) if event_id]
        self._remember(version, keys)

    def forget(self, version: int, user: str) -> None:
        """Drop all ids of a user.  version: the one after the user's last event, or a later one."""
        self._remember(version, [user])  # a user holds no NUL, so no key of an event is the same

    def _remember(self, version: int, keys: list[str]) -> None:
        known = self._known
        known.update(dict.fromkeys(keys, version))
        self._groups.append((version, keys))
        while self._groups[0][0] <= version - SPAN:
            old, keys = self._groups.popleft()
            for key in keys:
                if known.get(key) == old:  # else it came again
                    del known[key]


def _keys(users: Sequence[str], event_ids: Sequence[str]) -> list[str]:
    # Ids hold no NUL, so that no two pairs have the same key.
    return [f"{user}\0{event_id}" for user, event_id in zip(users, event_ids, strict=True)]
