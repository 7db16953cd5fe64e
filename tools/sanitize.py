"""Run the native code under Address-, UndefinedBehavior- and ThreadSanitizer; any report ends the run.

    python tools/sanitize.py

The program builds the C++ tests and a copy of the package into build/sanitize, with the tools of the
environment that runs it.  It first checks that the sanitizers find errors: it passes arrays that claim more
memory than they have.  Then it runs the C++ tests, the tests of the operators and the engine, and the attacks
of tests/hostile.  Last, it runs the fused kernels and the engine on threads under ThreadSanitizer, which must
first report a deliberate race.
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

# The tests that are left out check the shipped binary or imports, or compile C++ code themselves, or fork.
ENGINE = (f"tests/serving/test_engine_{part}.py" for part in ("answers", "keeping", "mistakes", "parity"))
TESTS = ("tests/ops", "tests/hostile", *ENGINE, "--ignore=tests/ops/test_abi.py",
         "--ignore=tests/ops/test_import.py", "-k", "not inductor")  # fmt: skip

# An error that a sanitizer must report -> code that causes it, and a part of the report.
DELIBERATE_ERRORS = {
    "the operators read beyond a tensor's memory": (
        "import torch, recblr; x = torch.ones(64, 64); x.untyped_storage().resize_(64); recblr.scan(x, x)",
        "AddressSanitizer: heap-buffer-overflow",
    ),
    "the NumPy function reads beyond an array's memory": (
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
    """Run a command; exit if it fails."""
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, check=False)
    if done.returncode:
        sys.exit(f"sanitize: {' '.join(map(str, command[:6]))} … failed")


def configure(build: Path, sanitizers: str) -> None:
    """Configure a build of the native code with these sanitizers."""
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
    """Build the native code, and install it into a copy of the package."""
    configure(BUILD, "address,undefined")
    run(TOOLS / "cmake", "--build", BUILD)
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.copytree(ROOT / "src", SITE, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    run(TOOLS / "cmake", "--install", BUILD, "--prefix", SITE)


def sanitizer_environment() -> dict[str, str]:
    """The environment variables with which Python loads the sanitized libraries."""

    def library(name: str) -> str:
        command = ["c++", f"-print-file-name={name}"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    return {
        # The sanitizer must be loaded before Python.  It needs libstdc++ to intercept C++ exceptions.
        "LD_PRELOAD": f"{library('libasan.so')} {library('libstdc++.so')}",
        # Python and torch do not free all memory at exit, so leaks are not reported.  They report themselves
        # when an allocation fails.
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "UBSAN_OPTIONS": "print_stacktrace=1",
        "PYTHONPATH": str(SITE),
        "RECBLR_REQUIRE_NATIVE": "1",
        "OMP_NUM_THREADS": "1",
    }


def check_sanitizers(environment: dict[str, str]) -> None:
    """Exit if a sanitizer does not report a deliberate error."""
    for what, (code, report) in DELIBERATE_ERRORS.items():
        done = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0 or report not in done.stderr:
            sys.exit(f"sanitize: no sanitizer reported that {what}:\n{done.stderr}")
        print(f"reported, as expected: {what}", flush=True)


def threads() -> None:
    """Run the kernels and the engine on threads under ThreadSanitizer."""
    directory = ROOT / "build" / "sanitize-thread"
    configure(directory, "thread")
    names = ("test_fused", "test_pool", "test_catalogue", "test_engine")
    run(TOOLS / "cmake", "--build", directory, "--target", *names)
    test, *others = (directory / "tests" / "cpp" / name for name in names)
    halt = {"TSAN_OPTIONS": "halt_on_error=1"}  # there are thousands of races, and each report takes a second
    raced = subprocess.run(
        [test], env=os.environ | halt | {"RECBLR_RACE": "1"}, capture_output=True, text=True, check=False
    )
    if "ThreadSanitizer: data race" not in raced.stderr:
        sys.exit(f"sanitize: ThreadSanitizer did not report the deliberate race:\n{raced.stderr}")
    print("reported, as expected: the deliberate race", flush=True)
    for program in (test, *others):
        run(program, **halt)


def main() -> None:
    build()
    environment = sanitizer_environment()
    check_sanitizers(environment)
    jobs = ("-j", str(os.cpu_count() or 1))
    run(TOOLS / "ctest", "--test-dir", BUILD, "--output-on-failure", *jobs, RECBLR_THOROUGH="1")
    # Otherwise pytest's capture and its fault handler would hide the reports of the sanitizers.
    options = ("--capture=sys", "-p", "no:faulthandler", "-p", "no:cacheprovider")
    run(sys.executable, "-m", "pytest", *options, *TESTS, **environment)
    threads()


if __name__ == "__main__":
    main()
