"""Built-in data whose best possible scores are known, so that a training run can be judged at a glance.

Each user follows a few series at once, switching between them at random, with single items strewn in.
What comes next in a series depends on the item before it *in that series*, which may lie many events
back: who sees only the last item loses most of what there is to know.

A series is a ring: after its last item comes its first. It is longer than any history can walk, so no
item ever recurs for a user; and as every item is equally likely to be a start, none is rare.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recblr.data.dataset import Dataset
from recblr.data.events import by_first_appearance
from recblr.data.packed import Int64Array, Packed
from recblr.errors import InputError

# Users are drawn in blocks to bound the memory; the size is part of what a seed means.
_BLOCK = 4096

_MOST_USERS = 10_000_000  # whose events a large machine holds


@dataclass(frozen=True)
class SyntheticParameters:
    """What the generator is told; equal parameters make equal data.

    series: rings of `series_length` items each; noise_items: items outside them, had at most once a user.
    threads: how many series a user follows. noise: the chance that an event after the opening (the first
    item of each thread) is a noise item. min_events, max_events: the length of a history, uniform, inclusive.

    Raises InputError where the best possible scores could not be known exactly: a ring or the noise items
    could run out, or a history could end before its threads have all begun.
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
            (self.seed >= 0, f"seed must not be negative, and it is {self.seed}"),
            (0.0 <= self.noise <= 1.0, f"noise is a chance from 0 to 1, not {self.noise}"),
            (
                1 <= self.threads <= self.series,
                f"threads must lie in 1..{self.series}, the number of series, not {self.threads}",
            ),
            (
                self.min_events >= self.threads + 2,
                f"min_events must be at least {self.threads + 2}, two more than the threads, so that the "
                f"last two events follow the opening; it is {self.min_events}",
            ),
            (
                self.max_events >= self.min_events,
                f"max_events must be at least min_events, {self.min_events}, and it is {self.max_events}",
            ),
            (
                self.series_length >= after_opening + 2,
                f"series_length must be at least {after_opening + 2} for histories of up to "
                f"{self.max_events} events, so that no thread comes round; it is {self.series_length}",
            ),
            (
                self.noise == 0.0 or self.noise_items >= after_opening + 1,
                f"noise_items must be at least {after_opening + 1} for histories of up to "
                f"{self.max_events} events, so that they cannot run out; it is {self.noise_items}",
            ),
        )
        for holds, sentence in rules:
            if not holds:
                raise InputError(sentence)


def generate(parameters: SyntheticParameters) -> Dataset:
    """Draw a dataset called "synthetic": users ``u17``, items ``s03e12`` (series 3, episode 12) and ``x42``.

    The catalogue holds the items that some user had, numbered as they first appear.
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
    """{item: "next in series 7 after s07e12"} for the items of a dataset; noise is called noise."""
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
    """The histories of a block of users: events (N,) end to end, and lengths (users,).

    Items are numbered series after series, then noise, as _token expects.
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
        # Walking through a random order is drawing uniformly from what is not used yet.
        unused = _orders(rng, users, parameters.noise_items)
        nth = np.maximum(np.cumsum(is_noise, axis=1) - 1, 0)
        strewn = parameters.series * length + np.take_along_axis(unused, nth, axis=1)
        items = np.where(is_noise, strewn, items)
    return items[np.arange(most) < lengths[:, None]], lengths


def _orders(rng: np.random.Generator, rows: int, count: int) -> npt.NDArray[np.int64]:
    """(rows, count) int64, each row a random order of 0..count-1."""
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
    """The dataset of SyntheticParameters with these values; InputError where they do not fit together."""
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
