"""Which C++ file may include which: read from the sources."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("cpp", "cuda", "tests/cpp", "tests/cuda_on_host", "benchmarks")
SUFFIXES = (".h", ".cpp", ".cu", ".cuh")
GUARD = "#pragma once"
WITH_ENGINE = ("cpp/engine/", "cpp/python/", "tests/cpp/", "benchmarks/")
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)
NAMESPACE = re.compile(r"^namespace\b.*\{", re.MULTILINE)


def sources(root: Path) -> list[Path]:
    """Every C++ and CUDA file."""
    return sorted(f for part in PARTS for f in (root / part).rglob("*") if f.suffix in SUFFIXES)


def roots(file: str) -> tuple[str, ...]:
    """The folders that a file may include from, beside its own, cpp/core and cpp/engine."""
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
            elif file.startswith("cpp/engine/") and not name.startswith(("core/", "engine/")):
                said.append(f"{file} includes {name}: cpp/engine includes core/ and engine/ only")
            elif name.startswith("engine/") and not file.startswith(WITH_ENGINE):
                said.append(f"{file} includes {name}: only {', '.join(WITH_ENGINE)} include engine/")
            elif name.startswith(("core/", "engine/")):
                if not (root / "cpp" / name).exists():
                    said.append(f"{file} includes {name}: there is no such file")
            elif name == "shim.h" and file == "cuda/device.cuh":
                continue  # in the tests on the host, where there is no CUDA
            elif not any((root / part / name).exists() for part in (path.parent, *roots(file))):
                said.append(f"{file} includes {name}: there is no such file where it may look")
    return said


def in_namespaces(root: Path) -> list[str]:
    """Every breach of the rule on *-inl.h: included inside a namespace, never alone; no other file is."""
    said = []
    for path in sources(root):
        file, text = path.relative_to(root).as_posix(), path.read_text(encoding="utf-8")
        inline = file.endswith("-inl.h")
        if inline and not (GUARD not in text and "never alone" in "".join(text.splitlines()[:2])):
            said.append(f"{file}: a *-inl.h begins by saying that it is never alone, and has no guard")
        if path.suffix in (".h", ".cuh") and not inline and GUARD not in text:
            said.append(f"{file}: a header has {GUARD}")
        begins = NAMESPACE.search(text)
        for found in INCLUDE.finditer(text):
            inside = inline or (begins is not None and begins.start() < found.start())
            if inside != found[1].endswith("-inl.h"):
                said.append(
                    f"{file} includes {found[1]}: *-inl.h, and nothing else, is included in a namespace"
                )
    return said


def test_every_include_keeps_to_the_rules() -> None:
    assert len(sources(ROOT)) > 60
    assert wrong(ROOT) == []


def test_files_for_namespaces_are_named_so() -> None:
    assert in_namespaces(ROOT) == []


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("cuda/a.cu", '#include "core/b-inl.h"\nnamespace recblr {', "is included in a namespace"),
        ("cuda/a.cu", 'namespace recblr {\n#include "core/b.h"', "is included in a namespace"),
        ("cpp/core/a-inl.h", '// Never told.\n#include "core/b-inl.h"', "never alone"),
        ("cpp/core/a-inl.h", "// Included, never alone.\n#pragma once", "has no guard"),
        ("cpp/core/a.h", "// Included anywhere.", "a header has"),
    ],
)
def test_a_breach_of_the_rule_on_namespaces_is_seen(
    file: str, text: str, sentence: str, tmp_path: Path
) -> None:
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(text, encoding="utf-8")
    assert any(sentence in line for line in in_namespaces(tmp_path)), in_namespaces(tmp_path)


BROKEN = {
    "a path upwards": ("cuda/a.cu", "../cpp/core/b.h", "includes start at cpp or cuda"),
    "core with torch": ("cpp/core/a.h", "views.h", "cpp/core includes core/ only"),
    "core without its folder": ("cpp/core/a.h", "b.h", "cpp/core includes core/ only"),
    "engine with torch": ("cpp/engine/a.h", "torch/views.h", "cpp/engine includes core/ and engine/ only"),
    "engine with a launcher": ("cpp/engine/a.h", "launch.h", "cpp/engine includes core/ and engine/ only"),
    "engine without its folder": ("cpp/engine/a.h", "b.h", "cpp/engine includes core/ and engine/ only"),
    "core with the engine": ("cpp/core/a.h", "engine/b.h", "cpp/core includes core/ only"),
    "torch with the engine": ("cpp/torch/a.h", "engine/b.h", "include engine/"),
    "a file of the engine that is not there": ("cpp/engine/a.h", "engine/c.h", "there is no such file"),
    "a file that is not there": ("cpp/torch/a.h", "core/c.h", "there is no such file"),
}


@pytest.mark.parametrize(("file", "name", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_seen(file: str, name: str, sentence: str, tmp_path: Path) -> None:
    for there in ("cpp/core/b.h", "cpp/engine/b.h", "cpp/torch/views.h", "cuda/launch.h", file):
        (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / there).write_text("#pragma once\n", encoding="utf-8")
    assert wrong(tmp_path) == []
    (tmp_path / file).write_text(f'#include "{name}"\n', encoding="utf-8")
    assert any(sentence in line for line in wrong(tmp_path)), wrong(tmp_path)


def test_a_build_for_one_machine_asks_for_the_kernels_of_one_instruction_set_only() -> None:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("there is no C++ compiler here")

    def namespaces(*options: str) -> set[str]:
        command = [compiler, "-std=c++17", "-E", f"-I{ROOT / 'cpp'}", *options, ROOT / "cpp/core/scan.h"]
        code = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        return set(re.findall(r"\b(?:baseline|x86_64_v[34])(?=::compute)", code))

    assert namespaces("-DRECBLR_ONE_ISA") == {"baseline"}
    if platform.machine() == "x86_64":
        assert namespaces() == {"baseline", "x86_64_v3", "x86_64_v4"}
