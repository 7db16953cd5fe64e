"""A recommender that can answer: what a caller gives becomes users, items and filters, and answers frames."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recblr.data import Packed
from recblr.errors import InputError
from recblr.recommender.answers import Answers, Best, People
from recblr.recommender.frames import Ids, Kind, frame_of, ids_in, is_frame, seconds_of
from recblr.recommender.reading import later, read
from recblr.recommender.saved import Fitted
from recblr.run.model_items import text_id
from recblr.serving.filters import Filters, check_diversity, too_popular, users_of_items

Moments = NDArray[np.float64] | None
"""The times of requests, in seconds; None for right after the last events."""


class Ready:
    """What was fitted, and the answers of its model.

    frames: the kind of all frames in answers; None for that of the data.
    """

    def __init__(self, fitted: Fitted, answers: Answers, frames: Kind | None) -> None:
        self.fitted, self.answers = fitted, answers
        self.dataset = fitted.dataset
        self.kind: Kind = frames or fitted.frames
        self.user_numbers = {name: number for number, name in enumerate(fitted.dataset.user_ids)}
        self._histories = replace(fitted.dataset.histories, times=fitted.dataset.seconds)

    @cached_property
    def _users_of_items(self) -> NDArray[np.int64]:
        return users_of_items(self._histories, len(self.answers.item_ids))

    # --- what a caller gives --------------------------------------------------------------------

    def names(self, users: Any) -> list[str]:
        """Ids of users, known or not; all users of the data for None."""
        if users is None:
            return self.dataset.user_ids
        return ids_in(users, "user", self.fitted.users.column, "the users")

    def known(self, names: Sequence[str]) -> Sequence[str]:
        """The same ids.  InputError, with similar ids, if one is not in the data."""
        for name in names:
            if name not in self.user_numbers:
                self.dataset.user_index(name)
        return names

    def people(self, names: Sequence[str], moments: Moments = None) -> People:
        """Known users with their histories.  InputError if a request comes before the last event."""
        numbers = np.array([self.user_numbers[name] for name in names], np.int64)
        people = People(names, self._histories.select(numbers))
        self.answers.check_requests(people, moments)
        return people

    def items(self, given: Any, what: str) -> list[str]:
        """Items of the model.

        Items of a frame that the model does not know are left out.  InputError if a list holds one, or if the
        model knows none of a frame.
        """
        known = self.answers.item_numbers
        names = ids_in(given, "item", self.fitted.items.column, what)
        if not is_frame(given):
            for name in names:
                if name not in known:
                    self.dataset.item_index(name)  # its error suggests similar ids
            return names
        found = list(dict.fromkeys(name for name in names if name in known))
        if names and not found:
            raise InputError(
                f"the model knows none of the {len(names):,} items in the frame of {what}",
                f"give ids like {self.fitted.items.values(self.dataset.item_ids[:1])[0]!r}",
            )
        return found

    def count(self, k: Any) -> int:
        """k, but at most the number of items.  InputError if it is no number of at least 1."""
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 1:
            raise InputError(f"k, the number of items to recommend, is {k!r}", "give a number of at least 1")
        return min(int(k), len(self.answers.item_ids))

    def moments(self, times: Any, count: int, what: str = "the times") -> Moments:
        """Times of requests in seconds, ``(count,)``; None for None."""
        return None if times is None else seconds_of(times, count, what)

    def filters(
        self,
        filter_viewed: bool,
        items: Any,
        exclude: Any,
        items_for: Mapping[Any, Any] | None,
        exclude_for: Mapping[Any, Any] | None,
        cap: float | None,
    ) -> Filters:
        """The filters of a call.  The arguments are those of `Recommender.recommend`."""
        if not isinstance(filter_viewed, bool | np.bool_):
            raise InputError(f"filter_viewed is {filter_viewed!r}", "give True or False")
        left_out = frozenset() if exclude is None else frozenset(self.items(exclude, "exclude"))
        if cap is not None:
            popular = too_popular(self._users_of_items, len(self._histories), cap)
            left_out |= {self.answers.item_ids[number] for number in popular}
        allow = None if items is None else frozenset(self.items(items, "items"))
        if not (frozenset(self.answers.item_ids) if allow is None else allow) - left_out:
            raise InputError("the filters leave no item that may be recommended", "allow more items")
        return Filters(
            bool(filter_viewed),
            allow,
            left_out,
            self._for_users(items_for, "items_for"),
            self._for_users(exclude_for, "exclude_for"),
        )

    def _for_users(self, given: Mapping[Any, Any] | None, name: str) -> dict[str, frozenset[str]]:
        if given is None:
            return {}
        if not isinstance(given, Mapping):
            raise InputError(
                f"{name} has the type {type(given).__name__}", "give a dictionary, {user: items}"
            )
        found: dict[str, frozenset[str]] = {}
        for user, items in given.items():
            text = text_id(user, f"the users of {name}")
            if text in found:
                raise InputError(
                    f"{name} has the user {text[:60]!r} twice, as {user!r} too", "give one list for each"
                )
            found[text] = frozenset(self.items(items, f"{name} of {user!r}"))
        return found

    def guests(self, histories: Any, times: Any, unknown: str) -> tuple[People, Ids]:
        """Histories of nobody in the data, and the type of their names.

        The arguments are those of `Recommender.recommend_histories`.
        """
        ids = Ids()
        if is_frame(histories):
            if times is not None:
                raise InputError("a frame has its times in a column", "leave times= out")
            source = read(histories, later(self.fitted.run.data(), histories))
            dataset, ids = source.dataset, source.users
            cuts = dataset.histories.offsets[1:-1]
            names = dataset.user_ids
            lists = [[dataset.item_ids[i] for i in part] for part in np.split(dataset.histories.items, cuts)]
            each: Sequence[Any] | None = None
            if dataset.seconds is not None:
                each = np.split(dataset.seconds, cuts)
        else:
            keys, each = _listed(histories, times)
            lists = [ids_in(histories[key], "item", None, "a history") for key in keys]
            names = [text_id(key, "the names of histories") for key in keys]
            if all(isinstance(key, int | np.integer) for key in keys):
                ids = Ids(polars="Int64")
        return self._packed(names, lists, each, unknown), ids

    def _packed(
        self, names: list[str], lists: list[list[str]], times: Sequence[Any] | None, unknown: str
    ) -> People:
        known, use = self.answers.item_numbers, self.fitted.content.config.time_use
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
                self.dataset.item_index(items[int(np.argmin(keep))])
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
        packed = Packed.from_lengths(
            np.array(numbers, np.int64),
            np.array(lengths, np.int64),
            None if times is None else np.concatenate(moments),
        )
        return People(names, packed, guests=True)

    # --- answers --------------------------------------------------------------------------------

    def ranked(
        self, people: People, k: int, moments: Moments, filters: Filters, diversity: float
    ) -> list[Best]:
        """The k best items of each, by score alone or also by how they differ."""
        check_diversity(diversity)
        self.answers.check_requests(people, moments)
        if diversity:
            return self.answers.diverse(people, k, moments, filters, float(diversity))
        return self.answers.best(people, k, moments, filters)

    def popular(self, k: int, filters: Filters, user: str = "") -> Best:
        """The k items that most users have, with the share of the users."""
        allow, exclude = filters.of(user)
        share = self._users_of_items / len(self._histories)
        retired = {self.answers.item_ids[item] for item in self.answers.content.retired}
        order = (self.answers.item_ids[item] for item in np.argsort(-share, kind="stable"))
        free = (n for n in order if (allow is None or n in allow) and n not in exclude and n not in retired)
        return [
            (name, float(share[self.answers.item_numbers[name]]))
            for _, name in zip(range(k), free, strict=False)
        ]

    def lists(
        self,
        names: Sequence[str],
        lists: Sequence[Best],
        ids: Ids,
        columns: tuple[str, str] = ("user", "item"),
    ) -> Any:
        """A frame with a row for each item of each list.  ids: the type of the names."""
        return frame_of(
            {
                columns[0]: ids.column_of(
                    [name for name, best in zip(names, lists, strict=True) for _ in best], self.kind
                ),
                columns[1]: self.item_column([item for best in lists for item, _ in best]),
                "score": np.array([score for best in lists for _, score in best], np.float32),
                "rank": np.array([rank for best in lists for rank in range(1, len(best) + 1)], np.int64),
            },
            self.kind,
        )

    def item_column(self, names: Sequence[str]) -> Any:
        """Items as a column of a frame."""
        return self.fitted.items.column_of(names, self.kind)


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
