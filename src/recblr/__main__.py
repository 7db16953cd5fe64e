"""`python -m recblr` is `recblr`."""

from recblr.cli import main

main()
