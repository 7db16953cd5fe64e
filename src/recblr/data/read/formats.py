"""Reads data files of every format into a dataset. All data files come in through here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from recblr.data.dataset import Dataset
from recblr.data.events import Events, concatenate, indexed
from recblr.data.read.columns import Wanted
from recblr.data.read.json import read_json
from recblr.data.read.parquet import read_parquet, read_parquet_folder
from recblr.data.read.text import INTER, csv_dialect, movielens, read_lines, read_table
from recblr.errors import InputError
from recblr.io.compression import inner_path, without_compression
from recblr.io.reading import check_readable, read_text

FORMATS = ("auto", "inter", "csv", "movielens", "parquet", "json", "pairs", "sequences")

_BY_SUFFIX = {
    ".inter": "inter",
    ".csv": "csv",
    ".tsv": "csv",
    ".dat": "movielens",
    ".data": "movielens",
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".txt": "lines",
}


def read_dataset(
    path: str | Path | Sequence[str | Path],
    *,
    format: str = "auto",
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    rating: str | None = None,
    min_rating: float | None = None,
    k_core: int = 5,
) -> Dataset:
    """Read one or more files of interactions as a dataset, named after the first.

    path: one file or several. Their events are joined in the given order, so a history may span files. A
        folder of Parquet files counts as one file. Files may be compressed: .gz, .bz2, .xz, .zst, or one file
        in a .zip.
    format: the format of every file. "auto" takes it from the suffix; else one of
        "inter"      .inter: RecBole's atomic file: tabs, header ``user_id:token …``
        "csv"        .csv, .tsv: a header, and commas, tabs or semicolons
        "movielens"  .dat, .data: `user::item::rating::timestamp` without a header (ratings.dat), also with
                     tabs (u.data) or commas
        "parquet"    .parquet, .pq, or a folder of them
        "json"       .json, .jsonl, .ndjson: an object for each event, on its own line or in one array
        "pairs"      `user item` in each line, oldest first
        "sequences"  `user item item …` in each line, oldest first
        A .txt file has pairs if every line has two words. Otherwise it has sequences.
    user, item, time, rating: the names of the columns; by default user_id, item_id, timestamp and rating, or
        another usual spelling (userId, movieId …). Without a time column, events keep the order of the file.
    min_rating: interactions with a lower rating are dropped, before anything is counted.
    k_core: users and items with fewer interactions are dropped, again and again until all have enough. 0 or 1
        keeps all.

    Times are numbers of any unit, or dates (ISO 8601 in text), which become Unix seconds. Histories are
    sorted by time, and events with the same time keep the order of the file. Users and items are numbered in
    the order of their first appearance. Raises InputError if the data cannot be read: one sentence with the
    place and the remedy.
    """
    if format not in FORMATS:
        raise InputError(f"there is no format {format!r}", f"choose one of {', '.join(FORMATS)}")
    wanted = Wanted(user, item, time, rating, min_rating)
    paths = _listed(path)
    events = concatenate([_read(one, format, wanted) for one in paths])
    return Dataset(_name(paths[0]), *indexed(events, k=k_core, min_rating=min_rating))


def _listed(path: str | Path | Sequence[str | Path]) -> list[Path]:
    if not isinstance(path, str | os.PathLike | Sequence) or isinstance(path, bytes):
        raise TypeError(f"data are read from a path or several, not from a {type(path).__name__}")
    paths = [Path(path)] if isinstance(path, str | os.PathLike) else [Path(one) for one in path]
    if not paths:
        raise InputError("there are no data files to read", "give at least one")
    seen: dict[str, Path] = {}
    for one in paths:
        if "\0" in str(one):
            raise InputError(
                f"the path {str(one)!r} holds a zero character, which is not allowed", "check it"
            )
        other = seen.setdefault(os.path.realpath(one), one)
        if other is not one:
            raise InputError(
                f"the data file {other} is given twice", "give it once, or its events count twice"
            )
    for real, one in seen.items():
        for folder in map(str, Path(real).parents):
            if folder in seen:
                raise InputError(
                    f"{one} is in the folder {seen[folder]}, which is given too",
                    "give one of them, or its events count twice",
                )
    return paths


def _read(path: Path, format: str, wanted: Wanted) -> Events:
    if os.path.isdir(path) and format in ("auto", "parquet"):
        return read_parquet_folder(path, wanted)
    check_readable(path)
    inside = inner_path(path)
    form = _by_suffix(path, inside) if format == "auto" else format
    if form == "parquet":
        return read_parquet(path, wanted)
    if form in ("lines", "pairs", "sequences", "movielens"):
        _check_no_header_needed(path, form, wanted)
    data = read_text(path)
    path = inside  # errors then name the file in an archive too
    if form == "json":
        return read_json(path, data, wanted)
    if form == "inter":
        return read_table(path, data, INTER, wanted)
    if form == "csv":
        return read_table(path, data, csv_dialect(path, data), wanted)
    if form == "movielens":
        return read_table(path, *movielens(path, data), wanted)
    return read_lines(path, data, "auto" if form == "lines" else form)


def _check_no_header_needed(path: Path, form: str, wanted: Wanted) -> None:
    """Raise InputError for names of columns, and for a min_rating without ratings in the file."""
    for name in wanted.names().values():
        raise InputError(
            f"{path} is read as a file with no header, which has no column {name!r}",
            "leave the column names out, or choose the format csv if the file has a header",
        )
    if wanted.min_rating is not None and form != "movielens":
        raise InputError(
            f"{path} has no ratings to compare with --min-rating (min_rating= in Python)",
            "leave it out, or give a file with a column of ratings",
        )


def _by_suffix(path: Path, inside: Path) -> str:
    """The format by the name of the file: in an archive, by the name of its member or else its own."""
    for name in (inside, path):
        suffix = without_compression(name).suffix.lower()
        if suffix in _BY_SUFFIX:
            return _BY_SUFFIX[suffix]
    raise InputError(
        f"the name {inside.name} does not show the format of the file ({', '.join(_BY_SUFFIX)} do)",
        f"choose one of the formats {', '.join(FORMATS[1:])}",
    )


def _name(path: Path) -> str:
    """The name of a dataset that is read from a file or a folder."""
    path = without_compression(Path(os.path.abspath(path)))
    return path.stem if path.suffix.lower() in _BY_SUFFIX or not os.path.isdir(path) else path.name
