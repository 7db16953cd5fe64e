"""What a store of events promises.

What must be durable is the event: a user, an item and a time, some tens of bytes.  A state is a short cut
past the first part of a history, and can always be made again.  So a store knows texts and times, and no
model.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from recblr.errors import InputError

LONGEST_ID = 400  # bytes of UTF-8: LMDB takes keys of up to 511
SPAN = 1_000_000  # how many of the newest events a store remembers the ids of, at least


class StoreError(InputError):
    """A store that cannot be read or written now: a full disk, a server that does not answer.

    Nothing is lost: what was acknowledged stays, and the call may be tried again once the cause is gone.
    """


class Conflict(Exception):
    """Another process has added events of a user since this transaction began.  Look again, and try again."""


class Batch(NamedTuple):
    """N events in the order in which they count.  The lists have one element for each event."""

    users: list[str]
    items: list[str]
    times: list[float]  # seconds since 1970
    event_ids: list[str] | None = None  # "" for an event without an id; None if no event has one

    def only(self, chosen: Sequence[int]) -> "Batch":
        """The events at these places."""
        lists = (None if column is None else [column[i] for i in chosen] for column in self)
        return Batch(*lists)  # type: ignore[arg-type]


class History(NamedTuple):
    """Events of a user, oldest first."""

    version: int  # of the user with the last of these events; 0 for a user without events
    items: list[str]
    times: list[float]
    whole: bool  # these are all events of the user, although only those after a version were asked for


class Transaction(Protocol):
    """What may be done between the start of a transaction and its end."""

    def versions(self, users: Sequence[str]) -> list[int]:
        """The version of each user at the start of the transaction."""

    def new(self, users: Sequence[str], event_ids: Sequence[str]) -> list[int]:
        """The places of the events that have not counted yet.  An event without an id ("") is always new."""

    def prepare(self, batch: Batch) -> None:
        """Do the part of an append of this very object that needs no disk and may turn out to be in vain."""

    def append(self, batch: Batch) -> int:
        """Add events, all or none, once in a transaction.  They are durable when it returns.

        Returns the version that the first event gives to its user.  Each later event gives the next number.
        Raises Conflict if a user of the transaction has got events meanwhile, and StoreError.
        """


class Store(Protocol):
    """Keeps events of users for good, and states as long as they are of use.  Safe to use from many threads.

    Each user has a version: a whole number that grows with each event, and that no other user and no later
    user of the same id ever has.  It is 0 for a user without events.

    All methods raise StoreError where the store cannot be read or written.
    """

    local: bool
    """Whether a look at a user takes microseconds, because it needs no network."""

    def transaction(self, users: Sequence[str]) -> AbstractContextManager[Transaction]:
        """Begin to add events of these users; no other thread does so at the same time.

        Nothing happens if the block ends without an append.
        """

    def version(self, user: str) -> int:
        """The version of a user, with every event that any process has had acknowledged."""

    def versions(self, users: Sequence[str]) -> list[int]:
        """As :meth:`version`, for many users."""

    def history(self, user: str, after: int = 0) -> History:
        """The events of a user that came after a version.  They are all, if the user was forgotten since."""

    def state(self, user: str, model: str) -> tuple[int, bytes] | None:
        """The version and the bytes of the user's newest state, or None if there is none of this model."""

    def put_states(self, model: str, states: Mapping[str, tuple[int, bytes]]) -> None:
        """Keep states {user: (version, bytes)} in the place of older ones and of those of other models.

        A state that is of no use any more is left out without notice: the user was forgotten, or has a newer
        one.
        """

    def forget(self, user: str) -> bool:
        """Drop all that is kept of a user, ids of events too; durable.  Returns whether there was any."""

    def users(self) -> Iterator[str]:
        """All users with events, in no order."""

    def maintain(self) -> None:
        """Work that may be done at any time, in the background: move events to where they are read faster."""

    def close(self) -> None:
        """Let go of all files and connections.  Closing twice is allowed."""


def package_missing(package: str, what: str) -> InputError:
    """The error for a store whose package is not installed."""
    return InputError(
        f"{what} needs the package {package}, which is not installed", "pip install 'recblr[serve]'"
    )
