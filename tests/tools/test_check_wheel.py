"""tools/check_wheel.py passes a correct wheel, and names everything that is wrong in another."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import platform
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import check_wheel
import pytest

PROJECT = check_wheel.PROJECT
INFO = f"recblr-{PROJECT['version']}.dist-info"
MACHINE = platform.machine()
CORE = f"recblr/_core.cpython-311-{MACHINE}-linux-gnu.so"
OPERATORS = "recblr/librecblr_ops.so"

Compile = Callable[..., bytes]
Files = dict[str, bytes | str]

pytestmark = [
    pytest.mark.skipif(MACHINE not in ("x86_64", "aarch64"), reason="wheels are for x86_64 and aarch64"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler named cc"),
]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compiles C code to a shared library; with torch=True, the library needs libtorch.so."""

    def compiled(code: str, *options: str, torch: bool = False) -> bytes:
        folder = tmp_path_factory.mktemp("library")
        (folder / "code.c").write_text(code)
        (folder / "empty.c").write_text("")
        quiet = ["cc", "-shared", "-fPIC", "-w"]
        subprocess.run([*quiet, "-o", folder / "libtorch.so", folder / "empty.c"], check=True)
        libraries = ["-Wl,--no-as-needed", f"-L{folder}", "-ltorch"] if torch else []
        out = folder / "out.so"
        subprocess.run([*quiet, "-o", out, folder / "code.c", *options, *libraries], check=True)
        return out.read_bytes()

    return compiled


@pytest.fixture(scope="session")
def good(library: Compile) -> Files:
    """The files of a correct wheel."""
    dependencies = "".join(f"Requires-Dist: {line}\n" for line in PROJECT["dependencies"])
    return {
        "recblr/__init__.py": "",
        "recblr/py.typed": "",
        "recblr/_core.pyi": "",
        **dict.fromkeys(check_wheel.PAGE, ""),
        CORE: library("void *PyInit__core(void) { return 0; }"),
        OPERATORS: library("static int one = 1;", torch=True),
        f"{INFO}/METADATA": (
            f"Name: recblr\nVersion: {PROJECT['version']}\nRequires-Python: {PROJECT['requires-python']}\n"
            f"License-Expression: {PROJECT['license']}\nLicense-File: LICENSE\n{dependencies}"
            "Requires-Dist: matplotlib>=3.8; extra == 'plot'\n"
        ),
        f"{INFO}/WHEEL": f"Wheel-Version: 1.0\nTag: cp311-cp311-manylinux2014_{MACHINE}\n",
        f"{INFO}/entry_points.txt": "[console_scripts]\nrecblr = recblr.cli:main\n",
        f"{INFO}/licenses/LICENSE": "the licence",
    }


def _record(files: Files) -> str:
    text = io.StringIO()
    rows = csv.writer(text)
    for name, content in files.items():
        content = content.encode() if isinstance(content, str) else content
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.writerow([name, f"sha256={digest}", len(content)])
    rows.writerow([f"{INFO}/RECORD", "", ""])
    return text.getvalue()


def _wheel(folder: Path, files: Files, tag: str = "manylinux2014") -> Path:
    path = folder / f"recblr-{PROJECT['version']}-cp311-cp311-{tag}_{MACHINE}.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in ({f"{INFO}/RECORD": _record(files)} | files).items():
            archive.writestr(name, content)
    return path


def _wrong(path: Path) -> list[str]:
    return [finding.sentence for finding in check_wheel.findings(path) if not finding.good]


