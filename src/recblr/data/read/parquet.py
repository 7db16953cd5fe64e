"""Reads Parquet files, and folders of them.

A damaged file can end the process: one changed bit in the header of a page, and polars asks for 2 EiB of
memory and aborts, which Python cannot catch. So a child process reads the same columns first.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import polars as pl

from recblr.data.events import Events, concatenate
from recblr.data.read.columns import Column, Wanted, listed
from recblr.data.read.frames import row_of, to_checked_events, typed_leaves, typed_sample, typed_table
from recblr.data.read.lists import Steps, Values, choose, dtype_at
from recblr.data.storage import UNREADABLE_PARQUET
from recblr.errors import InputError
from recblr.io.compression import is_compressed
from recblr.io.reading import check_readable, read_bytes

SUFFIXES = (".parquet", ".pq")

_MAGIC = b"PAR1"
# Files that Spark, Dask and Databricks write beside the data.
_NO_DATA = ("_SUCCESS", "_metadata", "_common_metadata")
_NO_DATA_STARTS = (".", "_committed_", "_started_")
# Tables whose log says which of their Parquet files still count.
_TABLES = {"_delta_log": "Delta Lake", ".hoodie": "Hudi"}
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"


def read_parquet(path: Path, wanted: Wanted) -> Events:
    """The events of a Parquet file, which may be compressed as a whole; see read_frame.

    Raises InputError too if the file cannot be read.
    """
    check_readable(path)
    with path.open("rb") as file:
        start = file.read(10)
    if not is_compressed(start):
        with _Probe() as probe:
            return _Part(str(path), path, start, wanted, probe).events()
    data = read_bytes(path)
    with _Probe() as probe, _temporary_file(data, str(path)) as unpacked:
        return _Part(str(path), unpacked, data[:10], wanted, probe).events()


@contextmanager
def _temporary_file(data: bytes, source: str) -> Iterator[Path]:
    try:
        folder = tempfile.TemporaryDirectory(prefix="recblr-")
        (path := Path(folder.name) / "data.parquet").write_bytes(data)
    except OSError as error:
        raise InputError(
            f"{source} cannot be decompressed into a temporary file ({error.strerror})",
            "decompress it yourself, or set TMPDIR to a folder with space",
        ) from None
    with folder:
        yield path


def read_parquet_folder(folder: Path, wanted: Wanted) -> Events:
    """The events of all Parquet files in a folder and its folders, in the order of their paths.

    A folder named `key=value` adds a column `key` to the files in it, as Hive does. Hidden files, and files
    that Spark and others write beside the data, are ignored.

    Raises InputError as read_parquet does; for a folder with other files or without Parquet files; for files
    that differ in their columns; and for several files without times, whose order is then unknown.
    """
    paths = _parquet_files(folder)
    if not paths:
        raise InputError(
            f"{folder} is a folder without Parquet files", "give one with them, or the data files"
        )
    events: list[Events] = []
    first: _Part | None = None
    with _Probe() as probe:
        for path in paths:
            check_readable(path)
            with path.open("rb") as file:
                start = file.read(10)
            part = _Part(str(path), path, start, wanted, probe, _partition(path.relative_to(folder)))
            first = first or part
            part.check_like(first)
            one = part.events(may_be_empty=True)
            if len(one) or one.blank_rows or one.incomplete_rows:
                events.append(one)
    if not any(len(one) or one.incomplete_rows for one in events):
        raise InputError(
            f"{folder} has no rows in its Parquet files", "give one with an interaction in each row"
        )
    if len(events) > 1 and events[0].times is None:
        raise InputError(
            f"{folder} has {len(events)} files and no column of times, so the order of their events is "
            "unknown",
            "name it with --time-column (time= in Python), or give the files themselves, oldest first",
        )
    return replace(concatenate(events), source=str(folder))


class _Part:
    """One Parquet file: its columns, and those of the partition that it is in."""

    def __init__(
        self,
        source: str,
        path: Path,
        start: bytes,
        wanted: Wanted,
        probe: _Probe,
        partition: dict[str, str | None] | None = None,
    ) -> None:
        if not start.startswith(_MAGIC):
            raise InputError(f"{source} is not a Parquet file", "give one, or choose the right --format")
        self.source, self.path, self.probe, self.partition = source, path, probe, partition or {}
        self.damaged = InputError(f"{source} is a damaged Parquet file", "fetch or write it again")
        probe.check(path, None, self.damaged)
        try:
            self.schema: dict[str, Any] = dict(pl.read_parquet_schema(path))
        except UNREADABLE_PARQUET:
            raise self.damaged from None
        self.own = typed_leaves(self.schema)
        self.found: list[Steps] = [*self.own, *((name,) for name in self.partition)]
        self.wanted = wanted
        self.columns = choose(source, self.found, wanted, self._sample)

    def _read(self, names: list[str]) -> pl.DataFrame:
        self.probe.check(self.path, names, self.damaged)
        try:
            return pl.read_parquet(self.path, columns=names, glob=False, hive_partitioning=False)
        except UNREADABLE_PARQUET:
            raise self.damaged from None

    def _sample(self, name: str) -> pl.Series:
        if (name,) in self.found[len(self.own) :]:
            return pl.Series([self.partition[name]], dtype=pl.String).drop_nulls()
        return typed_sample(self.own, self._read)(name)

    def events(self, may_be_empty: bool = False) -> Events:
        own = [column for column in self.columns if column.position < len(self.own)]
        table: dict[str, Values] = {}
        rows = 0

        def read(names: list[str]) -> pl.DataFrame:
            nonlocal rows
            frame = self._read(names)
            rows = len(frame)
            return frame

        table = typed_table(self.own, own, read)
        for column in self.columns:
            if column not in own:
                table[column.role] = pl.Series([self.partition[column.name]] * rows, dtype=pl.String)
        if may_be_empty and not rows:
            nothing = pl.Series([], dtype=pl.String)
            return Events(self.source, nothing, nothing)
        return to_checked_events(
            table,
            self.columns,
            self.wanted,
            source=self.source,
            place=lambda row: row_of(self.source, row),
            may_be_empty=may_be_empty,
        )

    def check_like(self, first: _Part) -> None:
        """Raise InputError if this file has other columns than the first one, or times of another kind."""
        ours, theirs = _names(self.columns), _names(first.columns)
        if ours != theirs:
            raise InputError(
                f"{self.source} has the columns {listed(list(ours.values()))} for {', '.join(ours)}, but "
                f"{first.source} has {listed(list(theirs.values()))} for {', '.join(theirs)}",
                "name the columns, and make them the same in all files of the folder",
            )
        for role in ("time", "rating"):
            if role in ours and self._kind(role) != first._kind(role):
                raise InputError(
                    f"column {ours[role]!r} holds {self._kind(role)} in {self.source}, but "
                    f"{first._kind(role)} in {first.source}",
                    "convert one of them",
                )

    def _kind(self, role: str) -> str:
        position = next(column.position for column in self.columns if column.role == role)
        if position >= len(self.own):
            return "texts"
        name, *steps = self.own[position]
        dtype = dtype_at(self.schema[name], tuple(steps))
        if dtype.is_numeric():
            return "numbers"
        return "dates" if dtype.is_temporal() else "texts" if dtype == pl.String else str(dtype)


def _names(columns: Sequence[Column]) -> dict[str, str]:
    return {column.role: column.name for column in columns}


def _partition(path: Path) -> dict[str, str | None]:
    """The keys and values in the folders of a path: {"dt": "2024-01-01"} for dt=2024-01-01/a.parquet."""
    pairs = [folder.partition("=") for folder in path.parts[:-1] if "=" in folder]
    return {unquote(key): None if value == _NO_PARTITION else unquote(value) for key, _, value in pairs}


def _parquet_files(folder: Path) -> list[Path]:
    """The Parquet files of a folder and its folders, in the order of their paths."""
    files: list[Path] = []
    seen: dict[str, Path] = {}
    waiting = [folder]
    while waiting:
        one = waiting.pop()
        real = os.path.realpath(one)
        if real in seen:
            raise InputError(
                f"{one} is the same as {seen[real]}, so its events would count twice", "remove one of them"
            )
        seen[real] = one
        if not one.is_dir():
            if one.suffix.lower() not in SUFFIXES:
                raise InputError(
                    f"the folder {folder} holds {one.relative_to(folder).as_posix()!r}, which is no Parquet "
                    "file by its name",
                    f"leave only files named {' or '.join(SUFFIXES)} in it, or give the files themselves",
                )
            files.append(one)
            continue
        try:
            names = sorted(os.listdir(one))
        except OSError as error:
            raise InputError(f"the folder {one} cannot be read ({error.strerror})", "check it") from None
        for name in names:
            if name in _TABLES:
                raise InputError(
                    f"{folder} is a table of {_TABLES[name]}, of whose files only some count",
                    "export it as plain Parquet files",
                )
        waiting += [
            one / name
            for name in reversed(names)
            if not (name in _NO_DATA or name.startswith(_NO_DATA_STARTS) or name.endswith(".crc"))
        ]
    return files


# What the child process runs.  It gets the paths of modules, then a file and its columns on each line.
_PROGRAM = """
import json, sys
sys.path[:] = json.loads(sys.stdin.readline())
import polars
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except (ImportError, OSError, ValueError):
    pass
