"""What a trained model answers, by the engine or by torch.  Both give the same answers, to rounding.

The engine answers where it can: for every RecBLR, if the native library is there.  torch answers for the
other models.  Users and items are named by their ids as texts.
"""

from __future__ import annotations

import secrets
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import RLock
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from recblr.config.model import RecBLRConfig
from recblr.data.batches import in_chunks
from recblr.data.packed import Packed
from recblr.errors import InputError
from recblr.run.model_content import ModelContent, servable
from recblr.serving.bulk import parts
from recblr.serving.filters import Filters, diversified
from recblr.serving.items import similar_items

if TYPE_CHECKING:
    from recblr.serving.engine import Engine

Backend = Literal["auto", "engine", "torch"]
Best = list[tuple[str, float]]
"""Items with their scores, the best first."""

CANDIDATES = 10
"""From so many times k items, the k items of a diverse list are chosen."""

_TOGETHER, _EVENTS_TOGETHER = 4096, 2**19
"""The most users and events of one call of the engine."""

_KEPT = 2**30
"""The most bytes of users that stay in the engine between two calls."""

_BYTES_OF_HISTORY = 2048
"""An estimate of what the engine keeps of a user beside the state: the events and the set of items."""

_EXPLAINED = 100

_GUEST = "\x00guest "  # no user of a log begins like this


@dataclass(frozen=True)
class People:
    """Users with their histories.

    names: the id of each.
    histories: whole ones, with times if they are known.
    guests: whether they are only asked for once, and are no users of the data.
    """

    names: Sequence[str]
    histories: Packed
    guests: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def part(self, start: int, end: int) -> People:
        """Those from `start` up to `end`."""
        chosen = np.arange(start, min(end, len(self)))
        return replace(self, names=self.names[start:end], histories=self.histories.select(chosen))


class Answers(ABC):
    """The answers of one model.

    content: of its model file.
    item_ids: of all items, in the order of their numbers.
    """

    def __init__(self, content: ModelContent) -> None:
        self._know(content)

    def _know(self, content: ModelContent) -> None:
        assert content.item_ids is not None
        self.content, self.item_ids = content, content.item_ids
        self.item_numbers = {name: number for number, name in enumerate(self.item_ids)}

    def take_in(self, people: People) -> None:  # noqa: B027  not every model keeps something
        """Take in the histories of users now, and not at the first question about them."""

    @abstractmethod
    def grown(self, path: Path, content: ModelContent, users: Sequence[str]) -> Answers:
        """The answers of the same weights with more items at the end, after events of some users.

        These answers may be the same object, which has changed.
        """

    def check_requests(self, people: People, times: NDArray[np.float64] | None) -> None:
        """Raise InputError if a request comes before the last event of its user, and the model knows time."""
        if times is None or self.content.config.time_use == "none":
            return
        assert people.histories.times is not None
        last = people.histories.times[people.histories.offsets[1:] - 1]
        early = np.flatnonzero(times < last)
        if len(early):
            first = int(early[0])
            raise InputError(
                f"the request is at {_in_words(times[first])}, but the last event of user"
                f" {people.names[first]!r} is later, at {_in_words(last[first])}",
                "give a later time",
            )

    @abstractmethod
    def best(self, people: People, k: int, times: NDArray[np.float64] | None, filters: Filters) -> list[Best]:
        """The k best items of each, fewer if fewer may be recommended.  times: of the requests, or None."""

    @abstractmethod
    def scores(
        self, people: People, items: Sequence[str], times: NDArray[np.float64] | None
    ) -> NDArray[np.float32]:
        """The scores ``(S, N)`` of N items for each of S people."""

    @abstractmethod
    def vectors(self, people: People, times: NDArray[np.float64] | None) -> NDArray[np.float32]:
        """The vectors ``(S, D)`` of S people, whose products with those of items are scores."""

    @abstractmethod
    def explain(
        self, person: People, item: str, times: NDArray[np.float64] | None
    ) -> list[tuple[int, str, float]]:
        """(position, item, change) of the newest 100 events of one person, the largest change first."""

    @abstractmethod
    def similar(self, item: str, k: int) -> Best:
        """The k other items whose vectors have the largest cosine with that of an item, with the cosine."""

    def diverse(
        self,
        people: People,
        k: int,
        times: NDArray[np.float64] | None,
        filters: Filters,
        diversity: float,
    ) -> list[Best]:
        """As `best`, but the k items are chosen for diversity among the best CANDIDATES * k."""
        pools = self.best(people, min(CANDIDATES * k, len(self.item_ids)), times, filters)
        lists = []
        for pool in pools:
            rows = self.content.table[[self.item_numbers[item] for item, _ in pool]]
            chosen = diversified([score for _, score in pool], rows, k, diversity)
            lists.append([pool[place] for place in chosen])
        return lists


