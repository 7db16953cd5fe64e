"""The finished run and its data that the command's tests use, here too."""

from __future__ import annotations

from cli.conftest import _one_thread, data, finished, run

__all__ = ["_one_thread", "data", "finished", "run"]
