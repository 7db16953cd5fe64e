"""Frames and ids of the caller: what kind they are, and answers of the same kind and type.

Inside, every id is a text, as in a dataset.  pandas is used only if the caller gives or wants its frames.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Container, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from recblr.data.events import as_seconds, likely_in_units
from recblr.data.read.columns import listed, usual_name
from recblr.data.read.times import as_times
from recblr.errors import InputError
from recblr.run.model_items import text_id

Kind = Literal["polars", "pandas"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_INTEGER = re.compile("0|-?[1-9][0-9]*")
_INTEGERS = tuple(f"{kind}{bits}" for kind in ("Int", "UInt") for bits in (8, 16, 32, 64, 128))


@dataclass(frozen=True)
class Ids:
    """The type that the ids of a column came in.

    column: its name; None if the data were no frame.
    polars: the name of the dtype in polars: String, or an integer type.
    pandas: the name of the dtype in pandas; None if the frame was none of pandas.
    """

    column: str | None = None
    polars: str = "String"
    pandas: str | None = None

    @classmethod
    def of(cls, frame: Any, role: str, name: str | None, values: pl.Series) -> Ids:
        """The type of the ids that were read from a column of a frame.

        name: that was given; None for the usual name.
        values: what was read, integers or texts.
        """
        names = names_of(frame)
        name = usual_name("the frame", names, role) if name is None else name
        pandas = None
        if kind_of(frame) == "pandas" and name in names:
            dtype = frame.iloc[:, names.index(name)].dtype
            # Of a category, the type of its values: new items are in no category.
            pandas = str(getattr(getattr(dtype, "categories", None), "dtype", dtype))
        found = str(values.dtype)
        return cls(name, found if found in _INTEGERS else "String", pandas)

    @classmethod
    def from_json(cls, values: Any) -> Ids:
        """The inverse of `as_json`.  Raises TypeError or ValueError for other values."""
        ids = cls(**values)
        texts = (ids.column, ids.pandas)
        if ids.polars not in ("String", *_INTEGERS) or not all(isinstance(t, str | None) for t in texts):
            raise ValueError
        return ids

    def as_json(self) -> dict[str, Any]:
        """Plain values for a file."""
        return asdict(self)

    def values(self, texts: Sequence[str]) -> list[Any]:
        """The ids in their own type, as Python objects.

        Raises InputError for an id that is no integer where those of the data are.
        """
        if self.polars == "String":
            return list(texts)
        other = next((text for text in texts if not _INTEGER.fullmatch(text)), None)
        if other is not None:
            raise InputError(
                f"the id {other[:60]!r} is no integer, and the ids of the data are",
                "give integers, or make the ids of the data texts before fit",
            )
        return [int(text) for text in texts]

    def column_of(self, texts: Sequence[str], kind: Kind) -> Any:
        """The ids in their own type, as a column of a frame."""
        if kind == "polars":
            if self.polars == "String":
                return pl.Series(texts, dtype=pl.String)
            values = self.values(texts)
            for dtype in (
                self.polars,
                "Int64",
                "UInt64",
                "Int128",
            ):  # a new id may be too large for the first
                with suppress(TypeError, OverflowError, AttributeError, pl.exceptions.PolarsError):
                    return pl.Series(values, dtype=getattr(pl, dtype))
            return pl.Series(texts, dtype=pl.String)
        series = _pandas().Series(self.values(texts), dtype=None if texts else object)
        if self.pandas is not None:
            # The dtype may need a package that is not here.
            with suppress(TypeError, ImportError, ValueError, OverflowError):
                cast = series.astype(self.pandas)
                if cast.tolist() == series.tolist():  # pandas wraps integers that are too large for the type
                    return cast
        return series


def kind_of(given: Any) -> Kind | None:
    """Of which kind a frame or a column is; None if it is neither."""
    if isinstance(given, pl.DataFrame | pl.LazyFrame | pl.Series):
        return "polars"
    return "pandas" if hasattr(given, "iloc") else None


def is_frame(given: Any) -> bool:
    """Whether it is a data frame, with columns."""
    lazy = isinstance(given, pl.LazyFrame)  # to ask for its columns may take long
    return lazy or (kind_of(given) is not None and hasattr(given, "columns"))


def collected(given: Any) -> Any:
    """The same, but a lazy frame as a frame: two runs of its query may give the rows in another order."""
    return given.collect() if isinstance(given, pl.LazyFrame) else given


def names_of(frame: Any) -> list[str]:
    """The names of the columns of a frame."""
    if isinstance(frame, pl.LazyFrame):
        return frame.collect_schema().names()
    return [str(name) for name in frame.columns]


def frame_of(columns: Mapping[str, Any], kind: Kind) -> Any:
    """A frame of columns of the same length."""
    return pl.DataFrame(dict(columns)) if kind == "polars" else _pandas().DataFrame(dict(columns))


def check_kind(kind: Any) -> None:
    """Raise InputError if there is no such kind of frames."""
    if kind is not None and kind not in KINDS:
        raise InputError(f"frames is {kind!r}", f"give one of {', '.join(KINDS)}")


def _pandas() -> Any:
    try:
        return importlib.import_module("pandas")
    except ImportError:
        raise InputError(
            "the answers are to be frames of pandas, which is not installed",
            'install it with pip install pandas, or choose Recommender(frames="polars")',
        ) from None


def id_of(value: Any, what: str, known: Container[str] = ()) -> str:
    """An id as text.  Spaces around it go, as they do in data that are read, unless it is known with them."""
    text = value if type(value) is str else text_id(value, what)
    return text if text in known else text.strip()


def ids_in(given: Any, role: str, column: str | None, what: str, known: Container[str] = ()) -> list[str]:
    """The ids in a list, an array, a column or a frame, as texts.

    role: "user" or "item".
    column: the name of the column in frames like that of `fit`; None if there was none.
    what: what the ids are, for errors.
    known: as in `id_of`.

    Raises InputError for one value in place of a list, and for an id that is neither text nor whole number.
    """
    if is_frame(given):
        given = _column(given, role, column, what)
    if isinstance(given, pl.Series) or kind_of(given) == "pandas":
        given = given.to_list()
    elif isinstance(given, np.ndarray):
        given = given.tolist()
    if isinstance(given, str | bytes | Mapping) or not isinstance(given, Iterable):
        raise InputError(f"{what} must be a list of ids, but are {_short(given)}", "put the ids into a list")
    return [id_of(value, what, known) for value in given]


def users_in(frame: Any, column: str | None) -> list[str]:
    """The ids of users in a frame of events, as texts.  Rows may lack one.  A struct is not read."""
    names = names_of(frame)
    column = column or usual_name("the frame", names, "user")
    if column not in names:
        return []
    values = frame[column]
    values = values.dropna() if kind_of(frame) == "pandas" else values.drop_nulls()
    return [name for name in ids_in(values, "user", column, "the users") if name]


def _column(frame: Any, role: str, column: str | None, what: str) -> Any:
    source, names = f"the frame of {what}", names_of(frame)
    known = next((name for name in (column, role) if name in names), None)
    name = usual_name(source, names, role) if known is None else known
    if names.count(name) > 1:
        raise InputError(
            f"{source} has {names.count(name)} columns called {name!r}", "rename all but one of them"
        )
    if name in names:
        if kind_of(frame) == "pandas":
            return frame.iloc[:, names.index(name)]
        return frame.lazy().select(name).collect()[name]
    refuse_index(frame, source, column or name)
    raise InputError(
        f"{source} has no column {column or role!r}: it has {listed(names) or 'none at all'}",
        f"rename the column of {role}s, or give the column itself",
    )


def refuse_index(frame: Any, source: str, name: str) -> None:
    """Raise InputError if a name is that of the index of a pandas frame, which is no column."""
    if kind_of(frame) == "pandas" and name in frame.index.names:
        raise InputError(f"{source} has {name!r} in its index, not in a column", "give frame.reset_index()")


def is_one(times: Any) -> bool:
    """Whether it is one time, and no list of times."""
    return isinstance(times, str | bytes) or not hasattr(times, "__len__") or getattr(times, "ndim", 1) == 0


def seconds_of(times: Any, count: int, what: str) -> npt.NDArray[np.float64]:
    """Times as seconds since 1970 in UTC, ``(count,)`` float64.

    times: one time for all, or one for each; numbers of seconds, dates, datetimes, or texts of dates.

    Raises InputError for other values, for numbers that seem to be milliseconds or finer, and for another
    count.
    """
    one = is_one(times)
    remedy = "give seconds since 1970, or dates such as 2026-11-01T12:00"
    values = [times] if one else times
    if isinstance(values, Mapping | Set):
        raise InputError(
            f"{what} have the type {type(times).__name__}", "give a list, in the order of the others"
        )
    try:
        if kind_of(values) == "pandas":
            values = _naive(values)
        elif isinstance(values, pl.Series) and values.dtype == pl.Object:
            values = values.to_list()
        if isinstance(values, np.ndarray) or not isinstance(values, pl.Series):
            values = pl.Series(_plain(values), strict=True)
        if values.dtype == pl.Boolean:
            raise TypeError
        if values.null_count():
            raise InputError(f"{what} lack a value", remedy)
        numbers, wrong, unit = as_times(values)
    except (TypeError, ValueError, OverflowError, AttributeError, pl.exceptions.PolarsError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{what} hold values that are no times", remedy) from None
    if wrong is not None:
        raise InputError(f"{what} hold {_short(values[wrong])}, which is no time", remedy)
    if len(numbers) != count and not one:
        raise InputError(
            f"{what} must be {count}, but are {len(numbers)}",
            "give one for each, or one in place of the list",
        )
    if unit is None and len(numbers):
        finer = next((u for u, fits in likely_in_units(numbers).items() if u != "s" and fits.all()), None)
        if finer is not None:
            raise InputError(f"{what} must be in seconds, but seem to be in {finer}", "convert them")
    seconds = as_seconds(numbers, unit or "s")
    return np.full(count, seconds[0]) if one else seconds


def _naive(column: Any) -> Any:
    """The values of a pandas column as an array.  Times of a zone become those of UTC."""
    if getattr(column.dtype, "tz", None) is not None:
        column = column.dt.tz_convert(None)
    return column.to_numpy()


def _plain(values: Any) -> Any:
    """Values that polars takes: no times of pandas, and datetimes in a resolution that it has."""
    if isinstance(values, np.ndarray) and values.dtype != object:
        kind = values.dtype
        coarse = kind.kind == "M" and np.datetime_data(kind)[0] not in ("ms", "us", "ns")
        return values.astype("datetime64[us]") if coarse else values
    if len(values) and all(isinstance(value, np.datetime64) for value in values):
        return _plain(np.array(list(values)))
    objects = [value.item() if isinstance(value, np.generic) else value for value in values]
    if any(isinstance(value, float) for value in objects):  # polars takes no list of both kinds of numbers
        objects = [float(value) if type(value) is int else value for value in objects]
    if objects and all(hasattr(value, "asm8") for value in objects):
        aware = [value.tz_convert(None) if value.tzinfo is not None else value for value in objects]
        return np.array([value.asm8 for value in aware])
    return objects


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