def _in_words(seconds: float) -> str:
    from recblr.serving.recommendations import moment_in_words

    return moment_in_words(float(seconds))


def answers_of(path: Path, content: ModelContent, backend: Backend) -> Answers:
    """The answers of the model in a file, with its content.

    Raises InputError if the engine is asked for, and cannot serve the model.
    """
    if backend == "torch":
        return TorchAnswers(path, content)
    if backend == "auto" and not (isinstance(content.config, RecBLRConfig) and _native()):
        return TorchAnswers(path, content)
    return EngineAnswers(path, content)


def _native() -> bool:
    """Whether the library of the engine can be imported."""
    try:
        from recblr.serving.engine import Engine
    except ImportError:
        return False
    return Engine is not None


def _parts(people: People) -> Iterator[tuple[int, People]]:
    """All people in turn, so many as the engine answers at once, with the place of the first of them."""
    for part in parts(people.histories.offsets, users=_TOGETHER, events=_EVENTS_TOGETHER):
        yield part.start, people.part(part.start, part.stop)


class EngineAnswers(Answers):
    """The answers of the engine.  The states of users stay in it, up to 1 GiB, so a second call is fast."""

    def __init__(self, path: Path, content: ModelContent) -> None:
        super().__init__(content)
        from recblr.serving.engine import Engine

        # With histories, it also serves models with max_length, and explains.
        self.engine: Engine = Engine(servable(path, content), history=True)
        self._timed = content.config.time_use != "none"
        self._lock = RLock()
        self._kept, self._bytes_of_user = 0, self.engine.bytes_of_user + _BYTES_OF_HISTORY

    def best(self, people: People, k: int, times: NDArray[np.float64] | None, filters: Filters) -> list[Best]:
        lists: list[Best] = [[] for _ in range(len(people))]
        for start, part in _parts(people):
            alone = {place for place, name in enumerate(part.names) if filters.has_own(name)}
            together = [place for place in range(len(part)) if place not in alone]
            asked = None if times is None else times[start : start + len(part)]
            with self._taken_in(part) as keys:
                if together and filters.allow != frozenset():
                    found = self.engine.recommend_many(
                        [keys[place] for place in together],
                        k,
                        times=None if asked is None else asked[together],
                        exclude=filters.exclude,
                        allow=filters.allow,
                        mask_seen=filters.mask_seen,
                    )
                    for place, best in zip(together, found, strict=True):
                        lists[start + place] = best
                for place in alone:
                    allow, exclude = filters.of(part.names[place])
                    if allow != frozenset():
                        lists[start + place] = self.engine.recommend(
                            keys[place],
                            k,
                            time=None if asked is None else float(asked[place]),
                            exclude=exclude,
                            allow=allow,
                            mask_seen=filters.mask_seen,
                        )
        return lists

    def scores(
        self, people: People, items: Sequence[str], times: NDArray[np.float64] | None
    ) -> NDArray[np.float32]:
        return self._each(
            people, times, len(items), lambda key, time: self.engine.score(key, items, time=time)
        )

    def vectors(self, people: People, times: NDArray[np.float64] | None) -> NDArray[np.float32]:
        width = self.content.table.shape[1]
        return self._each(people, times, width, lambda key, time: self.engine.vector(key, time=time))

    def _each(
        self,
        people: People,
        times: NDArray[np.float64] | None,
        width: int,
        ask: Callable[[str, float | None], NDArray[np.float32]],
    ) -> NDArray[np.float32]:
        rows = np.zeros((len(people), width), np.float32)
        for start, part in _parts(people):
            with self._taken_in(part) as keys:
                for place, key in enumerate(keys, start):
                    rows[place] = ask(key, None if times is None else float(times[place]))
        return rows

    def explain(
        self, person: People, item: str, times: NDArray[np.float64] | None
    ) -> list[tuple[int, str, float]]:
        with self._taken_in(person) as keys:
            return self.engine.explain(keys[0], item, time=None if times is None else float(times[0]))

    def similar(self, item: str, k: int) -> Best:
        return self.engine.similar(item, k)

    def _know(self, content: ModelContent) -> None:
        super()._know(content)
        self._names = np.array(self.item_ids, dtype=object)

    def take_in(self, people: People) -> None:
        for _, part in _parts(people):
            if self._kept + len(part) * self._bytes_of_user > _KEPT:
                return
            with self._taken_in(part):
                pass

    def grown(self, path: Path, content: ModelContent, users: Sequence[str]) -> Answers:
        with self._lock:
            assert content.item_ids is not None
            new = content.item_ids[len(self.item_ids) :]
            if new:
                self.engine.add_items(new, vectors=content.table[len(self.item_ids) :])
            self._know(content)
            for user in users:
                if self.engine.forget(user):
                    self._kept -= self._bytes_of_user
            return self

    @contextmanager
    def _taken_in(self, people: People) -> Iterator[Sequence[str]]:
        """Put people into the engine, and give their names there.  Afterwards, those that are too many go."""
        with self._lock:
            prefix = (
                f"{_GUEST}{secrets.token_hex(8)} "  # whatever an interrupted call has left, it is of others
            )
            keys = [f"{prefix}{n}" for n in range(len(people))] if people.guests else people.names
            new = [place for place, key in enumerate(keys) if key not in self.engine]
            histories = people.histories.select(np.array(new, np.int64))
            taken: dict[str | int, object] = {
                keys[place]: self._history(histories, n) for n, place in enumerate(new)
            }
            stay = 0 if people.guests else len(taken) * self._bytes_of_user
            try:
                if taken:
                    self.engine.rebuild(taken)
                yield keys
            finally:
                if people.guests or self._kept + stay > _KEPT:
                    for key in taken:
                        self.engine.forget(key)
                else:
                    self._kept += stay

    def _history(self, histories: Packed, number: int) -> object:
        start, end = histories.offsets[number : number + 2]
        items = self._names[histories.items[start:end]].tolist()
        if not self._timed or histories.times is None:
            return items
        return items, histories.times[start:end]


