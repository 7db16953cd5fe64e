"""The users whom an engine has loaded from a store: their versions, and who of them is being changed."""

from collections import Counter, deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Condition

import numpy as np

from recblr.serving.engine import Engine


class LoadedUsers:
    """An engine, and what the service knows of the engine's users."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._model = (0, "")  # the number of items, and the name of the model with them
        self.versions: dict[str, int] = {}  # of the engine's states
        self.unwritten: Counter[str] = Counter()  # events since the user's last state that was written
        self.recent: deque[list[str]] = deque()  # the users of events that are not in `unwritten` yet
        self.left_out: Counter[str] = Counter()  # events of each user whose items the model does not have
        self.warned = False  # of such events
        self.items = frozenset(engine.item_ids)
        self.changing = Condition()
        self._busy: list[_CallUsers] = []  # of the calls that change users now

    @property
    def model(self) -> str:
        """The name of the model in the store.  Added items change it, because states depend on them."""
        count = self.engine.num_items
        if self._model[0] != count:
            self._model = count, self.engine.state_digest
        return self._model[1]

    @contextmanager
    def busy(self, users: Sequence[str]) -> Iterator[None]:
        """Wait until no other call changes these users, and keep others from changing them."""
        with self.changing:
            while any(not others.isdisjoint(users) for others in self._busy):
                self.changing.wait()
            # A set is made only for calls that meet another one.
            self._busy.append(mine := _CallUsers(users))
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
                # Not those who were dropped since: nobody would take them out again.
                self.unwritten.update(filter(self.versions.__contains__, self.recent.popleft()))

    def drop(self, user: str) -> None:
        # The version goes first: a call that finds no state looks at the version again.
        self.versions.pop(user, None)
        self.unwritten.pop(user, None)
        self.left_out.pop(user, None)
        self.engine.forget(user)

    def has_items(self, items: Sequence[str]) -> bool:
        if self.items.issuperset(items):
            return True
        if len(self.items) != self.engine.num_items:
            self.items = frozenset(self.engine.item_ids)
        return self.items.issuperset(items)

    def last_times(self, users: list[str]) -> dict[str, float]:
        """The time of each user's newest event, read from the state (docs/engine.md has the layout)."""
        states = ((user, self.engine.state(user)) for user in users if user in self.engine)
        return {user: float(np.frombuffer(state, np.float64, 1, 48)[0]) for user, state in states}


class _CallUsers:
    """The users of a call."""

    def __init__(self, users: Sequence[str]) -> None:
        self._list = users
        self._set: set[str] | None = None

    def isdisjoint(self, users: Sequence[str]) -> bool:
        if self._set is None:
            self._set = set(self._list)
        return self._set.isdisjoint(users)
