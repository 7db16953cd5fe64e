"""Whether CUDA kernels are built follows from RECBLR_CUDA and what is there, and what is missing is named."""

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
NVCC = """#!/bin/sh
echo "nvcc of a test" >&2
exit 1
"""


@pytest.fixture
def configure(tmp_path: Path):
    """Configures a project with kernels in cuda/, where there is an nvcc that cannot compile, or none."""

    def run(*options: str, kernels: bool = True, nvcc: bool = False) -> tuple[int, str]:
        (tmp_path / "CMakeLists.txt").write_text(PROJECT.format(module=MODULE))
        if kernels:
            (tmp_path / "cuda").mkdir(exist_ok=True)
            (tmp_path / "cuda" / "scan.cu").touch()
        tools = tmp_path / "tools"
        tools.mkdir()
        if nvcc:
            (tools / "nvcc").write_text(NVCC)
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


def test_without_nvcc_the_rest_is_built_and_it_says_so(configure) -> None:
    status, said = configure("-DRECBLR_CUDA=AUTO")
    assert status == 0, said
    assert "CUDA kernels: not built, as no nvcc was found that works with" in said
    assert "version [] for []" in said


def test_an_nvcc_that_does_not_work_is_none(configure) -> None:
    status, said = configure("-DRECBLR_CUDA=AUTO", nvcc=True)
    assert status == 0, said
    assert "CUDA kernels: not built" in said


def test_who_insists_is_told_what_is_missing_and_what_to_do(configure) -> None:
    status, said = configure("-DRECBLR_CUDA=ON")
    assert status == 1
    assert "RECBLR_CUDA=ON, but no nvcc was found" in said
    assert "set CUDACXX" in said
    assert "RECBLR_CUDA=OFF" in said


def test_off_looks_for_nothing(configure) -> None:
    status, said = configure("-DRECBLR_CUDA=OFF", nvcc=True)
    assert status == 0, said
    assert "CUDA compiler" not in said
    assert "version [] for []" in said


def test_another_word_is_refused(configure) -> None:
    status, said = configure("-DRECBLR_CUDA=yes")
    assert status == 1
    assert "RECBLR_CUDA is 'yes'; it must be AUTO, ON or OFF" in said


def test_sanitizers_build_no_cuda_kernels(configure) -> None:
    status, said = configure("-DRECBLR_CUDA=AUTO", "-DRECBLR_SANITIZE=address")
    assert status == 0, said
    assert "CUDA kernels: not built, as RECBLR_SANITIZE" in said
