"""The application with every command: importing a command's module registers it."""

from recblr.cli import doctor, download, evaluate, recommend, reproduce, synth, train  # noqa: F401
from recblr.cli.app import app

__all__ = ["app"]
