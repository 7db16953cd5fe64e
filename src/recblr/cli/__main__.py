"""`python -m recblr.cli` is `recblr`."""

from recblr.cli import main

main()
