"""Reads data files of every format into a dataset. All data files come in through here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from recblr.data.dataset import Dataset
from recblr.data.events import Events, MinimumCounts, concatenate, indexed
from recblr.data.read.columns import Wanted, refuse_unused_units
from recblr.data.read.dialects import TextForm, csv_dialect, inter_dialect, movielens_dialect
from recblr.data.read.json import read_json
from recblr.data.read.lines import read_lines
from recblr.data.read.parquet import read_parquet, read_parquet_folder
from recblr.data.read.text import read_table
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
    columns: str | Sequence[str] | None = None,
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    rating: str | None = None,
    file_order: bool = False,
    time_unit: str | None = None,
    offset_unit: str | None = None,
    separator: str | None = None,
    quotes: bool = True,
    encoding: str = "utf-8",
    drop_incomplete: bool = False,
    min_rating: float | None = None,
    k_core: int = 5,
    min_user_events: int | None = None,
    min_item_events: int | None = None,
) -> Dataset:
    """Read one or more files of interactions as a dataset, named after the first.

    path: one file or several. Their events are joined in the given order, so a history may span files. A
        folder of Parquet files counts as one file. Files may be compressed: .gz, .bz2, .xz, .zst, or one file
        in a .zip.
    format: the format of every file. "auto" takes it from the suffix; else one of
        "inter"      .inter: RecBole's atomic file: tabs, header ``user_id:token …``
        "csv"        .csv, .tsv: a header, and commas, semicolons, tabs or bars
        "movielens"  .dat, .data: `user::item::rating::timestamp` without a header (ratings.dat), also with
                     tabs (u.data)
        "parquet"    .parquet, .pq, or a folder of them
        "json"       .json, .jsonl, .ndjson: an object for each event, on its own line or in one array
        "pairs"      `user item` in each line, oldest first
        "sequences"  `user item item …` in each line, oldest first
        A .txt file has pairs if every line has two words, and sequences if lines differ in length.
    columns: for a text file without a header, what each field of a line is, in order: user, item, time,
        offset, rating, each at most once, or - for a field to ignore. "user,time,item,-" or a sequence.
    user, item, time, rating: the names of the columns; by default user_id, item_id, timestamp and rating, or
        another usual spelling (userId, movieId …). Without a time column, events keep the order of the file.
        If another column can hold times, its name must be given. A time "date+clock" is the sum of two
        columns: dates, and times of day or numbers.
    file_order: the rows are in the order of time already; no times are read.
    time_unit: the unit of numbers as times, which then count from 1970: d, h, min, s, ms, us or ns. Not for
        dates. By default, the numbers show their unit, or it is unknown.
    offset_unit: the unit of numbers in the second column of such a sum: h, min, s, ms, us or ns.
    separator: what separates the fields of a text file: a text, or "tab" or "space"; None to find it out.
    quotes: whether fields of a CSV file may be in quotes. False if quotes are ordinary characters.
    encoding: how a text file is encoded.
    drop_incomplete: rows without a user, an item or a time are dropped and counted. Otherwise they are an
        error.
    min_rating: interactions with a lower rating, or with none, are dropped, before anything is counted.
    k_core: users and items with fewer interactions are dropped, again and again until all have enough. 0 or 1
        keeps all.
    min_user_events, min_item_events: the smallest number of interactions of a user, and of an item; by
        default k_core.

    Times are numbers of any unit, or dates (ISO 8601 in text), which become whole numbers since 1970. If all
    numbers that remain lie in the years 1990 to 2100 in one of s, ms, us and ns, and cannot mean anything
    else, this is their unit. `Dataset.time_unit` has it, and the summary of the reading says it. Otherwise
    the numbers give the order only.

    Histories are sorted by time, and events with the same time keep the order of the file. Users and items
    are numbered in the order of their first appearance. Raises InputError if the data cannot be read: one
    sentence with the place and the remedy.
    """
    if format not in FORMATS:
        raise InputError(f"there is no format {format!r}", f"choose one of {', '.join(FORMATS)}")
    minimum = MinimumCounts(k_core, min_user_events, min_item_events)
    wanted = Wanted(user, item, time, rating, min_rating, file_order, time_unit, offset_unit, drop_incomplete)
    if columns is not None and not isinstance(columns, Sequence):
        raise InputError(
            f"columns= is what each field of a line is, and it is {columns!r}",
            'give words, such as "user,item,-,time"',
        )
    if isinstance(columns, str):
        columns = [word.strip() for word in columns.split(",")]
    form = TextForm(None if columns is None else tuple(columns), separator, quotes)
    paths = _listed(path)
    events = concatenate([_read(one, format, wanted, form, encoding) for one in paths])
    return Dataset(_name(paths[0]), *indexed(events, minimum, min_rating=min_rating))


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


def _read(path: Path, format: str, wanted: Wanted, text: TextForm, encoding: str) -> Events:
    if os.path.isdir(path) and format in ("auto", "parquet"):
        if text.columns is not None:
            _check_columns_fit(path, "parquet", wanted)
        _refuse_unused_form(path, "parquet", text, encoding)
        return read_parquet_folder(path, wanted)
    check_readable(path)
    inside = inner_path(path)
    form = format
    if format == "auto":
        form = _by_suffix(path, inside, default=None if text.columns is None else "csv")
        if text.columns is not None and form in ("lines", "movielens"):
            form = "csv"
    if text.columns is not None:
        _check_columns_fit(path, form, wanted)
    _refuse_unused_form(path, form, text, encoding)
    if form == "parquet":
        return read_parquet(path, wanted)
    if form in ("lines", "pairs", "sequences", "movielens"):
        _check_no_header_needed(path, form, wanted)
    data = read_text(path, encoding)
    path = inside  # errors then name the file in an archive too
    if form == "json":
        return read_json(path, data, wanted)
    if form == "inter":
        return read_table(path, *inter_dialect(path, data, text), wanted)
    if form == "csv":
        return read_table(path, *csv_dialect(path, data, text), wanted)
    if form == "movielens":
        return read_table(path, *movielens_dialect(path, data), wanted)
    return read_lines(path, data, "auto" if form == "lines" else form)


def _check_columns_fit(path: Path, form: str, wanted: Wanted) -> None:
    """Raise InputError for columns by position in a file that has a header, or beside names of columns."""
    if form != "csv":
        raise InputError(
            f"--columns (columns= in Python) is for text files without a header, and {path} is read in the "
            f"format {form}",
            "leave it out, or choose the format csv",
        )
    for role, name in wanted.names().items():
        raise InputError(
            f"--columns (columns= in Python) names the fields by position, so --{role}-column {name} has no "
            "effect",
            "give one of the two",
        )


def _refuse_unused_form(path: Path, form: str, text: TextForm, encoding: str) -> None:
    """Raise InputError for a separator, quotes or an encoding that the format does not have."""
    unused = {
        "--separator (separator= in Python)": text.separator is not None and form not in ("csv", "inter"),
        "--no-quotes (quotes= in Python)": not text.quotes and form in ("json", "parquet"),
        "--encoding (encoding= in Python)": encoding != "utf-8" and form == "parquet",
    }
    for option, is_unused in unused.items():
        if is_unused:
            raise InputError(
                f"{option} has no effect on {path}, which is read in the format "
                f"{'pairs or sequences' if form == 'lines' else form}",
                "leave it out, or choose the format csv",
            )


def _check_no_header_needed(path: Path, form: str, wanted: Wanted) -> None:
    """Raise InputError for names of columns, and for units and a min_rating that have no effect."""
    for name in wanted.names().values():
        raise InputError(
            f"{path} is read as a file with no header, which has no column {name!r}",
            "leave the column names out, choose the format csv if the file has a header, or name its fields "
            "by position with --columns (columns= in Python)",
        )
    refuse_unused_units(wanted, ["time"] if form == "movielens" else [])
    if wanted.min_rating is not None and form != "movielens":
        raise InputError(
            f"{path} has no ratings to compare with --min-rating (min_rating= in Python)",
            "leave it out, or give a file with a column of ratings",
        )


def _by_suffix(path: Path, inside: Path, default: str | None) -> str:
    """The format by the name of the file: in an archive, by the name of its member or else its own.

    default: the format of a file whose name does not show it; None to raise InputError.
    """
    for name in (inside, path):
        suffix = without_compression(name).suffix.lower()
        if suffix in _BY_SUFFIX:
            return _BY_SUFFIX[suffix]
    if default is not None:
        return default
    raise InputError(
        f"the name {inside.name} does not show the format of the file ({', '.join(_BY_SUFFIX)} do)",
        f"choose one of the formats {', '.join(FORMATS[1:])}",
    )


def _name(path: Path) -> str:
    """The name of a dataset that is read from a file or a folder."""
    path = without_compression(Path(os.path.abspath(path)))
    return path.stem if path.suffix.lower() in _BY_SUFFIX or not os.path.isdir(path) else path.name
