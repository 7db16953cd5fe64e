"""The benchmarks' modules, which are programs and no package, imported without a lasting place on the path.

Their names, such as data, would come before those of the tests' own folders.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(BENCHMARKS)
    encoder, figure, measuring = map(import_module, ("encoder", "figure", "measuring"))
