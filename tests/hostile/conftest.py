"""The fixtures of the command's tests: a finished run and its data."""

from __future__ import annotations

from cli.conftest import _one_thread, data, finished, run

__all__ = ["_one_thread", "data", "finished", "run"]
