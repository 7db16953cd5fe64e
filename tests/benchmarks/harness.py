"""Import modules of benchmarks/, which is a folder of programs and not a package.

The folder is on sys.path only during the import.  Otherwise its module names, such as `data`, would hide the
tests' own folders of the same name.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


def load(name: str) -> Any:
    """The module benchmarks/NAME.py."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        return import_module(name)


encoder, figure, measuring = map(load, ("encoder", "figure", "measuring"))
