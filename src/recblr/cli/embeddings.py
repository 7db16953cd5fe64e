"""`recblr embeddings`: write the vectors of the items, for an index or an analysis of one's own."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from recblr.cli.app import RunFolder, app, example, plain_console
from recblr.cli.signals import signals_end_process

_ITEMS = 2**14  # at a time


@app.command(
    epilog=example("recblr embeddings run --out items.parquet", "recblr embeddings run --out items.csv")
)
def embeddings(
    folder: RunFolder,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="The file to write: .parquet, .csv or .jsonl, with one row for each item."
        ),
    ],
) -> None:
    """Write the id and the vector of every item into a file.

    The vector is a list of numbers; in a CSV file it is one column for each
    number. Retired items are left out.
    """
    with signals_end_process():
        import numpy as np
        import polars as pl

        from recblr.io.tables import check_suffix, write_table
        from recblr.run.folder import Run

    check_suffix(out)
    content, dataset = Run(folder).content_and_dataset()
    table = content.table
    kept = np.delete(np.arange(len(table)), list(content.retired))
    ids = pl.Series(dataset.item_ids, dtype=pl.String)
    width = table.shape[1]
    columns = {f"v{number}": pl.Float32 for number in range(width)}
    vector = {"vector": pl.Array(pl.Float32, width)}

    def frames() -> "Iterator[pl.DataFrame]":
        for start in range(0, len(kept), _ITEMS):
            part = kept[start : start + _ITEMS]
            rows = (
                pl.DataFrame(table[part], columns)
                if out.suffix == ".csv"
                else pl.DataFrame({"vector": table[part]}, vector)
            )
            yield rows.insert_column(0, ids.gather(part).alias("item"))

    write_table(out, {"item": pl.String, **(columns if out.suffix == ".csv" else vector)}, frames())
    retired = f", without {len(content.retired):,} retired" if content.retired else ""
    plain_console().print(f"{out}: {len(kept):,} items{retired}, {width} numbers each", soft_wrap=True)
