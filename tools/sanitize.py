"""Runs the native code under Address-, UndefinedBehavior- and ThreadSanitizer; any report ends the run.

    python tools/sanitize.py

Builds the C++ tests and a copy of the package into build/sanitize, with the tools of the environment that
runs this.  First proves that the sanitizers see what they must, by arrays that claim memory they do not have;
then runs the C++ tests, the operators' tests, and the attacks of tests/hostile.  At last the fused kernels
run on threads under ThreadSanitizer, which must first report a race that is made for it.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pybind11

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build" / "sanitize"
SITE = BUILD / "site"
TOOLS = Path(sys.executable).parent

# What is left out is about the shipped binary, about imports, or compiles C++ of its own.
TESTS = ("tests/ops", "tests/hostile", "--ignore=tests/ops/test_abi.py", "--ignore=tests/ops/test_import.py",
         "-k", "not inductor")  # fmt: skip

LIARS = {
    "the operators read beyond a tensor's memory": (
        "import torch, recblr; x = torch.ones(64, 64); x.untyped_storage().resize_(64); recblr.scan(x, x)",
        "AddressSanitizer: heap-buffer-overflow",
    ),
    "the NumPy door reads beyond an array's memory": (
        "import numpy as np; from recblr._core import scan; x = np.ones(64);"
        " x = np.lib.stride_tricks.as_strided(x, (64, 64), (512, 8)); scan(x, x)",
        "AddressSanitizer: heap-buffer-overflow",
    ),
    "the operators read a null pointer": (
        "import torch, recblr; x = torch.ones(64, 64); x.untyped_storage().resize_(0); recblr.scan(x, x)",
        "runtime error: load of null pointer",
    ),
}


def run(*command: str | Path, **variables: str) -> None:
    """Run a command; end here where it fails."""
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, check=False)
    if done.returncode:
        sys.exit(f"sanitize: {' '.join(map(str, command[:6]))} … failed")


def configure(build: Path, sanitizers: str) -> None:
    """Prepare a build of the native code under these sanitizers."""
    options = {
        "CMAKE_BUILD_TYPE": "Debug",  # no link-time optimization
        "CMAKE_MAKE_PROGRAM": TOOLS / "ninja",
        "Python_EXECUTABLE": sys.executable,
        "RECBLR_SANITIZE": sanitizers,
        "RECBLR_TESTS": "ON",
        "pybind11_DIR": pybind11.get_cmake_dir(),
    }
    defines = [f"-D{name}={value}" for name, value in options.items()]
    run(TOOLS / "cmake", "-S", ROOT, "-B", build, "-G", "Ninja", "--log-level=WARNING", *defines)


def build() -> None:
    """Build the native code, and lay the package beside it."""
    configure(BUILD, "address,undefined")
    run(TOOLS / "cmake", "--build", BUILD)
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.copytree(ROOT / "src", SITE, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    run(TOOLS / "cmake", "--install", BUILD, "--prefix", SITE)


def sanitized() -> dict[str, str]:
    """The variables under which Python loads the sanitized libraries."""

    def library(name: str) -> str:
        said = subprocess.run(["c++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
        return said.stdout.strip()

    return {
        # Before Python itself; libstdc++ too, for the exceptions that the sanitizer wants to see.
        "LD_PRELOAD": f"{library('libasan.so')} {library('libstdc++.so')}",
        # Python and torch keep to their end what they have; where memory is short, they say so themselves.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": str(SITE),
        "RECBLR_REQUIRE_NATIVE": "1",
        "OMP_NUM_THREADS": "1",
    }


def prove(environment: dict[str, str]) -> None:
    """End here where a sanitizer overlooks what it must see."""
    for what, (code, report) in LIARS.items():
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0 or report not in done.stderr:
            sys.exit(f"sanitize: {what}, and nothing was reported:\n{done.stderr}")
        print(f"reported, as it must be: {what}", flush=True)


def threads() -> None:
    """Run the kernels on threads under ThreadSanitizer."""
    directory = ROOT / "build" / "sanitize-thread"
    configure(directory, "thread")
    run(TOOLS / "cmake", "--build", directory, "--target", "test_fused")
    test = directory / "tests" / "cpp" / "test_fused"
    halt = {"TSAN_OPTIONS": "halt_on_error=1"}  # a report takes it a second, and races come by the thousand
    raced = subprocess.run(
        [test], env=os.environ | halt | {"RECBLR_RACE": "1"}, capture_output=True, text=True, check=False
    )
    if "ThreadSanitizer: data race" not in raced.stderr:
        sys.exit(f"sanitize: threads share their tasks, and nothing was reported:\n{raced.stderr}")
    print("reported, as it must be: threads share their tasks", flush=True)
    run(test, **halt)


def main() -> None:
    build()
    environment = sanitized()
    prove(environment)
    run(TOOLS / "ctest", "--test-dir", BUILD, "--output-on-failure", "-j", str(os.cpu_count() or 1))
    # Neither pytest's capture nor its fault handler may stand between a report and whoever reads it.
    options = ("--capture=sys", "-p", "no:faulthandler", "-p", "no:cacheprovider")
    run(sys.executable, "-m", "pytest", *options, *TESTS, **environment)
    threads()


if __name__ == "__main__":
    main()
