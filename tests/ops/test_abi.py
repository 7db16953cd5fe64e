"""The operator library's ties to torch: its declarations are torch's, and it asks and offers no more."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import include_paths

from recblr.ops import native

HEADER = Path(__file__).parents[2] / "cpp" / "torch" / "torch_abi.h"
TORCH_HEADERS = "".join(
    f"#include <torch/csrc/{header}.h>\n"
    for header in ("stable/c/shim", "inductor/aoti_torch/c/shim", "inductor/aoti_torch/generated/c_shim_cpu")
)


def _compiles(code: str, directory: Path) -> tuple[bool, str]:
    compiler = shutil.which("c++")
    if compiler is None:
        pytest.skip("needs a C++ compiler named c++")
    if not any((Path(path) / "torch/csrc/stable/c/shim.h").exists() for path in include_paths()):
        pytest.skip("this torch comes without its headers")
    source = directory / "check.cpp"
    source.write_text(code)
    includes = [f"-I{path}" for path in include_paths()]
    done = subprocess.run(
        [compiler, "-std=c++17", "-fsyntax-only", "-w", *includes, str(source)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode == 0, done.stderr


def _declared_functions() -> list[str]:
    block = HEADER.read_text().split('extern "C" {')[1].split("\n}")[0]
    return re.findall(r"\b((?:aoti_)?torch_\w+)\(", block)


def test_declarations_agree_with_torchs_headers(tmp_path: Path) -> None:
    assert len(_declared_functions()) > 15
    compiled, errors = _compiles(TORCH_HEADERS + HEADER.read_text(), tmp_path)
    assert compiled, errors


def test_every_declared_function_is_torchs(tmp_path: Path) -> None:
    """Else the test above would compare nothing."""
    ours = [name for name in _declared_functions() if "exception" not in name or _torch_keeps_messages()]
    uses = "".join(f"  (void)&{name};\n" for name in ours)
    compiled, errors = _compiles(f"{TORCH_HEADERS}void all() {{\n{uses}}}\n", tmp_path)
    assert compiled, errors


def _torch_keeps_messages() -> bool:
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    return (major, minor) >= (2, 13)


def test_a_declaration_that_differs_is_an_error(tmp_path: Path) -> None:
    wrong = HEADER.read_text().replace("aoti_torch_get_dim(AtenTensorHandle, std::int64_t*)",
                                       "aoti_torch_get_dim(AtenTensorHandle, std::int32_t*)")  # fmt: skip
    assert wrong != HEADER.read_text()
    compiled, errors = _compiles(TORCH_HEADERS + wrong, tmp_path)
    assert not compiled
    assert "aoti_torch_get_dim" in errors


def _readelf(*options: str) -> str:
    tool = shutil.which("readelf")
    if tool is None:
        pytest.skip("needs readelf")
    done = subprocess.run(
        [tool, "--wide", *options, str(native._library())], capture_output=True, text=True, check=True
    )
    return done.stdout


def test_the_library_needs_torch_and_no_path_to_it() -> None:
    dynamic = _readelf("--dynamic")
    assert "[libtorch.so]" in dynamic
    assert not re.search(r"RPATH|RUNPATH", dynamic)
    needed = set(re.findall(r"\(NEEDED\).*\[(\w+)", dynamic))
    assert needed <= {"libtorch", "libstdc", "libgcc_s", "libm", "libc", "ld"}


def _symbols() -> list[tuple[str, str]]:
    """(name, section) of every dynamic symbol; undefined ones have section UND."""
    rows = [line.split() for line in _readelf("--dyn-syms").splitlines()]
    return [(row[7].partition("@")[0], row[6]) for row in rows if len(row) >= 8 and row[0].endswith(":")]


def test_the_library_exports_nothing_of_its_own() -> None:
    exported = [name for name, section in _symbols() if section not in ("UND", "Ndx")]
    assert not [name for name in exported if "recblr" in name]


def test_the_library_asks_torch_for_its_stable_interface_only() -> None:
    wanted = {
        name for name, section in _symbols() if section == "UND" and re.search("torch|aten|c10", name, re.I)
    }
    assert wanted
    assert wanted <= set(_declared_functions())
