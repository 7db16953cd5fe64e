"""What a trained model answers, by the engine or by torch.  Both give the same answers, to rounding.

The engine answers where it can: for every RecBLR, if the native library is there.  torch answers for the
other models.  Users and items are named by their ids as texts.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from recblr.config.model import RecBLRConfig
from recblr.data.packed import Packed
from recblr.run.model_content import ModelContent, servable
from recblr.serving.bulk import forget_all, parts, users_at_once
from recblr.serving.filters import Filters, diversified
from recblr.serving.items import similar_items

if TYPE_CHECKING:
    from recblr.serving.engine import Engine

Backend = Literal["auto", "engine", "torch"]
Best = list[tuple[str, float]]
"""Items with their scores, the best first."""

CANDIDATES = 10
"""The k items of a diverse list are chosen among this number times k."""

_KEPT = 2**30
"""The most bytes of users that stay in the engine between two calls."""

_BYTES_OF_USER, _BYTES_OF_EVENT = 256, 32
"""What the engine keeps of a user beside the state, at most: measured, with room for growing."""

_SCORES = 2**24
"""The most scores of one pass of PyTorch: 64 MiB."""

_EXPLAINED = 100

_GUEST = "\x00guest "  # no user of a log begins like this


@dataclass(frozen=True)
class People:
    """Users with their histories.

    names: the id of each.
    histories: whole ones, with times if they are known, and with the times of requests if they were given.
    guests: whether they are only asked for once, and are no users of the data.
    """

    names: Sequence[str]
    histories: Packed
    guests: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def times(self) -> list[float | None]:
        """The times of the requests; None for right after the last event."""
        times = self.histories.request_times
        return [None] * len(self) if times is None else times.tolist()

    def parts(self, users: int, events: int) -> Iterator[tuple[slice, People]]:
        """All people in turn, at most so many users and events at once."""
        for part in parts(self.histories.offsets, users=users, events=events):
            histories = self.histories.select(np.arange(part.start, part.stop))
            yield part, replace(self, names=self.names[part], histories=histories)


class Answers(ABC):
    """The answers of one model.

    content: of its model file.
    item_ids: of all items, in the order of their numbers.
    together: the most users and events of one pass.
    """

    together: tuple[int, int]

    def __init__(self, content: ModelContent) -> None:
        self._know(content)

    def _know(self, content: ModelContent) -> None:
        assert content.item_ids is not None
        self.content, self.item_ids = content, content.item_ids
        self.item_numbers = {name: number for number, name in enumerate(self.item_ids)}

    def take_in(self, people: People) -> None:  # noqa: B027  not every model keeps something
        """Take in the histories of users now, and not at the first question about them."""

    @abstractmethod
    def grow(self, path: Path, content: ModelContent, people: People) -> None:
        """Answer with the same weights and more items at the end, after events of some people.

        people: with their histories before these events.
        """

    def best(self, people: People, k: int, filters: Filters, diversity: float = 0.0) -> list[Best]:
        """The k best items of each, fewer if fewer may be recommended.

        diversity: above 0, they are chosen for diversity among the best CANDIDATES * k.
        """
        lists: list[Best] = []
        count = min(CANDIDATES * k, len(self.item_ids)) if diversity else k
        users, events = self.together
        for _, part in people.parts(users_at_once(users, count), events):
            found = self._best(part, count, filters)
            if not diversity:
                lists += found
                continue
            for pool in found:
                rows = self.content.table[[self.item_numbers[item] for item, _ in pool]]
                chosen = diversified([score for _, score in pool], rows, k, diversity)
                lists.append([pool[place] for place in chosen])
        return lists

    def scores(self, people: People, items: Sequence[str]) -> NDArray[np.float32]:
        """The scores ``(S, N)`` of N items for each of S people."""
        rows = np.zeros((len(people), len(items)), np.float32)
        for places, part in people.parts(*self.together):
            rows[places] = self._scores(part, items)
        return rows

    def vectors(self, people: People) -> NDArray[np.float32]:
        """The vectors ``(S, D)`` of S people, whose products with those of items are scores."""
        rows = np.zeros((len(people), self.content.table.shape[1]), np.float32)
        for places, part in people.parts(*self.together):
            rows[places] = self._vectors(part)
        return rows

    @abstractmethod
    def explain(self, person: People, item: str) -> list[tuple[int, str, float]]:
        """(position, item, change) of the newest 100 events of one person, the largest change first."""

    @abstractmethod
    def similar(self, item: str, k: int) -> Best:
        """The k other items whose vectors have the largest cosine with that of an item, with the cosine."""

    @abstractmethod
    def _best(self, people: People, k: int, filters: Filters) -> list[Best]:
        """As `best`, by score alone, for people that fit into one pass."""

    @abstractmethod
    def _scores(self, people: People, items: Sequence[str]) -> NDArray[np.float32]:
        """As `scores`, for people that fit into one pass."""

    @abstractmethod
    def _vectors(self, people: People) -> NDArray[np.float32]:
        """As `vectors`, for people that fit into one pass."""


def answers_of(path: Path, content: ModelContent, backend: Backend, threads: int | None) -> Answers:
    """The answers of the model in a file, with its content.

    threads: of the engine; None for all processors.

    Raises InputError if the engine is asked for, and cannot serve the model.
    """
    if backend == "torch":
        return TorchAnswers(path, content)
    if backend == "auto" and not (isinstance(content.config, RecBLRConfig) and _native()):
        return TorchAnswers(path, content)
    return EngineAnswers(path, content, threads)


def _native() -> bool:
    """Whether the library of the engine can be imported."""
    try:
        from recblr.serving.engine import Engine
    except ImportError:
        return False
    return Engine is not None


class EngineAnswers(Answers):
    """The answers of the engine.  The states of users stay in it, up to 1 GiB, so a second call is fast."""

    together = 4096, 2**19

    def __init__(self, path: Path, content: ModelContent, threads: int | None) -> None:
        super().__init__(content)
        from recblr.serving.engine import Engine

        # With histories, it also serves models with max_length, and explains.
        self.engine: Engine = Engine(servable(path, content), threads=threads, history=True)
        self._timed = content.config.time_use != "none"
        self._lock = RLock()
        self._kept = 0

    def _bytes_of(self, histories: Packed) -> int:
        """The bytes that the engine needs for the users of these histories."""
        each = self.engine.bytes_of_user + _BYTES_OF_USER
        return len(histories) * each + _BYTES_OF_EVENT * len(histories.items)

    def explain(self, person: People, item: str) -> list[tuple[int, str, float]]:
        with self._taken_in(person) as keys:
            return self.engine.explain(keys[0], item, time=person.times()[0])

    def similar(self, item: str, k: int) -> Best:
        return self.engine.similar(item, k)

    def _best(self, people: People, k: int, filters: Filters) -> list[Best]:
        lists: list[Best] = [[] for _ in range(len(people))]
        alone = {place for place, name in enumerate(people.names) if filters.has_own(name)}
        together = [place for place in range(len(people)) if place not in alone]
        times, each = people.histories.request_times, people.times()
        with self._taken_in(people) as keys:
            if together and filters.allow != frozenset():
                found = self.engine.recommend_many(
                    [keys[place] for place in together],
                    k,
                    times=None if times is None else times[together],
                    exclude=filters.exclude,
                    allow=filters.allow,
                    mask_seen=filters.mask_seen,
                )
                for place, best in zip(together, found, strict=True):
                    lists[place] = best
            for place in alone:
                allow, exclude = filters.of(people.names[place])
                if allow != frozenset():
                    lists[place] = self.engine.recommend(
                        keys[place],
                        k,
                        time=each[place],
                        exclude=exclude,
                        allow=allow,
                        mask_seen=filters.mask_seen,
                    )
        return lists

    def _scores(self, people: People, items: Sequence[str]) -> NDArray[np.float32]:
        with self._taken_in(people) as keys:
            pairs = zip(keys, people.times(), strict=True)
            return np.array([self.engine.score(key, items, time=time) for key, time in pairs])

    def _vectors(self, people: People) -> NDArray[np.float32]:
        with self._taken_in(people) as keys:
            pairs = zip(keys, people.times(), strict=True)
            return np.array([self.engine.vector(key, time=time) for key, time in pairs])

    def _know(self, content: ModelContent) -> None:
        super()._know(content)
        self._names = np.array(self.item_ids, dtype=object)

    def take_in(self, people: People) -> None:
        for _, part in people.parts(*self.together):
            if self._kept + self._bytes_of(part.histories) > _KEPT:
                return
            with self._taken_in(part):
                pass

    def grow(self, path: Path, content: ModelContent, people: People) -> None:
        with self._lock:
            assert content.item_ids is not None
            new = content.item_ids[len(self.item_ids) :]
            if new:
                self.engine.add_items(new, vectors=content.table[len(self.item_ids) :])
            self._know(content)
            there = [place for place, user in enumerate(people.names) if self.engine.forget(user)]
            self._kept -= self._bytes_of(people.histories.select(np.array(there, np.int64)))

    @contextmanager
    def _taken_in(self, people: People) -> Iterator[Sequence[str]]:
        """Put people into the engine, and give their names there.  Guests leave it again.

        Users leave it too if there is no room for them.
        """
        with self._lock:
            # The prefix differs in each call, so nothing that an interrupted call has left is taken for them.
            prefix = f"{_GUEST}{secrets.token_hex(8)} "
            keys = [f"{prefix}{n}" for n in range(len(people))] if people.guests else people.names
            # A user may be named twice.
            new = {key: place for place, key in enumerate(keys) if key not in self.engine}
            histories = people.histories.select(np.array(list(new.values()), np.int64))
            taken: dict[str | int, object] = {key: self._history(histories, n) for n, key in enumerate(new)}
            kept, stay = self._kept + self._bytes_of(histories), False
            try:
                if taken:
                    self.engine.rebuild(taken)
                if not people.guests and kept <= _KEPT:
                    self._kept, stay = kept, True
                yield keys
            finally:
                if not stay:
                    forget_all(self.engine, list(new))

    def _history(self, histories: Packed, number: int) -> object:
        start, end = histories.offsets[number : number + 2]
        items = self._names[histories.items[start:end]].tolist()
        if not self._timed or histories.times is None:
            return items
        return items, histories.times[start:end]


class TorchAnswers(Answers):
    """The answers of the model in PyTorch, which passes the whole history for each."""

    def __init__(self, path: Path, content: ModelContent) -> None:
        self._load(path, content)
        super().__init__(content)

    def _load(self, path: Path, content: ModelContent) -> None:
        from recblr.run.model_file import as_saved
        from recblr.serving.scorer import model_scorer, ranking_tokens

        self.model = as_saved(path, content).model
        self._score, events = model_scorer(self.model), ranking_tokens(self.model)
        self.together = max(1, _SCORES // len(content.table)), events

    def grow(self, path: Path, content: ModelContent, people: People) -> None:
        self._load(path, content)
        self._know(content)

    def explain(self, person: People, item: str) -> list[tuple[int, str, float]]:
        whole = self._asked(person)
        count = len(whole.items)
        first = max(0, count - _EXPLAINED)
        kept = [np.arange(count), *(np.delete(np.arange(count), place) for place in range(first, count))]
        joined = np.concatenate(kept)
        others = Packed.from_lengths(
            whole.items[joined],
            np.array([len(places) for places in kept]),
            None if whole.times is None else whole.times[joined],
        )
        if whole.request_times is not None:
            others = others.asked_at(np.repeat(whole.request_times, len(kept)))
        people = People([person.names[0]] * len(kept), others)
        all_, *without = self.scores(people, [item])[:, 0].tolist()
        found = [
            (place, self.item_ids[whole.items[place]], all_ - score)
            for place, score in enumerate(without, first)
        ]
        return sorted(found, key=lambda entry: -abs(entry[2]))

    def similar(self, item: str, k: int) -> Best:
        found = similar_items(self.content, self.item_numbers[item], k)
        return [(self.item_ids[other], cosine) for other, cosine in found]

    def _best(self, people: People, k: int, filters: Filters) -> list[Best]:
        lists: list[Best] = []
        scores = self._score(self._asked(people)).numpy()
        for row, name in enumerate(people.names):
            allow, exclude = filters.of(name)
            free = np.ones(len(self.item_ids), np.bool_)
            if allow is not None:
                free[:] = False
                free[self._numbers(allow)] = True
            free[self._numbers(exclude)] = False
            free[list(self.content.retired)] = False
            if filters.mask_seen:
                free[people.histories.history(row)] = False
            lists.append(self._top(scores[row], free, k))
        return lists

    def _scores(self, people: People, items: Sequence[str]) -> NDArray[np.float32]:
        scores: NDArray[np.float32] = self._score(self._asked(people)).numpy()[:, self._numbers(items)]
        return scores

    def _vectors(self, people: People) -> NDArray[np.float32]:
        from recblr.serving.scorer import last_hidden

        vectors: NDArray[np.float32] = last_hidden(self.model, self._asked(people)).numpy()
        return vectors

    def _asked(self, people: People) -> Packed:
        """The histories of people with the times that the model needs."""
        histories = people.histories
        if self.content.config.time_use == "none":
            return replace(histories, times=None, request_times=None)
        if histories.request_times is not None:
            return histories
        return histories.asked_at(histories.last_times)

    def _numbers(self, items: Sequence[str] | frozenset[str]) -> list[int]:
        return [self.item_numbers[item] for item in items]

    def _top(self, scores: NDArray[np.float32], free: NDArray[np.bool_], k: int) -> Best:
        """The k best of the free items.  Of equal scores, the smaller number comes first."""
        places = np.flatnonzero(free)
        if len(places) > k:
            cut = np.partition(scores[places], len(places) - k)[len(places) - k]
            places = places[scores[places] >= cut]
        order = places[np.argsort(-scores[places], kind="stable")][:k]
        return [(self.item_ids[item], float(scores[item])) for item in order]
