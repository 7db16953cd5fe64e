"""`recblr synth`: write the built-in dataset, and print the best possible scores on it."""

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from recblr.cli.app import app, example, plain_console
from recblr.errors import InputError, naming_flag


@app.command(epilog=example("recblr synth demo.inter", "recblr train demo.inter --out run"))
def synth(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write: .inter or .inter.gz.")],
    users: Annotated[int, typer.Option(help="Number of users.")] = 2000,
    seed: Annotated[int, typer.Option(help="Seed of the random numbers.")] = 0,
    titles: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Also write titles for recommend --titles; a title names the item before."
        ),
    ] = None,
) -> None:
    """Write the built-in dataset, and print the scores of the best possible predictor on it.

    Each user follows three series of items at once, and switches between them at random. Some noise
    items lie in between. So the last item alone shows only how one of the three series continues.
    """
    from recblr.data import SyntheticParameters, best_possible, generate, last_item_only, write_inter
    from recblr.data.synthetic import item_titles
    from recblr.io.atomic import atomic_path
    from recblr.io.titles import titles_as_text

    if titles is not None and os.path.realpath(titles) == os.path.realpath(out):
        raise InputError(f"{out} cannot hold both the data and the titles", "give --titles another file")
    try:
        parameters = SyntheticParameters(users=users, seed=seed)
    except InputError as error:
        raise naming_flag(error) from None
    dataset = generate(parameters)
    with ExitStack() as drafts:
        if titles is not None:  # if one of the two files cannot be written, the other is not left behind
            draft = drafts.enter_context(atomic_path(titles))
            draft.write_text(titles_as_text(item_titles(dataset, parameters)), encoding="utf-8")
        write_inter(dataset, out)
    console = plain_console()
    console.print(
        f"{out}: {dataset.num_users:,} users, {dataset.num_items:,} items, "
        f"{dataset.num_interactions:,} interactions",
    )
    columns = ("hr@1", "hr@5", "hr@10", "ndcg@10", "mrr@10")
    table = Table(title="best possible scores, on average", title_justify="left", box=None, pad_edge=False)
    table.add_column("")
    for column in columns:
        table.add_column(column.upper(), justify="right")
    rows: dict[str, dict[str, float]] = {
        "the best possible predictor": best_possible(dataset, parameters),
        "the best that sees only the last item": last_item_only(dataset, parameters),
    }
    for name, figures in rows.items():
        table.add_row(name, *(f"{figures[column]:.4f}" for column in columns))
    console.print(table)
