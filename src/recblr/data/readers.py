"""The one door for data files: tells the formats apart and turns each into a dataset."""

from __future__ import annotations

from pathlib import Path

from recblr.data.dataset import Dataset
from recblr.data.events import to_dataset
from recblr.data.files import read_text
from recblr.data.lines import read_lines
from recblr.data.tables import INTER, csv_dialect, read_table
from recblr.errors import InputError

FORMATS = ("auto", "inter", "csv", "pairs", "sequences")

_BY_SUFFIX = {".inter": "inter", ".csv": "csv", ".tsv": "csv", ".txt": "lines"}


def read_dataset(
    path: str | Path,
    *,
    format: str = "auto",
    user: str | None = None,
    item: str | None = None,
    time: str | None = None,
    k_core: int = 5,
) -> Dataset:
    """Read a file of interactions, any of them gzipped too, as a dataset named after the file.

    format: "inter" (RecBole's atomic file: tabs, header ``user_id:token …``), "csv" (a header and commas,
        tabs or semicolons), "pairs" (`user item` a line, oldest first), "sequences" (`user item item …` a
        line, oldest first); "auto" goes by the suffix: .inter, .csv, .tsv, and .txt, which holds pairs where
        every line has two words and sequences otherwise.
    user, item, time: the names of the columns; by default user_id, item_id, timestamp. Without a time
        column the file's order counts.
    k_core: users and items with fewer interactions are dropped, until none is left; 0 or 1 keeps all.

    Histories are sorted by time, ties in file order; users and items are numbered as they first appear.
    Raises InputError, one sentence that names the place and the remedy, for whatever cannot be read.
    """
    path = Path(path)
    if format not in FORMATS:
        raise InputError(f"there is no format {format!r}: choose one of {', '.join(FORMATS)}")
    form = _by_suffix(path) if format == "auto" else format
    named = [name for name in (user, item, time) if name is not None]
    if form in ("lines", "pairs", "sequences") and named:
        raise InputError(
            f"{path} has no header that could name a column {named[0]!r}: leave the column names out, "
            "or read it with the format csv if it has one"
        )
    data = read_text(path)
    if form == "inter":
        events = read_table(path, data, INTER, user=user, item=item, time=time)
    elif form == "csv":
        events = read_table(path, data, csv_dialect(path, data), user=user, item=item, time=time)
    else:
        events = read_lines(path, data, "auto" if form == "lines" else form)
    return to_dataset(events, name=_name(path), source=str(path), minimum=k_core)


def _by_suffix(path: Path) -> str:
    suffix = _without_gz(path).suffix.lower()
    if suffix not in _BY_SUFFIX:
        if not path.is_file():
            read_text(path)  # raises: that there is no file matters more than how its name ends
        raise InputError(
            f"the name {path.name} does not say what the file holds (.inter, .csv, .tsv and .txt do): "
            f"choose one of the formats {', '.join(FORMATS[1:])}"
        )
    return _BY_SUFFIX[suffix]


def _without_gz(path: Path) -> Path:
    return path.with_suffix("") if path.suffix.lower() == ".gz" else path


def _name(path: Path) -> str:
    return _without_gz(path).stem
