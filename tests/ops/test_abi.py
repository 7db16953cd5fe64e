"""The ABI between the operator libraries and torch.

The libraries' declarations agree with torch's headers.  The libraries use only torch's stable interface, and
export no symbols of their own.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.cpp_extension import include_paths

from recblr.ops.common import native

FOLDER = Path(__file__).parents[2] / "cpp" / "torch"
HEADERS = FOLDER / "torch_abi.h", FOLDER / "cuda_abi.h"
# A CPU build of torch also declares the functions that only a CUDA build defines.
TORCH_HEADERS = "#define USE_CUDA\n" + "".join(
    f"#include <torch/csrc/{header}.h>\n"
    for header in ("stable/c/shim", "inductor/aoti_torch/c/shim", "inductor/aoti_torch/generated/c_shim_cpu")
)
OURS = "".join(f'#include "{header}"\n' for header in HEADERS)
LIBRARIES = [
    pytest.param(
        name, marks=pytest.mark.skipif(not native._library(name).exists(), reason=f"{name} is not built")
    )
    for name in (native.CPU, native.CUDA)
]


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
    blocks = [header.read_text().split('extern "C" {')[1].split("\n}")[0] for header in HEADERS]
    return [name for block in blocks for name in re.findall(r"\b((?:aoti_)?torch_\w+)\(", block)]


def test_declarations_agree_with_torchs_headers(tmp_path: Path) -> None:
    assert len(_declared_functions()) > 15
    compiled, errors = _compiles(TORCH_HEADERS + OURS, tmp_path)
    assert compiled, errors


def test_torch_has_every_declared_function(tmp_path: Path) -> None:
    """Otherwise the test above would compare nothing."""
    ours = [name for name in _declared_functions() if "exception" not in name or _torch_keeps_messages()]
    uses = "".join(f"  (void)&{name};\n" for name in ours)
    compiled, errors = _compiles(f"{TORCH_HEADERS}void all() {{\n{uses}}}\n", tmp_path)
    assert compiled, errors


def _torch_keeps_messages() -> bool:
    major, minor = (int(part) for part in torch.__version__.split(".")[:2])
    return (major, minor) >= (2, 13)


def test_a_declaration_that_differs_is_an_error(tmp_path: Path) -> None:
    right = HEADERS[0].read_text()
    wrong = right.replace("aoti_torch_get_dim(AtenTensorHandle, std::int64_t*)",
                                       "aoti_torch_get_dim(AtenTensorHandle, std::int32_t*)")  # fmt: skip
    assert wrong != right
    compiled, errors = _compiles(TORCH_HEADERS + wrong, tmp_path)
    assert not compiled
    assert "aoti_torch_get_dim" in errors


def _readelf(library: str, *options: str) -> str:
    tool = shutil.which("readelf")
    if tool is None:
        pytest.skip("needs readelf")
    done = subprocess.run(
        [tool, "--wide", *options, str(native._library(library))], capture_output=True, text=True, check=True
    )
    return done.stdout


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_needs_torch_but_stores_no_path_to_it(library: str) -> None:
    dynamic = _readelf(library, "--dynamic")
    assert "[libtorch.so]" in dynamic
    assert not re.search(r"RPATH|RUNPATH", dynamic)
    needed = set(re.findall(r"\(NEEDED\).*\[(\w+)", dynamic))
    assert needed <= {"libtorch", "libstdc", "libgcc_s", "libm", "libc", "ld"}


def _symbols(library: str) -> list[tuple[str, str]]:
    """The (name, section) of every dynamic symbol.  Undefined symbols have the section UND."""
    rows = [line.split() for line in _readelf(library, "--dyn-syms").splitlines()]
    return [(row[7].partition("@")[0], row[6]) for row in rows if len(row) >= 8 and row[0].endswith(":")]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_exports_nothing_of_its_own(library: str) -> None:
    exported = [name for name, section in _symbols(library) if section not in ("UND", "Ndx")]
    assert not [name for name in exported if re.search("recblr|cuda", name)]


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_uses_only_the_stable_interface_of_torch(library: str) -> None:
    undefined = {name for name, section in _symbols(library) if section == "UND"}
    wanted = {name for name in undefined if re.search("torch|aten|c10", name, re.I)}
    assert wanted
    assert wanted <= set(_declared_functions())


WITHOUT_CUDA = """
import ctypes, sys, torch, recblr.ops, recblr.ops.common.registration
from recblr.ops.common import native
assert native.status["cpu"] == "native"
# A CPU build of torch lacks this one function.  The loader finds it here, and nothing calls it.
ctypes.CDLL(sys.argv[1], mode=ctypes.RTLD_GLOBAL)
torch.ops.load_library(str(native._library(native.CUDA)))
names = [schema.partition("(")[0] for schema in recblr.ops.common.registration.SCHEMAS]
print(*(n for n in names if torch._C._dispatch_has_kernel_for_dispatch_key(f"recblr::{n}", "CUDA")))
assert (recblr.ops.scan(torch.ones(2, 1), torch.ones(2, 1)).flatten() == torch.tensor([1.0, 2.0])).all()
"""

# The operators of the kernels in cuda/NAME.cu.
REGISTERED = {
    "scan": {"scan", "scan_with_final", "_scan_backward"},
    "bdlru": {"_bdlru", "_bdlru_backward"},
    "causal_conv1d": {"_causal_conv1d", "_causal_conv1d_backward"},
}


@pytest.mark.parametrize("library", LIBRARIES[1:])
def test_the_cuda_library_registers_every_kernel_without_a_gpu(library: str, tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler named cc")
    code, stub = tmp_path / "stub.c", tmp_path / "stub.so"
    code.write_text("int aoti_torch_get_current_cuda_stream(int device, void** stream) { return 1; }\n")
    subprocess.run([compiler, "-shared", "-fPIC", "-o", stub, code], check=True)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_CUDA, stub], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    built = [file.stem for file in (FOLDER.parents[1] / "cuda").glob("*.cu")]
    assert set(done.stdout.split()) == set().union(*(REGISTERED[name] for name in built))
