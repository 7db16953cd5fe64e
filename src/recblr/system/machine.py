"""The machine that this process runs on: its description, its memory, and how threads share its cores.

Importing this module must not import torch, because `share_cores` has to run first.
"""

import ctypes
import os
import platform
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from recblr import __version__
from recblr.errors import InputError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 2**25  # the largest M_MMAP_THRESHOLD that glibc accepts
_KEPT = 2**30

SPIN_COUNT = "4000"
"""How often a waiting thread of torch checks again before it sleeps.  The default of libgomp is 300,000.

Seconds of a small training on two cores, alone and with a second one beside it: 7.2 and 23 with the default,
8.2 and 18 with 4,000, 9.0 and 11 with 1,000.  Most trainings run alone.
"""

_SET_BY_USER = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def describe_machine() -> dict[str, object]:
    """Platform, processor, usable cores, torch's threads, accelerator, and versions, as plain JSON values.

    A report holds them, so that readers can judge its seconds.  Nothing in them identifies a person.  A value
    that cannot be found is None.  `cores` counts the cores that this process may use.
    """
    import torch

    return {
        "platform": f"{platform.system()} {platform.machine()}",
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "torch_threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "versions": {
            "python": platform.python_version(),
            "recblr": __version__,
            **{package: _version(package) for package in ("torch", "numpy")},
        },
    }


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str | None:
    """The name of the processor, or its architecture if the system does not know the name."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip().lower() == "model name" and value.strip():
            return value.strip()
    return platform.processor() or platform.machine() or None


def usable_cores() -> int:
    """The number of cores that this process may run on.  The machine can have more."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def keep_freed_memory() -> bool:
    """Let this process keep up to 1 GiB of freed memory.  Returns False if the C library cannot do this.

    By default, glibc returns freed blocks of more than 128 KiB to the system.  Each step of training frees
    all of its tensors.  The system would zero and map all pages again for the next step, which takes a tenth
    of its time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_M_TRIM_THRESHOLD, _KEPT))


def machine_memory() -> float:
    """Bytes of memory in the machine; infinity if the system does not report them."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


@contextmanager
def explain_out_of_memory(explanation: InputError) -> Iterator[None]:
    """If torch runs out of memory inside the `with` block, on any device, raise `explanation` instead."""
    try:
        yield
    except RuntimeError as error:
        # The first text is for a CPU and the second for a GPU.  Kernels raise a plain RuntimeError.
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise explanation from None


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Let waiting threads of torch sleep soon, unless the user has set in the environment how they wait.

    A waiting thread keeps its core busy.  Threads wait for each other thousands of times a second, and with
    the default count each wait blocks a core for milliseconds.  Two trainings on one machine would then
    hardly advance.  The OpenMP library reads the variable when torch is imported.
    """
    if "torch" not in sys.modules and not any(name in environment for name in _SET_BY_USER):
        environment["GOMP_SPINCOUNT"] = SPIN_COUNT
