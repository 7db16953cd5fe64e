"""Finding the runs that a program compares."""

from recblr.training import Run


def runs_in(folder):
    """The run in a folder of `recblr train`, or the runs of all seeds in one of `recblr reproduce`."""
    runs = [Run(folder)] if Run(folder).exists() else [*map(Run, sorted(folder.glob("seed-*")))]
    if not runs:
        raise SystemExit(f"{folder} holds no run: give the folder of recblr train or recblr reproduce")
    return runs
