"""What `recblr recommend` does for many users: it writes the lists of all of them into one file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np

from recblr.cli.app import plain_console, tell
from recblr.errors import InputError

if TYPE_CHECKING:  # the help needs no torch
    import polars as pl

    from recblr.data import Dataset, Packed
    from recblr.run.folder import Run
    from recblr.run.model_content import ModelContent
    from recblr.serving.bulk import Lists

UNKNOWN = ("stop", "skip", "popular")
"""What may be done if the data do not have a user of --users."""

_STRANGERS = 1024
"""The most users without a history whose lists are made at a time."""


@dataclass(frozen=True)
class BulkOptions:
    """How to recommend to many users.

    users: a file with the id of a user in each line; None for all users of the data.
    at: when all of them ask, in seconds since 1970; None for right after the last event of each.
    unknown: one of UNKNOWN.
    """

    users: Path | None
    out: Path
    k: int
    at: float | None
    include_seen: bool
    unknown: str
    device: str


def recommend_to_many(run: Run, options: BulkOptions) -> None:
    """Write the lists of many users while they are made.  Print how many there are, and how fast it was."""
    import polars as pl

    from recblr.cli.display import users_display
    from recblr.io.tables import check_suffix, write_table

    if options.unknown not in UNKNOWN:
        raise InputError(f"--unknown must be one of {', '.join(UNKNOWN)}, but is {options.unknown!r}")
    check_suffix(options.out)
    content, dataset = run.content_and_dataset()
    options = replace(options, k=min(asked := options.k, dataset.num_items - len(content.retired)))
    chosen, strangers = _chosen(options, dataset)
    histories = replace(dataset.histories, times=dataset.seconds)
    names = dataset.user_ids
    if chosen is not None:
        histories, names = histories.select(chosen), [names[user] for user in chosen.tolist()]
    if options.at is not None:
        histories = _asked_at(options.at, content.config.time_use, histories, names)
    users, items = pl.Series(names, dtype=pl.String), pl.Series(dataset.item_ids, dtype=pl.String)
    rows = shorter = 0

    def frames(progress: Callable[[int], object]) -> Iterator[pl.DataFrame]:
        nonlocal rows, shorter
        for part in _lists(run, content, histories, options, progress):
            kept = (part.items >= 0).ravel()
            frame = pl.DataFrame(
                {
                    "user": users.gather(np.repeat(part.users, options.k)[kept]),
                    "item": items.gather(part.items.ravel()[kept]),
                    "score": part.scores.ravel()[kept],
                    "rank": _ranks(len(part.users), options.k)[kept],
                }
            )
            rows += len(frame)
            shorter += len(part.users) if options.k < asked else int((part.items[:, -1] < 0).sum())
            yield frame
        if strangers and options.unknown == "popular":
            for frame in _popular(strangers, dataset, content, items, options.k):
                rows += len(frame)
                yield frame

    schema = {"user": pl.String, "item": pl.String, "score": pl.Float32, "rank": pl.Int32}
    started = perf_counter()
    with users_display(plain_console(), "recommending") as show:
        write_table(options.out, schema, frames(lambda done: show(done, len(histories))))
    seconds = perf_counter() - started
    if strangers:
        what = {"skip": "left out", "popular": "given the most popular items"}
        tell(
            f"{len(strangers):,} user(s) of {options.users}, such as {strangers[0]!r}, are not in the data:"
            f" they were {what[options.unknown]}"
        )
    if shorter:
        tell(f"{shorter:,} user(s) have fewer than {asked:,} items left, so their lists are shorter")
    count = len(histories) + (len(strangers) if options.unknown == "popular" else 0)
    plain_console().print(
        f"{options.out}: {rows:,} rows for {count:,} users, in {seconds:,.1f} s:"
        f" {len(histories) / seconds:,.0f} users a second",
        soft_wrap=True,
    )


def no_effect(flag: str, time_use: str) -> InputError:
    """The error for an option of time that the model does not use."""
    return InputError(
        f"{flag} has no effect, because the model was trained with --time {time_use}", "leave it out"
    )


def _lists(
    run: Run,
    content: ModelContent,
    histories: Packed,
    options: BulkOptions,
    progress: Callable[[int], object],
) -> Iterator[Lists]:
    """The lists by the engine; by PyTorch for a model that the engine cannot serve, and on a GPU."""
    from recblr.config.model import RecBLRConfig
    from recblr.system.device import device_for

    device, mask_seen = device_for(options.device), not options.include_seen
    if isinstance(content.config, RecBLRConfig) and device.type == "cpu":
        from recblr.run.model_content import servable
        from recblr.serving.bulk import recommend_in_bulk
        from recblr.serving.engine import Engine

        engine = Engine(servable(run.model_file, content), history=content.config.max_length is not None)
        return recommend_in_bulk(engine, histories, options.k, mask_seen=mask_seen, progress=progress)
    from recblr.run.model_file import as_saved
    from recblr.serving.recommendations import recommend_many

    model = as_saved(run.model_file, content).model.to(device)
    return recommend_many(
        model, histories, options.k, mask_seen=mask_seen, retired=content.retired, progress=progress
    )


def _chosen(options: BulkOptions, dataset: Dataset) -> tuple[np.ndarray | None, list[str]]:
    """The numbers of the users of --users, or None for all; and the users whom the data do not have.

    Each user counts once.  Raises InputError if there is none to recommend to.
    """
    if options.users is None:
        return None, []
    from recblr.io.reading import read_text

    lines = read_text(options.users).decode().split("\n")
    wanted = list(dict.fromkeys(line for line in map(str.strip, lines) if line))
    positions = {name: user for user, name in enumerate(dataset.user_ids)}
    strangers = [name for name in wanted if name not in positions]
    if strangers and options.unknown == "stop":
        raise InputError(
            f"{len(strangers):,} of the {len(wanted):,} users in {options.users} are not in the data, such as"
            f" {strangers[0]!r}",
            "give one id in each line, or choose --unknown skip or --unknown popular",
        )
    if options.unknown == "skip" and len(strangers) == len(wanted):
        raise InputError(
            f"none of the {len(wanted):,} users in {options.users} is in the data, such as {wanted[0]!r}",
            f"give ids like {dataset.user_ids[0]!r}, one in each line",
        )
    return np.array([positions[name] for name in wanted if name in positions], np.int64), strangers


def _asked_at(at: float, time_use: str, histories: Packed, names: list[str]) -> Packed:
    """The histories with a request at this time.  InputError if a user has a later event."""
    from recblr.serving.recommendations import check_requests

    if time_use != "request" or histories.times is None:
        raise no_effect("--at", time_use)
    asked = histories.asked_at(np.full(len(histories), at))
    check_requests(asked, names)
    return asked


def _popular(
    users: list[str], dataset: Dataset, content: ModelContent, items: pl.Series, k: int
) -> Iterator[pl.DataFrame]:
    """What most users have, for users of whom nothing is known; the score is the share of users."""
    import polars as pl

    from recblr.serving.filters import most_popular, users_of_items

    owners = users_of_items(dataset.histories, dataset.num_items)
    best = most_popular(owners, content.retired)[:k]
    shares = (owners[best] / dataset.num_users).astype(np.float32)
    for start in range(0, len(users), _STRANGERS):
        part = pl.Series(users[start : start + _STRANGERS], dtype=pl.String)
        yield pl.DataFrame(
            {
                "user": part.gather(np.repeat(np.arange(len(part)), k)),
                "item": items.gather(np.tile(best, len(part))),
                "score": np.tile(shares, len(part)),
                "rank": _ranks(len(part), k),
            }
        )


def _ranks(users: int, k: int) -> np.ndarray:
    """(users * k,) int32: 1 to k for each user."""
    return np.tile(np.arange(1, k + 1, dtype=np.int32), users)
