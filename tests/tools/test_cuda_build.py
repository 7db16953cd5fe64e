"""cmake/cuda.cmake: which CUDA kernels are built, and what the messages say when something is missing."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = Path(__file__).parents[2] / "cmake" / "cuda.cmake"
CMAKE = shutil.which("cmake", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))

pytestmark = pytest.mark.skipif(
    CMAKE is None or not sys.platform.startswith("linux"), reason="needs cmake, on Linux"
)

PROJECT = """
cmake_minimum_required(VERSION 3.25)
project(trial LANGUAGES CXX)
include({module})
message(STATUS "version [${{RECBLR_CUDA_VERSION}}] for [${{RECBLR_CUDA_BUILT_FOR}}]")
"""
BROKEN_NVCC = """#!/bin/sh
echo "fake nvcc" >&2
exit 1
"""


@pytest.fixture
def configure(tmp_path: Path):
    """Runs cmake on a project with kernels in cuda/.  There is no nvcc, or one that cannot compile."""

    def run(*options: str, kernels: bool = True, nvcc: bool = False) -> tuple[int, str]:
        (tmp_path / "CMakeLists.txt").write_text(PROJECT.format(module=MODULE))
        if kernels:
            (tmp_path / "cuda").mkdir(exist_ok=True)
            (tmp_path / "cuda" / "scan.cu").touch()
        tools = tmp_path / "tools"
        tools.mkdir()
        if nvcc:
            (tools / "nvcc").write_text(BROKEN_NVCC)
            (tools / "nvcc").chmod(0o755)
        for name in ("c++", "g++", "ld", "as", "ar", "ranlib", "make", "ninja", "nm", "uname"):
            if (found := shutil.which(name)) is not None:
                (tools / name).symlink_to(found)
        environment = {"PATH": str(tools), "HOME": str(tmp_path)}
        if nvcc:
            environment["CUDACXX"] = str(tools / "nvcc")
        done = subprocess.run(
            [str(CMAKE), "-S", tmp_path, "-B", tmp_path / "build", *options],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.returncode, " ".join((done.stdout + done.stderr).split())

    return run


def test_without_nvcc_everything_but_the_cuda_kernels_is_built_and_cmake_says_so(configure) -> None:
    status, output = configure("-DRECBLR_CUDA=AUTO")
    assert status == 0, output
    assert "CUDA kernels: not built, because no nvcc was found that works with" in output
    assert "version [] for []" in output


def test_an_nvcc_that_does_not_work_counts_as_missing(configure) -> None:
    status, output = configure("-DRECBLR_CUDA=AUTO", nvcc=True)
    assert status == 0, output
    assert "CUDA kernels: not built" in output


def test_with_cuda_on_the_error_names_what_is_missing_and_the_remedy(configure) -> None:
    status, output = configure("-DRECBLR_CUDA=ON")
    assert status == 1
    assert "RECBLR_CUDA=ON, but no nvcc was found" in output
    assert "set CUDACXX" in output
    assert "RECBLR_CUDA=OFF" in output


def test_with_cuda_off_cmake_looks_for_no_compiler(configure) -> None:
    status, output = configure("-DRECBLR_CUDA=OFF", nvcc=True)
    assert status == 0, output
    assert "CUDA compiler" not in output
    assert "version [] for []" in output


def test_an_unknown_value_is_refused(configure) -> None:
    status, output = configure("-DRECBLR_CUDA=yes")
    assert status == 1
    assert "RECBLR_CUDA is 'yes'; it must be AUTO, ON or OFF" in output


def test_with_sanitizers_no_cuda_kernels_are_built(configure) -> None:
    status, output = configure("-DRECBLR_CUDA=AUTO", "-DRECBLR_SANITIZE=address")
    assert status == 0, output
    assert "CUDA kernels: not built, because RECBLR_SANITIZE" in output
