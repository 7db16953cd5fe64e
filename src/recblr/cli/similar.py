"""`recblr similar`: print the items that the model finds most similar to one."""

from typing import Annotated

import typer

from recblr.cli.app import RunFolder, app, example, plain_console, printable
from recblr.cli.items import Titles, print_items, titles_for
from recblr.cli.signals import signals_end_process


@app.command(epilog=example("recblr similar run 1270", "recblr similar run 1270 -k 5 --titles movies.dat"))
def similar(
    folder: RunFolder,
    item: Annotated[str, typer.Argument(metavar="ITEM", help="Id of an item in the run's data.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Number of items.")] = 10,
    titles: Titles = None,
) -> None:
    """Print the items whose vectors have the largest cosine with that of an item.

    Items are similar if the model expects them after the same histories. The
    cosine lies from -1 to 1.
    """
    with signals_end_process():
        from recblr.run.folder import Run
        from recblr.serving.items import similar_items

    content, dataset = Run(folder).content_and_dataset()
    names = titles_for(titles, dataset)
    best = similar_items(content, dataset.item_index(item), k)
    console = plain_console()
    console.print(printable(f"most similar to {names.get(item, item)}"), style="italic", soft_wrap=True)
    print_items([(dataset.item_ids[number], cosine) for number, cosine in best], names, "cosine", console)
