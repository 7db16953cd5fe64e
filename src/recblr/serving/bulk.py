"""The best items of very many users: their histories pass through the engine in parts, and nothing is kept.

The memory that this takes depends on the part, not on the number of users.
"""

import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from recblr.errors import InputError
from recblr.serving.engine import Engine, Id, Recommendation

if TYPE_CHECKING:  # the engine works without the packages of the data
    from recblr.data.packed import Packed

_USERS, _EVENTS = 1024, 2**17
"""The most users and events of a part.  A part with more events has one user."""

_LISTED = 2**20
"""The most items in the lists of a part, which need about 100 bytes each in Python."""


@dataclass(frozen=True, eq=False)
class Lists:
    """The best items of S users, best first.

    users: (S,) int64, the numbers of their histories.
    items: (S, k) int64, the numbers of the items; -1 behind the end of a list that is shorter.
    scores: (S, k) float32; NaN behind the end.
    """

    users: NDArray[np.int64]
    items: NDArray[np.int64]
    scores: NDArray[np.float32]


def recommend_in_bulk(
    engine: Engine,
    histories: "Packed",
    k: int = 10,
    *,
    exclude: Iterable[Id] = (),
    allow: Iterable[Id] | None = None,
    mask_seen: bool = True,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Lists]:
    """The lists of :meth:`Engine.recommend_many` for S histories of nobody whom the engine keeps, in parts.

    The users of the engine stay as they are.  Parts come in the order of the histories, and each history is
    in one of them.

    Args:
        engine: any.  Its threads share the work on a part.
        histories: S histories of 1 event or more, such as ``dataset.histories``; the items are numbers of
            ``engine.item_ids``.  A model that knows time needs their times.  Their request times are the
            times of the requests, for a model of ``--time request``; without them, a request comes right
            after the last event.
        k, exclude, allow, mask_seen: as in :meth:`Engine.recommend`, for all users.
        progress: called after each part with the number of users that are done.

    Raises:
        InputError: as :meth:`Engine.rebuild` and :meth:`Engine.recommend`, and if an item is none of the
            engine's.  Lists that have come before stay valid.
    """
    exclude, allow = list(exclude), None if allow is None else list(allow)
    names = engine.item_ids
    check_histories(histories, len(names))
    numbers = {name: number for number, name in enumerate(names)}
    for part in parts(histories.offsets, users=users_at_once(_USERS, k)):
        with guests(engine, histories, part, names) as users:
            times = None if histories.request_times is None else histories.request_times[part]
            lists = engine.recommend_many(
                users, k, times=times, exclude=exclude, allow=allow, mask_seen=mask_seen
            )
        if len(numbers) < engine.num_items:  # items were added meanwhile
            numbers = {name: number for number, name in enumerate(engine.item_ids)}
        yield _as_arrays(part, lists, int(k), numbers)
        if progress is not None:
            progress(part.stop)


@contextmanager
def guests(engine: Engine, histories: "Packed", part: slice, names: Sequence[str]) -> Iterator[list[str]]:
    """Inside the `with` block, the engine keeps the histories of a part.  Yields the ids of their users.

    names: the ids of the items by number.

    Raises InputError as :meth:`Engine.rebuild`.
    """
    offsets = histories.offsets[part.start : part.stop + 1]
    begin, end = int(offsets[0]), int(offsets[-1])
    items = histories.items[begin:end]
    held = [names[item] for item in items.tolist()]
    cuts = (offsets - begin).tolist()
    pairs = list(pairwise(cuts))
    prefix = secrets.token_hex(8)  # no user of the engine has such an id
    users = [f"{prefix} {number}" for number in range(len(pairs))]
    values: list[Any] = [held[first:last] for first, last in pairs]
    if engine.time_use != "none" and histories.times is not None:
        times = histories.times[begin:end]
        values = [(value, times[first:last]) for value, (first, last) in zip(values, pairs, strict=True)]
    try:
        engine.rebuild(dict(zip(users, values, strict=True)))
        yield users
    finally:
        forget_all(engine, users)


def forget_all(engine: Engine, users: Sequence[str]) -> None:
    """Let the engine forget users, known or not; Ctrl-C is raised after the last one."""
    try:
        for user in users:
            engine.forget(user)
    except BaseException:
        for user in users:
            engine.forget(user)
        raise


def check_histories(histories: "Packed", num_items: int) -> None:
    """Raise InputError for an empty history, and for an item that is not of a catalogue of this size."""
    empty = np.flatnonzero(histories.lengths == 0)
    if empty.size:
        raise InputError(
            f"history {int(empty[0])} is empty, so nothing can be recommended after it",
            "leave such users out, or give them popular items",
        )
    items = histories.items
    outside = np.flatnonzero((items < 0) | (items >= num_items))  # -1 would be the last item
    if outside.size:
        raise InputError(
            f"event {int(outside[0])} has item {int(items[outside[0]])}, outside the catalogue of {num_items}"
            f" items (0 to {num_items - 1})",
            "number the items as item_ids of the model does",
        )


def users_at_once(users: int, k: int) -> int:
    """At most so many users, and fewer if their lists of k items are long."""
    if not isinstance(k, int | np.integer) or k < 1:  # the engine refuses it
        return users
    return max(1, min(users, _LISTED // int(k)))


def parts(
    offsets: NDArray[np.int64], *, users: int | None = None, events: int | None = None
) -> Iterator[slice]:
    """Slices of neighbouring histories, of at most so many users and events, but of at least one user."""
    users, events = users or _USERS, events or _EVENTS
    start, count = 0, len(offsets) - 1
    while start < count:
        fitting = int(np.searchsorted(offsets, offsets[start] + events, side="right")) - 1
        stop = max(start + 1, min(start + users, fitting, count))
        yield slice(start, stop)
        start = stop


def _as_arrays(
    part: slice, lists: Sequence[Sequence[Recommendation]], k: int, numbers: dict[str, int]
) -> Lists:
    items = np.full((len(lists), k), -1, np.int64)
    scores = np.full((len(lists), k), np.nan, np.float32)
    for row, best in enumerate(lists):
        items[row, : len(best)] = [numbers[item] for item, _ in best]
        scores[row, : len(best)] = [score for _, score in best]
    return Lists(np.arange(part.start, part.stop), items, scores)
