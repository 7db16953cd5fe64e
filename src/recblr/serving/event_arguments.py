"""The arguments of the service: checked, and made into texts and numbers that every store can keep."""

from collections.abc import Iterable, Sequence
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike

from recblr.errors import InputError
from recblr.serving.engine import Id
from recblr.serving.stores.store import LONGEST_ID, Batch


def batch_of(
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
    return ["" if id is None and what == "event" else text_of(id, what) for id in texts]


def text_of(id: object, what: str) -> str:
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
