"""With the stubs of tools/stub_libraries.py, a library loads although libraries that it needs are missing."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from stub_libraries import write_stubs

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or not all(map(shutil.which, ("cc", "nm", "objdump"))),
    reason="needs a C compiler and binutils on Linux",
)


@pytest.fixture
def orphan(tmp_path: Path) -> Path:
    """A library that needs libc and two missing libraries: one with symbol versions and one without."""
    quiet = ("cc", "-shared", "-fPIC", "-w")
    for name, code, versions in (
        ("librecblrlost", "int lost_old(void) { return 1; } int lost_new(void) { return 2; }",
         "ONE { global: lost_old; }; TWO { global: lost_new; } ONE;"),
        ("librecblrgone", "int gone(void) { return 3; }", "{ global: *; };"),
    ):  # fmt: skip
        (tmp_path / f"{name}.c").write_text(code)
        (tmp_path / f"{name}.map").write_text(versions)
        script = f"-Wl,--version-script={tmp_path / name}.map,-soname,{name}.so.7"
        subprocess.run([*quiet, script, "-o", tmp_path / f"{name}.so", tmp_path / f"{name}.c"], check=True)
    folder = tmp_path / "lib"
    folder.mkdir()
    source = tmp_path / "orphan.c"
    source.write_text(
        "#include <stdlib.h>\nint lost_old(void), lost_new(void), gone(void);\n"
        "int sum(void) { return lost_old() + lost_new() + gone() + abs(-1); }\n"
    )
    links = (f"-L{tmp_path}", "-lrecblrlost", "-lrecblrgone", "-Wl,-z,now")
    subprocess.run([*quiet, "-o", folder / "orphan.so", source, *links], check=True)
    return folder / "orphan.so"


def test_stubs_replace_every_missing_library_and_symbol(orphan: Path, tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"librecblr\w+\.so\.7"):
        ctypes.CDLL(str(orphan))
    stubs = tmp_path / "stubs"
    assert write_stubs(orphan.parent, stubs) == ["librecblrgone.so.7", "librecblrlost.so.7"]
    load = f"import ctypes; print(ctypes.CDLL({str(orphan)!r}).sum())"
    environment = os.environ | {"LD_LIBRARY_PATH": str(stubs)}
    done = subprocess.run(
        [sys.executable, "-c", load], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("301\n", "")


def test_if_no_library_is_missing_no_stub_is_written(orphan: Path, tmp_path: Path) -> None:
    orphan.unlink()
    (tmp_path / "whole.c").write_text("int one(void) { return 1; }")
    whole = orphan.with_name("whole.so")
    subprocess.run(["cc", "-shared", "-fPIC", "-o", whole, tmp_path / "whole.c"], check=True)
    assert write_stubs(whole.parent, tmp_path / "stubs") == []
