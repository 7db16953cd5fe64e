"""The files of a saved dataset: two tables that any Parquet reader opens, and a JSON file about them.

    histories.parquet   user: string, items: list of int64; one row for each user, oldest event first;
                        if there are times, also times: list of int64 or float64, as long as items
    catalogue.parquet   item: string; the number of the row is the index of the item
    dataset.json        name, version, fingerprint, the unit of times if it is known, and the SHA-256 of
                        each table's file; written last

Each file is replaced atomically. The fingerprint shows if one of the three belongs to another dataset. A
table is compared with its digest before polars reads it: a damaged size in a Parquet file can make polars
ask for so much memory that the process is aborted.
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from recblr.data.packed import Numbers, Packed
from recblr.errors import InputError
from recblr.io.atomic import atomic_path

# All versions are read. Version 1 had no times, and versions 1 and 2 had no digests. Up to version 3, the
# fingerprint had only the order of times, and a run and its model file have this fingerprint. So the unit of
# times of such a dataset is not read: without a unit, the fingerprint is still that of the order.
_VERSION = 4
_WITHOUT_DIGESTS, _WITHOUT_SECONDS = (1, 2), (1, 2, 3)
_HISTORIES = "histories.parquet"
_CATALOGUE = "catalogue.parquet"
_ABOUT = "dataset.json"

UNREADABLE_PARQUET = (OSError, pl.exceptions.PolarsError, pl.exceptions.PanicException)
"""What polars raises for a damaged Parquet file. PanicException does not derive from Exception."""


@dataclass(frozen=True, eq=False)
class Parts:
    """The content of the files. Neither the fingerprint nor the unit of times is checked yet."""

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
    items = pl.DataFrame({"item": pl.Series(parts.item_ids, dtype=pl.String)})
    digests = {}
    for name, table in ((_HISTORIES, users), (_CATALOGUE, items)):
        content = _as_parquet(table)
        digests[name] = hashlib.sha256(content).hexdigest()
        with atomic_path(directory / name) as path:
            path.write_bytes(content)
    about = {"version": _VERSION, "name": parts.name, "fingerprint": parts.fingerprint, "sha256": digests}
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
        unit = None if version in _WITHOUT_SECONDS else about.get("time_unit")
        digests = None if version in _WITHOUT_DIGESTS else about.get("sha256")
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        raise damaged(directory) from None
    if version not in (*_WITHOUT_SECONDS, _VERSION):
        raise InputError(
            f"{directory / _ABOUT} has version {version!r} and this program reads versions up to {_VERSION}",
            "read the data file again",
        )
    if version not in _WITHOUT_DIGESTS and not isinstance(digests, dict):
        raise damaged(directory)
    try:
        users, items = (_table(directory, name, digests) for name in (_HISTORIES, _CATALOGUE))
        users = users.cast({"user": pl.String, "items": pl.List(pl.Int64)})
        items = items.cast({"item": pl.String})
        lengths = users["items"].list.len().to_numpy()
        histories = Packed.from_lengths(_flat(users["items"]).astype(np.int64), lengths)
        times = _flat(users["times"]) if "times" in users.columns else None
    except (ValueError, *UNREADABLE_PARQUET):
        raise damaged(directory) from None
    if users["user"].null_count() or items["item"].null_count():
        raise damaged(directory)
    return Parts(name, fingerprint, histories, users["user"].to_list(), items["item"].to_list(), times, unit)


def damaged(directory: Path) -> InputError:
    """The error for files that exist but are not one complete dataset."""
    return InputError(f"the dataset saved in {directory} is damaged", "read the data file again")


def _table(directory: Path, name: str, digests: Mapping[str, str] | None) -> pl.DataFrame:
    """A table of the dataset. digests: {name of a file: SHA-256 in hex}; None if the version has none."""
    content = (directory / name).read_bytes()
    if digests is not None and hashlib.sha256(content).hexdigest() != digests.get(name):
        raise damaged(directory)
    return pl.read_parquet(content)


def _as_parquet(table: pl.DataFrame) -> bytes:
    # Through memory: if polars writes to a full disk itself, its error does not say that the disk is full.
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


def _as_lists(values: Numbers, histories: Packed) -> pl.Series:
    events = pl.DataFrame({"s": histories.owners, "values": values})
    lists = events.group_by("s", maintain_order=True).agg("values")
    # An empty history has no group. The join gives it a row.
    all_histories = pl.DataFrame({"s": np.arange(len(histories))})
    joined = all_histories.join(lists, on="s", how="left").sort("s")
    return joined["values"].fill_null(pl.Series([[]], dtype=lists["values"].dtype))


def _flat(lists: pl.Series) -> Numbers:
    # explode gives one null for an empty list; it is not an event.
    values: Numbers = lists.explode().drop_nulls().to_numpy()
    return values
