"""`recblr doctor`: what is installed, and what runs."""

from recblr.cli.app import app, example, plain_console
from recblr.cli.starting import starting


@app.command(epilog=example("recblr doctor"))
def doctor() -> None:
    """Say what is installed, which instruction set runs, which operator libraries loaded, and why not."""
    with starting():
        from recblr.doctor import table

    plain_console().print(table())
