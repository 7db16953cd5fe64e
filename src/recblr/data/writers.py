"""Datasets as RecBole atomic files, which this program and others read."""

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
    """Write a dataset to a .inter or .inter.gz file, user after user.

    The times of a dataset without any count the rows from 1. Reading it back without a filter gives the same
    fingerprint, as long as items are numbered as they first appear. Raises InputError for another suffix, an
    id with a tab, line break or outer space, or a folder that cannot be written to.
    """
    path = Path(path)
    if not path.name.endswith((".inter", ".inter.gz")):
        raise InputError(f"{path.name} is no name for an atomic file: end it in .inter or .inter.gz")
    for token in (*dataset.user_ids, *dataset.item_ids):
        if not token or token != token.strip() or any(mark in token for mark in "\t\r\n\0"):
            raise InputError(
                f"the id {token!r} of {dataset.name} would not survive in a table separated by tabs: "
                "rename it without tabs, line breaks and outer spaces"
            )
    histories = dataset.histories
    users = pl.Series(dataset.user_ids, dtype=pl.String)
    items = pl.Series(dataset.item_ids, dtype=pl.String)
    rows = pl.DataFrame(
        {
            "user": users.gather(np.repeat(np.arange(len(histories)), histories.lengths)),
            "item": items.gather(histories.items),
            "time": np.arange(1, histories.items.size + 1) if dataset.times is None else dataset.times,
        }
    )
    body = rows.write_csv(include_header=False, separator="\t", quote_style="never").encode()
    with atomic_path(path) as draft:
        # No time stamp inside: the same data are the same bytes.
        draft.write_bytes(gzip.compress(_HEADER + body, mtime=0) if path.suffix == ".gz" else _HEADER + body)
