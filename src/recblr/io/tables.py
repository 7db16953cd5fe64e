"""Tables that are written completely or not at all, in parts: Parquet, CSV or JSON Lines by the suffix.

A table may be larger than the memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import polars as pl

from recblr.errors import InputError
from recblr.io.atomic import atomic_path

SUFFIXES = (".parquet", ".csv", ".jsonl")
_ROWS = 2**19  # of a part on disk; about 25 MB of memory


def check_suffix(path: Path) -> None:
    """Raise InputError if the name of a file does not say what kind of table it is."""
    if path.suffix not in SUFFIXES:
        raise InputError(
            f"{path} does not say what kind of table it is", f"end it in one of {', '.join(SUFFIXES)}"
        )


def write_table(path: Path, schema: Mapping[str, Any], frames: Iterable[pl.DataFrame]) -> None:
    """Write frames of one schema as one table, in their order, while they are made.

    schema: {column: type of polars}.

    Raises InputError for an unknown suffix, and if the file cannot be written.  Before the first frame is
    made, it is clear whether the folder is there, and that no folder has the name of the file.
    """
    check_suffix(path)
    empty = pl.DataFrame(schema=dict(schema))
    with atomic_path(path) as draft:
        if path.suffix == ".parquet":
            _write_parquet(draft, empty, frames)
            return
        with draft.open("wb") as file:
            if path.suffix == ".csv":
                empty.write_csv(file)
            for frame in frames:
                if path.suffix == ".csv":
                    frame.write_csv(file, include_header=False)
                else:
                    frame.write_ndjson(file)


def _write_parquet(draft: Path, empty: pl.DataFrame, frames: Iterable[pl.DataFrame]) -> None:
    """Write parts and join them: polars makes a file of several frames only from files."""
    with TemporaryDirectory(prefix=f"{draft.name}-", dir=draft.parent) as folder:
        files: list[Path] = []
        waiting = [empty]

        def write() -> None:
            files.append(Path(folder) / f"{len(files)}.parquet")
            with _plain_errors():
                pl.concat(waiting).write_parquet(files[-1], compression="lz4")
            waiting.clear()

        for frame in frames:
            waiting.append(frame)
            if sum(map(len, waiting)) >= _ROWS:
                write()
        if waiting:
            write()
        with _plain_errors():
            pl.scan_parquet(files, glob=False).sink_parquet(draft)


@contextmanager
def _plain_errors() -> Iterator[None]:
    """A full disk is an OSError for `atomic_path`, but not always for polars."""
    try:
        yield
    except pl.exceptions.PolarsError as error:
        raise OSError(str(error)) from None
