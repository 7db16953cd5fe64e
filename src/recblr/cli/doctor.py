"""`recblr doctor`: the installed versions, and which kernels run."""

from rich.table import Table

from recblr.cli.app import app, example, plain_console
from recblr.cli.signals import signals_end_process


@app.command(epilog=example("recblr doctor"))
def doctor() -> None:
    """Show the installed versions, the instruction set, and which operators are native, or why not."""
    with signals_end_process():
        from recblr.system.build import findings

    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, finding in findings():
        table.add_row(name, finding)
    plain_console().print(table)
