"""Loads the native libraries of operators.  `status` says what each device uses, and why."""

import ctypes
import os
import warnings
from pathlib import Path

import torch

from recblr.errors import InputError
from recblr.ops.common.torch_internals import has_kernel

# For each device: "native", or "reference (the reason)".
status: dict[str, str] = {}

REQUIRE = "RECBLR_REQUIRE_NATIVE"
CPU, CUDA = "librecblr_ops.so", "librecblr_ops_cuda.so"

# For each major version of CUDA: the oldest NVIDIA driver that runs code compiled with it.
_DRIVERS = {12: "525", 13: "580"}


def _library(name: str = CPU) -> Path:
    # The library is beside the compiled module.  In an editable install, this file is in another folder.
    from recblr import _core

    return Path(_core.__file__).with_name(name)


def _load(name: str, key: str) -> str | None:
    """Load a library of kernels.  Return None, or the reason why the reference is used instead."""
    try:
        path = _library(name)
    except ImportError as error:
        if str(error).startswith("RECBLR_ISA"):  # the user asked for this set: no fallback
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
    """The newest version of CUDA that the machine's driver supports, or None without a driver.

    This function starts no CUDA context.  It calls a documented function of the driver.  torch also
    has a function for this, but it is private, and torch 2.11 removed it.
    """
    version = ctypes.c_int(0)
    try:
        failed = ctypes.CDLL("libcuda.so.1").cuDriverGetVersion(ctypes.byref(version))
    except (OSError, AttributeError):
        return None
    return None if failed or version.value <= 0 else (version.value // 1000, version.value % 1000 // 10)


def _load_cuda() -> tuple[str | None, bool]:
    """Load the CUDA kernels if there is a driver.

    Returns None or the reason as `_load` does, and whether the machine has a driver.
    """
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
        return "this build has no CUDA kernels; a build with RECBLR_CUDA=ON says what is missing", True
    major = int(built.partition(".")[0])
    if driver[0] < major:
        needed = f"an NVIDIA driver {_DRIVERS.get(major, 'of that version')} or later"
        supported = f"this machine's driver supports CUDA up to {driver[0]}.{driver[1]}"
        return f"the kernels are built with CUDA {built} and need {needed}; {supported}", True
    return _load(CUDA, "CUDA"), True


def load() -> None:
    """Load the libraries that are installed and that this machine can run.

    Raises RuntimeError if a library is missing and RECBLR_REQUIRE_NATIVE=1 requires it.  Raises InputError if
    RECBLR_ISA names an instruction set that this machine cannot run.
    """
    problem = _load(CPU, "CPU")
    cuda_problem, has_driver = _load_cuda()
    for device, why in (("cpu", problem), ("cuda", cuda_problem)):
        status[device] = "native" if why is None else f"reference ({why})"
    if problem is not None:
        _report_missing(problem, "native kernels", "is used")
    elif cuda_problem is not None and has_driver:
        _report_missing(cuda_problem, "CUDA kernels", "is used on GPUs")


def use_one_thread_after_fork() -> None:
    """Let torch use one thread in every process that is forked from this one.

    A forked process has none of its parent's threads.  OpenMP does not know that, and would wait for them for
    ever, in our kernels and in torch's own.  With one thread, it does not ask for them.
    """
    os.register_at_fork(after_in_child=lambda: torch.set_num_threads(1))


def _report_missing(problem: str, kernels: str, is_used: str) -> None:
    """Warn that the reference is used.  Raise RuntimeError if the native kernels are required."""
    if os.environ.get(REQUIRE) == "1":
        raise RuntimeError(f"{REQUIRE}=1, but {problem}; reinstall recblr or unset {REQUIRE}")
    warnings.warn(
        f"recblr's {kernels} are not available ({problem}); the slower PyTorch reference {is_used}.",
        stacklevel=3,
    )
