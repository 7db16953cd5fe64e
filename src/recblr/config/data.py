"""Which data a run is made from, and how they are read."""

from dataclasses import dataclass
from functools import partial
from typing import Any

from recblr.config.option import from_values, option, values_of

_option = partial(option, "data")


@dataclass(frozen=True)
class DataConfig:
    """Options of reading; `recblr train --help` says what each means.

    What the data's fingerprint tells anyway need not be the same to resume.
    """

    paths: tuple[str, ...] = _option((), "The data files.", fixed=False)
    format: str = _option(
        "auto",
        "auto, inter, csv, movielens, parquet, pairs (user item) or sequences (user item item …).",
        fixed=False,
    )
    user_column: str | None = _option(None, "Column of user ids.", fixed=False)
    item_column: str | None = _option(None, "Column of item ids.", fixed=False)
    time_column: str | None = _option(None, "Column of times.", fixed=False)
    rating_column: str | None = _option(None, "Column of ratings.", fixed=False)
    min_rating: float | None = _option(None, "Drop interactions that are rated lower.", fixed=False)
    k_core: int = _option(5, "Drop users and items with fewer interactions, repeatedly.")

    @classmethod
    def from_options(cls, values: dict[str, Any]) -> "DataConfig":
        """Of {key: value}; what is missing has its default."""
        return from_values(cls, values)

    def as_options(self) -> dict[str, Any]:
        """Every option by its key: the inverse of :meth:`from_options`."""
        return values_of(self)
