"""Writes a dataset as an atomic file of RecBole, which recblr can read too."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl

from recblr.data.dataset import Dataset
from recblr.errors import InputError
from recblr.io.atomic import atomic_path

_HEADER = b"user_id:token\titem_id:token\ttimestamp:float\n"


def write_inter(dataset: Dataset, path: str | Path) -> None:
    """Write a dataset to a .inter or .inter.gz file, one user after another.

    A dataset without times gets row numbers as times, from 1 on. If items are numbered in the order of their
    first appearance, the file has the same fingerprint when it is read without a filter and its times get
    the same unit: the file has numbers, so give time_unit= if they do not show it. Raises InputError for
    another suffix, for an id with a tab, a line break or spaces around it, and for a folder that cannot be
    written to.
    """
    path = Path(path)
    if not path.name.endswith((".inter", ".inter.gz")):
        raise InputError(
            f"the name {path.name} is not one of an atomic file", "end it in .inter or .inter.gz"
        )
    for token in (*dataset.user_ids, *dataset.item_ids):
        if not token or token != token.strip() or any(mark in token for mark in "\t\r\n\0"):
            raise InputError(
                f"the id {token!r} of {dataset.name} cannot be written to a file separated by tabs",
                "give ids without tabs, line breaks, zero characters, or spaces around them",
            )
    histories = dataset.histories
    users = pl.Series(dataset.user_ids, dtype=pl.String)
    items = pl.Series(dataset.item_ids, dtype=pl.String)
    rows = pl.DataFrame(
        {
            "user": users.gather(histories.owners),
            "item": items.gather(histories.items),
            "time": np.arange(1, histories.items.size + 1) if dataset.times is None else dataset.times,
        }
    )
    body = rows.write_csv(include_header=False, separator="\t", quote_style="never").encode()
    with atomic_path(path) as draft:
        # Without a time stamp, so that equal data give equal bytes.
        draft.write_bytes(gzip.compress(_HEADER + body, mtime=0) if path.suffix == ".gz" else _HEADER + body)
