"""tools/check_symbols.py refuses object files with weak symbols, and passes all others."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parents[2] / "tools" / "check_symbols.py"

COMPILER = shutil.which("c++")


@pytest.mark.skipif(not COMPILER or not shutil.which("nm"), reason="needs a C++ compiler and nm")
@pytest.mark.parametrize(
    ("code", "passes"),
    [
        ("namespace { inline int f(int x) { return x + 1; } } int g(int x) { return f(x); }", True),
        ("inline int f(int x) { return x + 1; } int (*g())(int) { return f; }", False),
        ("template <class T> struct S { static T t; };"
         "template <class T> T S<T>::t; int* g() { return &S<int>::t; }", False),
    ],
)  # fmt: skip
def test_a_symbol_that_two_instruction_sets_might_share_is_refused(
    code: str, passes: bool, tmp_path: Path
) -> None:
    (tmp_path / "kernels.cpp").write_text(code)
    subprocess.run([str(COMPILER), "-c", "kernels.cpp"], cwd=tmp_path, check=True)
    result = subprocess.run(
        [sys.executable, CHECK, tmp_path / "kernels.o"], capture_output=True, text=True, check=False
    )
    assert (result.returncode == 0) is passes
    assert passes or "weak symbol" in result.stdout
