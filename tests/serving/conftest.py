"""Every test here runs on one thread."""

from __future__ import annotations

from run.conftest import _one_thread

__all__ = ["_one_thread"]