def test_a_correct_wheel_passes(good: Files, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = _wheel(tmp_path, good)
    assert _wrong(path) == []
    assert check_wheel.main([path]) == 0
    printed = capsys.readouterr().out
    assert f"{OPERATORS} needs libc.so.6, libtorch.so" in printed
    assert "WRONG" not in printed


def test_a_wheel_may_contain_cuda_kernels_and_may_then_be_larger(
    good: Files, library: Compile, tmp_path: Path
) -> None:
    kernels = {"recblr/librecblr_ops_cuda.so": library("static int one = 1;", torch=True)}
    assert _wrong(_wheel(tmp_path, good | kernels | {"recblr/data.py": _noise(9 << 20)})) == []
    (wrong,) = _wrong(_wheel(tmp_path, good | {"recblr/librecblr_ops_cuda.so": library("int one = 1;")}))[1:]
    assert wrong.startswith("recblr/librecblr_ops_cuda.so needs ")


def _without(files: Files, *words: str) -> Files:
    return {name: content for name, content in files.items() if not any(word in name for word in words)}


def _noise(size: int) -> bytes:
    return hashlib.shake_256(b"noise").digest(size)


METADATA = f"{INFO}/METADATA"
CHANGES: list[tuple[str, Callable[[Files], Files], str]] = [
    ("vendored torch", lambda f: f | {"recblr.libs/libtorch.so": b""}, r"native.*recblr\.libs/libtorch"),
    ("versioned torch", lambda f: f | {"recblr/libc10.so.1": b""}, "native libraries: .*libc10.so.1"),
    ("a second core", lambda f: f | {CORE.replace("311", "312"): f[CORE]}, "native libraries: "),
    ("no operators", lambda f: _without(f, OPERATORS), "native libraries: "),
    ("no py.typed", lambda f: _without(f, "py.typed"), "lacks recblr/py.typed"),
    ("no page", lambda f: _without(f, "app.js"), "lacks recblr/serving/http/page/app.js"),
    ("a page that is not ours", lambda f: f | {"recblr/x.html": ""}, "do not belong there: recblr/x.html"),
    ("tests", lambda f: f | {"tests/test_scan.py": ""}, "do not belong there: tests/test_scan.py"),
    ("sources", lambda f: f | {"recblr/cpp/scan.cpp": ""}, "do not belong there: recblr/cpp/scan.cpp"),
    ("a build folder", lambda f: f | {"build/CMakeCache.txt": ""}, "do not belong there: build/CMakeCache"),
    ("too large", lambda f: f | {"recblr/data.py": _noise(9 << 20)}, "at most 8.39 MB are allowed"),
    ("Python", lambda f: f | {METADATA: f[METADATA].replace(">=3.11", ">=3.9")}, "Python: >=3.9, not >=3.11"),
    ("a dependency", lambda f: f | {METADATA: f[METADATA].replace("rich", "poor")}, "depends on: .*'poor>="),
    ("the version", lambda f: f | {METADATA: f[METADATA].replace("Version: ", "Version: 9")}, "version: 9"),
    ("the licence", lambda f: f | {METADATA: f[METADATA].replace("Apache", "BSD")}, "licence: BSD"),
    ("no licence", lambda f: _without(f, "LICENSE"), "lacks the text of the licence, LICENSE"),
    ("no command", lambda f: f | {f"{INFO}/entry_points.txt": ""}, "does not install the command recblr"),
    ("a tag", lambda f: f | {f"{INFO}/WHEEL": "Tag: cp312-cp312-linux_x86_64\n"}, r"tags: \['cp312"),
    ("RECORD", lambda f: f | {f"{INFO}/RECORD": _record(f | {"recblr/lost": ""})}, "wrong about recblr/lost"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "sentence"), [row[1:] for row in CHANGES], ids=[row[0] for row in CHANGES]
)
def test_a_wrong_part_of_a_wheel_is_named(
    good: Files, tmp_path: Path, change: Callable[[Files], Files], sentence: str
) -> None:
    path = _wheel(tmp_path, change(good))
    wrong = "; ".join(_wrong(path))
    assert re.search(sentence, wrong), wrong
    assert check_wheel.main([path]) == 1


INIT = "void *PyInit__core(void) { return 0; }"
LIBRARIES = [
    ("an absolute run path", CORE, INIT, "-Wl,-rpath,/home/me", "has the run path /home/me"),
    ("an old run path", CORE, INIT, "-Wl,--disable-new-dtags,-rpath,$ORIGIN", r"the run path \$ORIGIN"),
    ("a visible symbol", OPERATORS, "int recblr_scan;", "", "exports recblr_scan"),
    ("a hidden module", CORE, "static int one;", "", "exports nothing"),
    ("an executable stack", CORE, INIT, "-Wl,-z,execstack", "needs an executable stack"),
    ("a newer glibc", CORE, f"{INIT} extern int getrandom(); static void *use = getrandom;", "-lc",
     "needs GLIBC_2.25, which manylinux2014_.* does not promise"),
    ("torch in the core", CORE, INIT, "torch", "needs .*libtorch.so"),
    ("operators without torch", OPERATORS, "static int one;", "", "needs "),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "code", "option", "sentence"), [row[1:] for row in LIBRARIES], ids=[row[0] for row in LIBRARIES]
)
def test_a_wrong_library_is_named(
    good: Files, library: Compile, tmp_path: Path, name: str, code: str, option: str, sentence: str
) -> None:
    needs_torch = option == "torch" or (name == OPERATORS and sentence != "needs ")
    options = [] if option in ("", "torch") else [option]
    (wrong,) = _wrong(_wheel(tmp_path, good | {name: library(code, *options, torch=needs_torch)}))
    assert re.search(sentence, wrong), wrong


def test_a_wheel_that_was_not_repaired_promises_nothing(good: Files, tmp_path: Path) -> None:
    wheel = f"Tag: cp311-cp311-linux_{MACHINE}\n"
    (wrong,) = _wrong(_wheel(tmp_path, good | {f"{INFO}/WHEEL": wheel}, tag="linux"))
    assert wrong == f"the platform tag linux_{MACHINE} promises nothing: run auditwheel repair"


@pytest.mark.parametrize("name", ["no-wheel.zip", "recblr-0.1.0-cp311-cp311-linux_x86_64.whl"])
def test_a_file_that_is_not_a_wheel_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for content in (None, b"PK nonsense"):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        assert check_wheel.main([tmp_path / name]) == 1
        assert "WRONG this file cannot be read as a wheel: " in capsys.readouterr().out
    assert check_wheel.main([]) == 2
