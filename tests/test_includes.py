"""Which C++ file may include which: read from the sources."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("cpp", "cuda", "tests/cpp", "tests/cuda_on_host", "benchmarks")
SUFFIXES = (".h", ".cpp", ".cu", ".cuh")
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


def sources(root: Path) -> list[Path]:
    """Every C++ and CUDA file."""
    return sorted(f for part in PARTS for f in (root / part).rglob("*") if f.suffix in SUFFIXES)


def roots(file: str) -> tuple[str, ...]:
    """The folders that a file may include from, beside its own and cpp/core."""
    if file.startswith(("cpp/core/", "cpp/engine/", "cpp/python/")):
        return ()
    return ("cuda", "tests/cpp", "tests/cuda_on_host") if file.startswith("tests/") else ("cuda",)


def wrong(root: Path) -> list[str]:
    """Every include that breaks a rule, in words."""
    said = []
    for path in sources(root):
        file = path.relative_to(root).as_posix()
        for name in INCLUDE.findall(path.read_text(encoding="utf-8")):
            if ".." in name:
                said.append(f"{file} includes {name}: includes start at cpp or cuda")
            elif file.startswith("cpp/core/") and not name.startswith("core/"):
                said.append(f"{file} includes {name}: cpp/core includes core/ only")
            elif name.startswith("core/"):
                if not (root / "cpp" / name).exists():
                    said.append(f"{file} includes {name}: there is no such file")
            elif name == "shim.h" and file == "cuda/device.cuh":
                continue  # in the tests on the host, where there is no CUDA
            elif not any((root / part / name).exists() for part in (path.parent, *roots(file))):
                said.append(f"{file} includes {name}: there is no such file where it may look")
    return said


def test_every_include_keeps_to_the_rules() -> None:
    assert len(sources(ROOT)) > 60
    assert wrong(ROOT) == []


BROKEN = {
    "a path upwards": ("cuda/a.cu", "../cpp/core/b.h", "includes start at cpp or cuda"),
    "core with torch": ("cpp/core/a.h", "views.h", "cpp/core includes core/ only"),
    "core without its folder": ("cpp/core/a.h", "b.h", "cpp/core includes core/ only"),
    "engine with torch": ("cpp/engine/a.h", "torch/views.h", "no such file where it may look"),
    "engine with a launcher": ("cpp/engine/a.h", "launch.h", "no such file where it may look"),
    "a file that is not there": ("cpp/torch/a.h", "core/c.h", "there is no such file"),
}


@pytest.mark.parametrize(("file", "name", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_seen(file: str, name: str, sentence: str, tmp_path: Path) -> None:
    for there in ("cpp/core/b.h", "cpp/torch/views.h", "cuda/launch.h", file):
        (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / there).write_text("#pragma once\n", encoding="utf-8")
    assert wrong(tmp_path) == []
    (tmp_path / file).write_text(f'#include "{name}"\n', encoding="utf-8")
    assert any(sentence in line for line in wrong(tmp_path)), wrong(tmp_path)