class TorchAnswers(Answers):
    """The answers of the model in PyTorch, which passes the whole history for each."""

    def __init__(self, path: Path, content: ModelContent) -> None:
        super().__init__(content)
        from recblr.run.model_file import as_saved

        self.model = as_saved(path, content).model

    def grown(self, path: Path, content: ModelContent, users: Sequence[str]) -> Answers:
        return TorchAnswers(path, content)

    def best(self, people: People, k: int, times: NDArray[np.float64] | None, filters: Filters) -> list[Best]:
        lists: list[Best] = [[] for _ in range(len(people))]
        for places, histories, scores in self._scored(people, times):
            for row, place in enumerate(places.tolist()):
                allow, exclude = filters.of(people.names[place])
                free = np.ones(len(self.item_ids), np.bool_)
                if allow is not None:
                    free[:] = False
                    free[self._numbers(allow)] = True
                free[self._numbers(exclude)] = False
                free[list(self.content.retired)] = False
                if filters.mask_seen:
                    free[histories.history(row)] = False
                lists[place] = self._top(scores[row], free, k)
        return lists

    def scores(
        self, people: People, items: Sequence[str], times: NDArray[np.float64] | None
    ) -> NDArray[np.float32]:
        rows = np.zeros((len(people), len(items)), np.float32)
        numbers = self._numbers(items)
        for places, _, scores in self._scored(people, times):
            rows[places] = scores[:, numbers]
        return rows

    def vectors(self, people: People, times: NDArray[np.float64] | None) -> NDArray[np.float32]:
        from recblr.serving.scorer import last_hidden, ranking_tokens

        rows = np.zeros((len(people), self.content.table.shape[1]), np.float32)
        for places, histories in in_chunks(self._asked(people, times), ranking_tokens(self.model)):
            rows[places] = last_hidden(self.model, histories).numpy()
        return rows

    def explain(
        self, person: People, item: str, times: NDArray[np.float64] | None
    ) -> list[tuple[int, str, float]]:
        whole = self._asked(person, times)
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
        all_, *without = self.scores(people, [item], others.request_times)[:, 0].tolist()
        found = [
            (place, self.item_ids[whole.items[place]], all_ - score)
            for place, score in enumerate(without, first)
        ]
        return sorted(found, key=lambda entry: -abs(entry[2]))

    def similar(self, item: str, k: int) -> Best:
        found = similar_items(self.content, self.item_numbers[item], k)
        return [(self.item_ids[other], cosine) for other, cosine in found]

    def _scored(
        self, people: People, times: NDArray[np.float64] | None
    ) -> Iterator[tuple[NDArray[np.int64], Packed, NDArray[np.float32]]]:
        """The places of some people, their histories, and the scores ``(S, V)`` of all items; all in turn."""
        from recblr.serving.scorer import model_scorer, ranking_tokens

        score = model_scorer(self.model)
        for places, histories in in_chunks(self._asked(people, times), ranking_tokens(self.model)):
            yield places, histories, score(histories).numpy()

    def _asked(self, people: People, times: NDArray[np.float64] | None) -> Packed:
        """The histories of people with the times that the model needs."""
        histories = people.histories
        if self.content.config.time_use == "none":
            return replace(histories, times=None, request_times=None)
        assert histories.times is not None
        return histories.asked_at(histories.times[histories.offsets[1:] - 1] if times is None else times)

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