print("ready", flush=True)
for line in sys.stdin:
    path, columns = json.loads(line)
    try:
        if columns is None:
            polars.read_parquet_schema(path)
        else:
            polars.read_parquet(path, columns=columns, glob=False, hive_partitioning=False)
    except BaseException:
        print("bad", flush=True)
    else:
        print("good", flush=True)
"""


class _Probe:
    """A child process that reads Parquet files before this one does, to see whether they are damaged.

    If no child can be started, as in some embedded Pythons, nothing is checked.
    """

    def __enter__(self) -> _Probe:
        self.child: subprocess.Popen[str] | None = None
        if sys.executable:
            with suppress(OSError, ValueError):
                self.child = subprocess.Popen(
                    [sys.executable, "-I", "-c", _PROGRAM],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    text=True,
                )
        if self.child and self._ask(sys.path) != "ready":
            self._end()
        return self

    def __exit__(self, *_: object) -> None:
        self._end()

    def check(self, path: Path, columns: list[str] | None, damaged: InputError) -> None:
        """Raise `damaged` if the columns of a file cannot be read. None reads only what columns there are."""
        if self.child is None:
            return
        answer = self._ask([os.fspath(path), columns])
        if answer == "good":
            return
        if not answer and self.child.wait() == -signal.SIGKILL:
            raise InputError(
                f"the process that reads {path} was killed, most likely because memory is short",
                "free some, or give fewer events",
            )
        raise damaged

    def _ask(self, question: object) -> str:
        assert self.child is not None
        assert self.child.stdin is not None
        assert self.child.stdout is not None
        try:
            self.child.stdin.write(json.dumps(question, default=str) + "\n")
            self.child.stdin.flush()
        except OSError:
            return ""
        return self.child.stdout.readline().strip()

    def _end(self) -> None:
        if self.child:
            self.child.kill()
            with suppress(OSError):
                self.child.communicate()
            self.child = None
