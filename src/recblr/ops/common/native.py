"""Loads the native operator libraries, and says what serves each device and why."""

import ctypes
import os
import warnings
from pathlib import Path

import torch

from recblr.errors import InputError
from recblr.ops.common.torch_internals import has_kernel

# device -> "native", or "reference (why)"
status: dict[str, str] = {}

REQUIRE = "RECBLR_REQUIRE_NATIVE"
CPU, CUDA = "librecblr_ops.so", "librecblr_ops_cuda.so"

# The oldest NVIDIA driver that runs what a major version of CUDA has compiled.
_DRIVERS = {12: "525", 13: "580"}


def _library(name: str = CPU) -> Path:
    # Beside the compiled module, not beside this file: an editable install keeps them apart.
    from recblr import _core

    return Path(_core.__file__).with_name(name)


def _load(name: str, key: str) -> str | None:
    """Load a library of kernels; returns None, or why the reference serves instead."""
    try:
        path = _library(name)
    except ImportError as error:
        if str(error).startswith("RECBLR_ISA"):  # asked for: no reason to fall back in silence
            raise InputError(str(error)) from None
        return f"recblr._core cannot be imported: {error}"
    if not path.exists():
        return f"{path.name} is not installed beside {path.parent.name}._core"
    try:
        torch.ops.load_library(str(path))
    except OSError as error:
        return f"{path.name} cannot be loaded by torch {torch.__version__}: {error}"
    if not has_kernel("recblr::scan", key):
        return f"{path.name} loaded but registered no kernel"
    return None


def _driver() -> tuple[int, int] | None:
    """The newest CUDA that the machine's driver serves; None without a driver.  Starts no CUDA context.

    Asks the driver itself, by its documented function: torch's own is private, and gone from torch 2.11.
    """
    version = ctypes.c_int(0)
    try:
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return None if failed or version.value <= 0 else (version.value // 1000, version.value % 1000 // 10)


def _load_cuda() -> tuple[str | None, bool]:
    """Load the CUDA kernels where there is a driver; returns what `_load` does, and whether there is one."""
    if torch.version.cuda is None:
        return f"torch {torch.__version__} is built without CUDA", False
    driver = _driver()
    if driver is None:
        return "no NVIDIA driver is found", False
    try:
        from recblr._core import build_info
    except ImportError as error:
        return f"recblr._core cannot be imported: {error}", True
    built = build_info()["cuda"]
    if not built:
        return "this build has no CUDA kernels; building with RECBLR_CUDA=ON tells what they lack", True
    major = int(built.partition(".")[0])
    if driver[0] < major:
        needed = f"an NVIDIA driver {_DRIVERS.get(major, 'of that version')} or later"
        serves = f"this machine's serves CUDA up to {driver[0]}.{driver[1]}"
        return f"the kernels are of CUDA {built} and need {needed}; {serves}", True
    return _load(CUDA, "CUDA"), True


def load() -> None:
    """Load the libraries that are installed and fit this machine.

    Raises RuntimeError where RECBLR_REQUIRE_NATIVE=1 and something is missing, InputError where
    RECBLR_ISA names what this machine cannot run.
    """
    problem = _load(CPU, "CPU")
    cuda_problem, has_driver = _load_cuda()
    for device, why in (("cpu", problem), ("cuda", cuda_problem)):
        status[device] = "native" if why is None else f"reference ({why})"
    if problem is not None:
        _miss(problem, "native kernels", "serves")
    elif cuda_problem is not None and has_driver:
        _miss(cuda_problem, "CUDA kernels", "serves on GPUs")


def _miss(problem: str, what: str, serves: str) -> None:
    if os.environ.get(REQUIRE) == "1":
        raise RuntimeError(f"{REQUIRE}=1, but {problem}; reinstall recblr or unset {REQUIRE}")
    warnings.warn(
        f"recblr's {what} are not available ({problem}); the slower PyTorch reference {serves}.",
        stacklevel=3,
    )
