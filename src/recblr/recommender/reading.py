"""The data that a caller gives: a frame, files or a dataset, and the types of its ids; and later data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from recblr.config.run import DataConfig
from recblr.data import Dataset, read_dataset
from recblr.data.events import MinimumCounts, indexed
from recblr.data.joined import neighbours, with_events, without_items
from recblr.data.read.columns import Wanted, usual_name
from recblr.data.read.frames import read_frame
from recblr.errors import InputError
from recblr.recommender.frames import Ids, Kind, frame_of, kind_of, names_of, refuse_index
from recblr.run.model_content import ModelContent
from recblr.run.model_items import changed, with_items

# The options that only files have.
_OF_FILES = ("format", "columns", "separator", "quotes", "encoding")


@dataclass(frozen=True, eq=False)
class Data:
    """All events, and the types of their ids.

    users, items: the types of the ids.
    frames: the kind of the frame, or polars.
    config: the options that they were read with; None for a dataset.
    more: whether later events are among them.
    said: what was read and dropped, in words; empty if nobody knows.
    """

    dataset: Dataset
    users: Ids = field(default_factory=Ids)
    items: Ids = field(default_factory=Ids)
    frames: Kind = "polars"
    config: DataConfig | None = None
    more: bool = False
    said: str = ""

    @property
    def dropped(self) -> dict[str, int]:
        """How many events were dropped now, {why: count}; none of a dataset."""
        if self.config is None or self.dataset.reading is None:
            return {}
        return dict(self.dataset.reading.dropped)

    @property
    def rare_events(self) -> int:
        """How many of these were dropped because their user or item is rare."""
        return sum(count for why, count in self.dropped.items() if "fewer than" in why)

    def lists(
        self,
        names: Sequence[str],
        lists: Sequence[Sequence[tuple[str, float]]],
        ids: Ids,
        columns: tuple[str, str] = ("user", "item"),
    ) -> Any:
        """A frame with a row for each item of each list.  ids: the type of the names."""
        return frame_of(
            {
                columns[0]: ids.column_of(
                    [name for name, best in zip(names, lists, strict=True) for _ in best], self.frames
                ),
                columns[1]: self.item_column([item for best in lists for item, _ in best]),
                "score": np.array([score for best in lists for _, score in best], np.float32),
                "rank": np.array([rank for best in lists for rank in range(1, len(best) + 1)], np.int64),
            },
            self.frames,
        )

    def item_column(self, names: Sequence[str]) -> Any:
        """Items as a column of a frame."""
        return self.items.column_of(names, self.frames)


def read(data: Any, config: DataConfig) -> Data:
    """Read what a caller gives.

    data: a frame of pandas or polars with an event in each row, the path of a file or several, or a Dataset.
    config: the options.  Their paths are not used.

    Raises InputError for anything else, for an option that has no effect, and as the readers do.
    """
    if isinstance(data, Dataset):
        _refuse(config, [entry.name for entry in fields(config)], "a dataset, which is read already")
        return Data(data)
    if is_paths(data):
        paths = [Path(path) for path in ([data] if isinstance(data, str | os.PathLike) else data)]
        dataset = read_dataset(
            paths,
            **{name: getattr(config, name) for name in _OF_FILES},
            **_of_both(config),
            k_core=config.k_core,
            min_user_events=config.min_user_events,
            min_item_events=config.min_item_events,
        )
        real = tuple(os.path.realpath(path) for path in paths)
        users, items = Ids(config.user_column), Ids(config.item_column)
        return Data(dataset, users, items, config=replace(config, paths=real), said=str(dataset.reading))
    kind = kind_of(data)
    if kind is None:
        raise InputError(
            f"data are a frame, a path or a Dataset, and not a {type(data).__name__}",
            "give a frame of pandas or polars with an event in each row",
        )
    _refuse(config, _OF_FILES, "a frame")
    given = _of_both(config)
    if kind == "pandas":
        for role in ("user", "item") if config.file_order else ("user", "item", "time"):
            name = given[role] or usual_name("the frame", names_of(data), role)
            if name not in names_of(data):
                refuse_index(data, "the frame", name)
    # As Dataset.from_frame does, but the types of the ids are kept.
    events = read_frame(data, Wanted(**given))
    minimum = MinimumCounts(config.k_core, config.min_user_events, config.min_item_events)
    dataset = Dataset("frame", *indexed(events, minimum, min_rating=config.min_rating))
    return Data(
        dataset,
        Ids.of(data, "user", config.user_column, events.users),
        Ids.of(data, "item", config.item_column, events.items),
        kind,
        config,
        said=str(dataset.reading),
    )


def later(before: DataConfig | None, data: Any) -> DataConfig:
    """The options to read later data with, if earlier data were read with others.  No rare one is dropped."""
    if isinstance(data, Dataset):  # it is read already
        return DataConfig()
    before = before or DataConfig()
    if not is_paths(data):
        before = replace(before, **{name: getattr(DataConfig(), name) for name in _OF_FILES})
    return replace(before, paths=(), k_core=0, min_user_events=None, min_item_events=None)


def joined(data: Data, content: ModelContent, new: Dataset) -> tuple[Data, ModelContent, dict[str, int]]:
    """The data and the model with the events of `new`, and how many events were left out, {which: count}.

    The weights stay.  A new item gets the mean of the vectors of the known items that stand right before and
    after it.
    """
    known = data.dataset.num_items
    dataset, had = with_events(data.dataset, new)
    beside = neighbours(dataset.histories, known)
    lonely = np.array([n for n in range(known, dataset.num_items) if n not in beside], np.int64)
    likes = [[dataset.item_ids[n] for n in beside[number]] for number in sorted(beside)]
    alone = 0
    if len(lonely):
        dataset, alone = without_items(dataset, lonely)
    content = changed(content)
    if likes:
        content = with_items(content, dataset.item_ids[known:], like=likes)
    left_out = {
        "that the recommender has already": had,
        "of new items that stand beside no known item": alone,
    }
    return replace(data, dataset=dataset, more=True), content, left_out


def _of_both(config: DataConfig) -> dict[str, Any]:
    """The options of files and frames, by the names of the readers."""
    return {
        "user": config.user_column,
        "item": config.item_column,
        "time": config.time_column,
        "rating": config.rating_column,
        "file_order": config.file_order,
        "time_unit": config.time_unit,
        "offset_unit": config.offset_unit,
        "drop_incomplete": config.drop_incomplete,
        "min_rating": config.min_rating,
    }


def is_paths(data: Any) -> bool:
    """Whether it is the path of a file, or a list of paths."""
    return isinstance(data, str | os.PathLike) or (
        isinstance(data, Sequence)
        and len(data) > 0
        and all(isinstance(path, str | Path | os.PathLike) for path in data)
    )


def _refuse(config: DataConfig, names: Sequence[str], what: str) -> None:
    """Raise InputError for an option that was given and has no effect on such data."""
    for name in names:
        if getattr(config, name) != getattr(DataConfig(), name):
            said = name.removesuffix("_column")
            raise InputError(f"{said}= has no effect on {what}", f"leave {said}= out")
