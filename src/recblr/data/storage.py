"""The files of a saved dataset: two tables that any Parquet reader opens, and a JSON file about them.

    histories.parquet   user: string, items: list of int64; one row for each user, oldest event first;
                        if there are times, also times: list of int64 or float64, as long as items
    catalogue.parquet   item: string; the number of the row is the index of the item
    dataset.json        name, version and fingerprint; written last

Each file is replaced atomically. The fingerprint shows if one of the three belongs to another dataset.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recblr.data.events import UNITS
from recblr.data.packed import Numbers, Packed
from recblr.errors import InputError
from recblr.io.atomic import atomic_path

_VERSION = 2  # version 1 had no times; it is read in the same way
_HISTORIES = "histories.parquet"
_CATALOGUE = "catalogue.parquet"
_ABOUT = "dataset.json"

UNREADABLE_PARQUET = (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What polars raises for a damaged Parquet file. PanicException does not derive from Exception."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The content of the files, not yet compared with the fingerprint."""

    name: str
    fingerprint: str
    histories: Packed
    user_ids: list[str]
    item_ids: list[str]
    times: Numbers | None
    time_unit: str | None


def write(directory: Path, parts: Parts) -> None:
    """Write the three files. InputError if the folder cannot be created or written to."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {directory}: {error.strerror}", "choose another") from None
    users = pl.DataFrame({"user": pl.Series(parts.user_ids, dtype=pl.String)})
    users = users.with_columns(items=_as_lists(parts.histories.items, parts.histories))
    if parts.times is not None:
        users = users.with_columns(times=_as_lists(parts.times, parts.histories))
    with atomic_path(directory / _HISTORIES) as path:
        path.write_bytes(_as_parquet(users))
    with atomic_path(directory / _CATALOGUE) as path:
        path.write_bytes(_as_parquet(pl.DataFrame({"item": pl.Series(parts.item_ids, dtype=pl.String)})))
    about = {"version": _VERSION, "name": parts.name, "fingerprint": parts.fingerprint}
    if parts.time_unit is not None:
        about["time_unit"] = parts.time_unit
    with atomic_path(directory / _ABOUT) as path:
        path.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")


def read(directory: Path) -> Parts:
    """Read the three files. InputError if one is missing, is damaged, or has a newer version."""
    for name in (_ABOUT, _HISTORIES, _CATALOGUE):
        if not (directory / name).is_file():
            raise InputError(
                f"{directory} has no complete dataset ({name} is missing)", "read the data file again"
            )
    try:
        about = json.loads((directory / _ABOUT).read_text(encoding="utf-8"))
        version, name, fingerprint = about["version"], str(about["name"]), str(about["fingerprint"])
        unit = about.get("time_unit")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise damaged(directory) from None
    if version not in (1, _VERSION):
        raise InputError(
            f"{directory / _ABOUT} has version {version!r} and this program reads versions up to {_VERSION}",
            "read the data file again",
        )
    try:
        users = pl.read_parquet(directory / _HISTORIES, glob=False)
        items = pl.read_parquet(directory / _CATALOGUE, columns=["item"], glob=False)
        users = users.cast({"user": pl.String, "items": pl.List(pl.Int64)})
        items = items.cast({"item": pl.String})
        lengths = users["items"].list.len().to_numpy()
        histories = Packed.from_lengths(_flat(users["items"]).astype(np.int64), lengths)
        times = _flat(users["times"]) if "times" in users.columns else None
    except (ValueError, *UNREADABLE_PARQUET):
        raise damaged(directory) from None
    if users["user"].null_count() or items["item"].null_count():
        raise damaged(directory)
    if unit is not None and unit not in UNITS:
        raise damaged(directory)
    return Parts(name, fingerprint, histories, users["user"].to_list(), items["item"].to_list(), times, unit)


def damaged(directory: Path) -> InputError:
    """The error for files that exist but are not one complete dataset."""
    return InputError(f"the dataset saved in {directory} is damaged", "read the data file again")


def _as_parquet(table: pl.DataFrame) -> bytes:
    # Through memory: if polars writes to a full disk itself, its error does not say that the disk is full.
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def _as_lists(values: Numbers, histories: Packed) -> pl.Series:
    owners = np.repeat(np.arange(len(histories)), histories.lengths)
    events = pl.DataFrame({"s": owners, "values": values})
    lists = events.group_by("s", maintain_order=True).agg("values")
    # An empty history has no group. The join gives it a row.
    all_histories = pl.DataFrame({"s": np.arange(len(histories))})
    joined = all_histories.join(lists, on="s", how="left").sort("s")
    return joined["values"].fill_null(pl.Series([[]], dtype=lists["values"].dtype))


def _flat(lists: pl.Series) -> Numbers:
    # explode gives one null for an empty list; it is not an event.
    values: Numbers = lists.explode().drop_nulls().to_numpy()
    return values
