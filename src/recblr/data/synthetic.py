"""Built-in data whose best possible scores are known. They show at once how well a training run did.

Each user follows a few series at the same time, and switches between them at random. Noise items come in
between. The next item of a series depends on the previous item *of that series*, which may be many events
ago. So a model that sees only the last item misses most of the information.

A series is a ring: its first item follows its last one. A ring is longer than any walk along it, so no item
occurs twice for a user. A walk starts at every item with the same probability, so no item is rare.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recblr.data.dataset import Dataset
from recblr.data.events import by_first_appearance
from recblr.data.packed import Int64Array, Packed
from recblr.errors import InputError

# Users are drawn in blocks, which limits the memory. Another block size would give other data for a seed.
_BLOCK = 4096

_MOST_USERS = 10_000_000  # more would not fit into the memory of a large machine


@dataclass(frozen=True)
class SyntheticParameters:
    """The parameters of the generator. Equal parameters give equal data.

    series: the number of rings, of `series_length` items each.
    noise_items: the number of items outside the rings. A user has each of them at most once.
    threads: the number of series that a user follows. A history opens with the first item of each.
    noise: the probability that an event after this opening is a noise item.
    min_events, max_events: the range of the length of a history, both included; lengths are uniform.

    Raises InputError if the best possible scores would not be exact: if a history could use up a ring or the
    noise items, or end before all of its threads have begun.
    """

    users: int = 2000
    series: int = 20
    series_length: int = 50
    noise_items: int = 100
    threads: int = 3
    noise: float = 0.1
    min_events: int = 20
    max_events: int = 40
    seed: int = 0

    def __post_init__(self) -> None:
        after_opening = self.max_events - self.threads
        rules = (
            (self.users >= 1, f"users must be at least 1, not {self.users}"),
            (self.users <= _MOST_USERS, f"users must be at most {_MOST_USERS}, not {self.users}"),
            (self.seed >= 0, f"seed must not be negative, but is {self.seed}"),
            (0.0 <= self.noise <= 1.0, f"noise is a probability from 0 to 1, not {self.noise}"),
            (
                1 <= self.threads <= self.series,
                f"threads must lie in 1..{self.series}, the number of series, not {self.threads}",
            ),
            (
                self.min_events >= self.threads + 2,
                f"min_events must be at least {self.threads + 2}, so that two events come after the first "
                f"event of each of the {self.threads} threads; it is {self.min_events}",
            ),
            (
                self.max_events >= self.min_events,
                f"max_events must be at least min_events, {self.min_events}, but is {self.max_events}",
            ),
            (
                self.series_length >= after_opening + 2,
                f"series_length must be at least {after_opening + 2} for histories of up to "
                f"{self.max_events} events, so that no thread repeats an item; it is {self.series_length}",
            ),
            (
                self.noise == 0.0 or self.noise_items >= after_opening + 1,
                f"noise_items must be at least {after_opening + 1} for histories of up to "
                f"{self.max_events} events, so that there are always enough; it is {self.noise_items}",
            ),
        )
        for holds, sentence in rules:
            if not holds:
                raise InputError(sentence)


def generate(parameters: SyntheticParameters) -> Dataset:
    """Draw the dataset, which is named "synthetic".

    Users are named like ``u17``, items of a series like ``s03e12`` (series 3, episode 12), and noise items
    like ``x42``. The catalogue has only items that some user has, in the order of their first appearance.
    """
    rng = np.random.default_rng(parameters.seed)
    blocks = [
        _draw(parameters, min(_BLOCK, parameters.users - start), rng)
        for start in range(0, parameters.users, _BLOCK)
    ]
    events = np.concatenate([items for items, _ in blocks])
    lengths = np.concatenate([lengths for _, lengths in blocks])
    size = parameters.series * parameters.series_length + parameters.noise_items
    appearing = by_first_appearance(events, size)
    index = np.zeros(size, dtype=np.int64)
    index[appearing] = np.arange(appearing.size)
    return Dataset(
        name="synthetic",
        histories=Packed.from_lengths(index[events], lengths),
        user_ids=[f"u{user}" for user in range(1, parameters.users + 1)],
        item_ids=[_token(parameters, int(item)) for item in appearing],
    )


def item_titles(dataset: Dataset, parameters: SyntheticParameters) -> dict[str, str]:
    """The titles of a dataset's items, such as {"s07e13": "next in series 7 after s07e12"}."""
    titles = {}
    for series in range(parameters.series):
        first = series * parameters.series_length
        for place in range(parameters.series_length):
            before = _token(parameters, first + (place - 1) % parameters.series_length)
            titles[_token(parameters, first + place)] = f"next in series {series + 1} after {before}"
    return {item: titles.get(item, "noise, in no series") for item in dataset.item_ids}


def _draw(
    parameters: SyntheticParameters, users: int, rng: np.random.Generator
) -> tuple[Int64Array, Int64Array]:
    """The histories of a block of users: events (N,), ordered by user, and lengths (users,).

    The numbers of the items count series 1, then series 2, and so on, then the noise items: see _token.
    """
    threads, length, most = parameters.threads, parameters.series_length, parameters.max_events
    lengths = rng.integers(parameters.min_events, most, size=users, endpoint=True)
    followed = _orders(rng, users, parameters.series)[:, :threads]
    starts = rng.integers(0, length, size=(users, threads))
    thread = rng.integers(0, threads, size=(users, most))
    is_noise = rng.random((users, most)) < parameters.noise
    thread[:, :threads] = np.arange(threads)
    is_noise[:, :threads] = False

    items = np.zeros((users, most), dtype=np.int64)
    for k in range(threads):
        advances = (thread == k) & ~is_noise
        episodes = (starts[:, k, None] + np.cumsum(advances, axis=1) - 1) % length
        items = np.where(advances, followed[:, k, None] * length + episodes, items)
    if parameters.noise > 0.0:
        # Taking the items of a random order one by one draws uniformly from the unused items.
        unused = _orders(rng, users, parameters.noise_items)
        nth = np.maximum(np.cumsum(is_noise, axis=1) - 1, 0)
        noise_items = parameters.series * length + np.take_along_axis(unused, nth, axis=1)
        items = np.where(is_noise, noise_items, items)
    return items[np.arange(most) < lengths[:, None]], lengths


def _orders(rng: np.random.Generator, rows: int, count: int) -> npt.NDArray[np.int64]:
    """(rows, count) int64; each row is a random order of 0..count-1."""
    return rng.permuted(np.tile(np.arange(count), (rows, 1)), axis=1)


def _token(parameters: SyntheticParameters, item: int) -> str:
    series, episode = divmod(item, parameters.series_length)
    if series < parameters.series:
        return f"s{series + 1:02d}e{episode + 1:02d}"
    return f"x{item - parameters.series * parameters.series_length + 1}"


def synthesize(
    *,
    users: int = 2000,
    series: int = 20,
    series_length: int = 50,
    noise_items: int = 100,
    threads: int = 3,
    noise: float = 0.1,
    min_events: int = 20,
    max_events: int = 40,
    seed: int = 0,
) -> Dataset:
    """The dataset of SyntheticParameters with these values. InputError if they do not fit together."""
    return generate(
        SyntheticParameters(
            users=users,
            series=series,
            series_length=series_length,
            noise_items=noise_items,
            threads=threads,
            noise=noise,
            min_events=min_events,
            max_events=max_events,
            seed=seed,
        )
    )
