"""Reads the arguments of a call: they become people with histories, items, times and filters."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recblr.data import Packed
from recblr.errors import InputError
from recblr.recommender.answers import Answers, Best, People
from recblr.recommender.frames import (
    Ids,
    collected,
    id_of,
    ids_in,
    is_frame,
    is_one,
    kind_of,
    seconds_of,
    users_in,
)
from recblr.recommender.reading import Data, later, read
from recblr.run.model_items import text_id
from recblr.serving.filters import Filters, most_popular, too_popular, users_of_items
from recblr.serving.recommendations import check_requests

Moments = NDArray[np.float64] | None
"""The times of requests, in seconds; None for right after the last events."""


class Requests:
    """Reads what a caller asks, by the data and the items of one recommender."""

    def __init__(self, data: Data, answers: Answers) -> None:
        self.data, self.answers = data, answers
        self.user_numbers = {name: number for number, name in enumerate(data.dataset.user_ids)}
        self._histories = replace(data.dataset.histories, times=data.dataset.seconds)

    @cached_property
    def _users_of_items(self) -> NDArray[np.int64]:
        return users_of_items(self._histories, len(self.answers.item_ids))

    def names(self, users: Any, times: Any = ()) -> list[str]:
        """Ids of users, known or not; all users of the data for None.

        times: of their requests.  If they are not one for each, each user of a frame counts once: it may have
            the events of users.  By default, all rows count.
        """
        if users is None:
            return self.data.dataset.user_ids
        names = ids_in(users, "user", self.data.users.column, "the users", self.user_numbers)
        once = is_frame(users) and (is_one(times) or isinstance(times, Mapping))
        return list(dict.fromkeys(names)) if once else names

    def known(self, names: Sequence[str]) -> Sequence[str]:
        """The same ids.  InputError, with similar ids, if one is not in the data."""
        for name in names:
            if name not in self.user_numbers:
                self.data.dataset.user_index(name)
        return names

    def people(self, names: Sequence[str], moments: Moments = None) -> People:
        """Known users with their histories.  InputError if a request comes before the last event."""
        numbers = np.array([self.user_numbers[name] for name in names], np.int64)
        return self._asked(People(names, self._histories.select(numbers)), moments)

    def _asked(self, people: People, moments: Moments) -> People:
        if moments is None:
            return people
        histories = people.histories.asked_at(moments)
        check_requests(histories, people.names)
        return replace(people, histories=histories)

    def items(self, given: Any, what: str) -> list[str]:
        """Items of the model, in the order given.  InputError, with similar ids, for an unknown one."""
        known = self.answers.item_numbers
        names = ids_in(given, "item", self.data.items.column, what, known)
        for name in names:
            if name not in known:
                self.data.dataset.item_index(name)
        return names

    def known_items(self, given: Any, what: str) -> list[str]:
        """Those items that the model knows, each once."""
        known = self.answers.item_numbers
        names = ids_in(given, "item", self.data.items.column, what, known)
        return list(dict.fromkeys(name for name in names if name in known))

    def chosen_items(self, given: Any, what: str) -> list[str]:
        """As `items` for a list.  Of a frame or a column, such as a catalogue, as `known_items`.

        Raises InputError also if the model knows none of a frame or a column.
        """
        if kind_of(given) is None:
            return self.items(given, what)
        names = ids_in(given, "item", self.data.items.column, what, self.answers.item_numbers)
        found = self.known_items(names, what)
        if names and not found:
            raise InputError(
                f"the model knows none of the {len(names):,} items in the frame of {what}",
                f"give ids like {self.data.items.values(self.data.dataset.item_ids[:1])[0]!r}",
            )
        return found

    def count(self, k: Any) -> int:
        """k, but at most the number of items.  InputError if it is no number of at least 1."""
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise InputError(f"k, the number of items to recommend, is {k!r}", "give a number of at least 1")
        return min(int(k), len(self.answers.item_ids))

    def moments(self, times: Any, names: Sequence[str], what: str = "the times") -> Moments:
        """Times of requests in seconds, one for each of the names; None for None.

        times: one for all, one for each in their order, or {user: time}.
        """
        if times is None:
            return None
        use = self.answers.content.config.time_use
        if use != "request":
            raise InputError(
                f"{what} have no effect, because the model was trained with time_use={use!r}",
                "leave them out",
            )
        if isinstance(times, Mapping):
            known = set(names)
            of_user = {id_of(user, f"the users of {what}", known): time for user, time in times.items()}
            lacking = next((name for name in names if name not in of_user), None)
            if lacking is not None:
                raise InputError(f"{what} have none for user {lacking[:60]!r}", "give one for each user")
            times = [of_user[name] for name in names]
        return seconds_of(times, len(names), what) if len(names) else np.zeros(0)

    def filters(
        self,
        filter_viewed: bool,
        items: Any,
        exclude: Any,
        items_for: Mapping[Any, Any] | None,
        exclude_for: Mapping[Any, Any] | None,
        cap: float | None,
        users: Container[str],
    ) -> Filters:
        """The filters of a call.  The arguments are those of `Recommender.recommend`.

        users: those who may have lists of their own.
        """
        if not isinstance(filter_viewed, bool | np.bool_):
            raise InputError(f"filter_viewed is {filter_viewed!r}", "give True or False")
        left_out = frozenset() if exclude is None else frozenset(self.known_items(exclude, "exclude"))
        if cap is not None:
            popular = too_popular(self._users_of_items, len(self._histories), cap)
            left_out |= {self.answers.item_ids[number] for number in popular}
        allow = None if items is None else frozenset(self.chosen_items(items, "items"))
        if not (frozenset(self.answers.item_ids) if allow is None else allow) - left_out:
            raise InputError("the filters leave no item that may be recommended", "allow more items")
        return Filters(
            bool(filter_viewed),
            allow,
            left_out,
            self._for_users(items_for, "items_for", self.chosen_items, users),
            self._for_users(exclude_for, "exclude_for", self.known_items, users),
        )

    def _for_users(
        self,
        given: Mapping[Any, Any] | None,
        name: str,
        items_in: Callable[[Any, str], list[str]],
        users: Container[str],
    ) -> dict[str, frozenset[str]]:
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            raise InputError(
                f"{name} has the type {type(given).__name__}", "give a dictionary, {user: items}"
            )
        found: dict[str, frozenset[str]] = {}
        for user, items in given.items():
            text = id_of(user, f"the users of {name}", users)
            if text not in users:
                raise InputError(
                    f"{name} has a list for {user!r}, who is no user of the data or of this call",
                    "correct the id, or leave it out",
                )
            # 3 and "3" are one user, who may have two lists.
            found[text] = found.get(text, frozenset()) | frozenset(items_in(items, f"{name} of {user!r}"))
        return found

    def guests(
        self, histories: Any, times: Any, unknown: str, request_times: Any
    ) -> tuple[list[str], People, Ids]:
        """The names of guests, those who have a known item with their histories, and the type of the names.

        The arguments are those of `Recommender.recommend_histories`.
        """
        ids, everyone = Ids(), list[str]()
        if is_frame(histories):
            if times is not None:
                raise InputError("a frame has its times in a column", "leave times= out")
            histories = collected(histories)
            config = later(self.data.config, histories)
            source = read(histories, config)
            dataset, ids = source.dataset, source.users
            if self.answers.content.config.time_use != "none" and dataset.seconds is None:
                lack = "no column of times" if dataset.times is None else "times of an unknown unit"
                raise InputError(
                    f"the frame of histories has {lack}, and the model knows time",
                    "give seconds since 1970, or dates, in its column of times",
                )
            cuts = dataset.histories.offsets[1:-1]
            names = dataset.user_ids
            lists = [[dataset.item_ids[i] for i in part] for part in np.split(dataset.histories.items, cuts)]
            each: Sequence[Any] | None = None
            if dataset.seconds is not None:
                each = np.split(dataset.seconds, cuts)
            if source.dropped:
                counts = " and ".join(f"{count:,} {why}" for why, count in source.dropped.items())
                warnings.warn(f"events of histories were left out: {counts}", UserWarning, stacklevel=3)
                everyone = users_in(histories, config.user_column)
        else:
            keys, each = _listed(histories, times)
            known = self.answers.item_numbers
            lists = [ids_in(histories[key], "item", None, "a history", known) for key in keys]
            names = [text_id(key, "the names of histories") for key in keys]
            twice = next((name for name, count in Counter(names).items() if count > 1), None)
            if twice is not None:
                raise InputError(f"two histories have the name {twice!r}", "give each a name of its own")
            if all(isinstance(key, int | np.integer) for key in keys):
                ids = Ids(polars="Int64")
        packed = self._packed(names, lists, each, unknown)
        filled = np.flatnonzero(packed.lengths)
        guests = People([names[place] for place in filled.tolist()], packed.select(filled), guests=True)
        names = list(dict.fromkeys([*everyone, *names]))  # with those who have lost all events
        moments = self.moments(request_times, names, "the request times")
        if moments is not None:
            of_name = dict(zip(names, moments, strict=True))
            moments = np.array([of_name[name] for name in guests.names], np.float64)
        return names, self._asked(guests, moments), ids

    def _packed(
        self, names: list[str], lists: list[list[str]], times: Sequence[Any] | None, unknown: str
    ) -> Packed:
        known, use = self.answers.item_numbers, self.answers.content.config.time_use
        if use != "none" and times is None:
            raise InputError(
                f"the model was trained with time_use={use!r}, so it needs the times of the histories",
                "give them with times=",
            )
        numbers: list[int] = []
        moments: list[NDArray[np.float64]] = [np.zeros(0)]
        lengths = []
        for place, (name, items) in enumerate(zip(names, lists, strict=True)):
            if not items:
                raise InputError(f"the history of {name!r} is empty", "give one item or more")
            keep = np.array([item in known for item in items])
            if unknown == "raise" and not keep.all():
                self.data.dataset.item_index(items[int(np.argmin(keep))])
            numbers += [known[item] for item in items if item in known]
            lengths.append(np.count_nonzero(keep))
            if times is not None:
                one = seconds_of(times[place], len(items), f"the times of {name!r}")
                if (np.diff(one) < 0).any():
                    raise InputError(
                        f"the times of the history of {name!r} decrease", "give the oldest first"
                    )
                moments.append(one[keep])
        skipped = sum(map(len, lists)) - len(numbers)
        if skipped:
            warnings.warn(
                f"{skipped:,} events of {len(lists):,} histories are of unknown items, and were skipped",
                UserWarning,
                stacklevel=4,
            )
        return Packed.from_lengths(
            np.array(numbers, np.int64),
            np.array(lengths, np.int64),
            None if times is None else np.concatenate(moments),
        )

    def popular(self, k: int, filters: Filters, user: str = "") -> Best:
        """The k items that most users have, with the share of the users."""
        allow, exclude = filters.of(user)
        share = self._users_of_items / len(self._histories)
        order = most_popular(self._users_of_items, self.answers.content.retired).tolist()
        names = (self.answers.item_ids[item] for item in order)
        free = (n for n in names if (allow is None or n in allow) and n not in exclude)
        return [
            (name, float(share[self.answers.item_numbers[name]]))
            for _, name in zip(range(k), free, strict=False)
        ]

    def scores_of_rows(self, names: list[str], items: list[str], moments: Moments) -> NDArray[np.float32]:
        """The scores ``(N,)`` of N pairs of a user and an item."""
        scores = np.zeros(len(names), np.float32)
        groups: dict[tuple[str, float | None], list[int]] = {}
        for place, name in enumerate(names):
            groups.setdefault((name, None if moments is None else float(moments[place])), []).append(place)
        for (name, moment), places in groups.items():
            person = self.people([name], None if moment is None else np.array([moment]))
            scores[places] = self.answers.scores(person, [items[place] for place in places])[0]
        return scores


def _listed(histories: Any, times: Any) -> tuple[list[Any], Sequence[Any] | None]:
    """The keys of histories that are no frame, and the times of each."""
    if isinstance(histories, str | bytes) or not isinstance(histories, Mapping | Sequence):
        raise InputError(
            f"histories have the type {type(histories).__name__}",
            "give {name: items}, a list of lists of items, or a frame of events",
        )
    keys = list(histories) if isinstance(histories, Mapping) else list(range(len(histories)))
    if times is None:
        return keys, None
    if isinstance(histories, Mapping) != isinstance(times, Mapping):
        raise InputError("times have another form than histories", "give both as {name: …}, or both as lists")
    if len(times) != len(keys) or (isinstance(times, Mapping) and any(key not in times for key in keys)):
        raise InputError("times do not have an entry for each history", "give one for each")
    return keys, [times[key] for key in keys]
