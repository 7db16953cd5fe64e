"""Loads the native operator library, and says what serves each device and why."""

import os
import warnings
from pathlib import Path

import torch

from recblr.errors import InputError

# device -> "native", or "reference (why)"
status: dict[str, str] = {}

REQUIRE = "RECBLR_REQUIRE_NATIVE"


def _library() -> Path:
    # Beside the compiled module, not beside this file: an editable install keeps them apart.
    from recblr import _core

    return Path(_core.__file__).with_name("librecblr_ops.so")


def _load_cpu() -> str | None:
    """Load the CPU kernels; returns None, or why the reference serves instead."""
    try:
        path = _library()
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
    if not torch._C._dispatch_has_kernel_for_dispatch_key("recblr::scan", "CPU"):
        return f"{path.name} loaded but registered no kernel"
    return None


def load() -> None:
    """Load what there is.

    Raises RuntimeError where RECBLR_REQUIRE_NATIVE=1 and something is missing, InputError where
    RECBLR_ISA names what this machine cannot run.
    """
    problem = _load_cpu()
    status["cpu"] = "native" if problem is None else f"reference ({problem})"
    status["cuda"] = "reference (this build has no CUDA kernels)"
    if problem is None:
        return
    if os.environ.get(REQUIRE) == "1":
        raise RuntimeError(f"{REQUIRE}=1, but {problem}; reinstall recblr or unset {REQUIRE}")
    warnings.warn(
        f"recblr's native kernels are not available ({problem}); the slower PyTorch reference serves.",
        stacklevel=2,
    )
