"""`python -m recblr.cli` is `recblr`, as `python -m recblr` is."""

from recblr.cli import main

main()
