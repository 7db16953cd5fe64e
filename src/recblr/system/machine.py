"""The machine that this process runs on: its description, its memory, and how threads share its cores.

Importing this module does not import torch.
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
_LARGEST_BLOCK = 2**25  # the most that glibc takes for it
_KEPT = 2**30

SPIN_COUNT = "1000"
"""How often a waiting thread of torch looks again before it sleeps; the OpenMP library's own is 300,000."""

_USERS_CHOICE = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")


def describe_machine() -> dict[str, object]:
    """Platform, processor, usable cores, torch's threads, accelerator, and versions; plain JSON values.

    What cannot be found out is None. `cores` are those that this process may use.
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
    """The processor's name; the architecture where the system does not tell the name."""
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
    """The number of cores this process may run on, which can be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def keep_freed_memory() -> bool:
    """Let this process keep up to a gibibyte that it has freed; False where the C library cannot.

    glibc gives blocks of more than 128 KiB back to the system when they are freed.  A step of training frees
    all of its tensors, so that the next one would have every page zeroed and mapped anew, for a tenth of its
    time.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_M_TRIM_THRESHOLD, _KEPT))


def machine_memory() -> float:
    """Bytes of memory in the machine; infinity where the system does not tell."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        return float("inf")


@contextmanager
def explain_out_of_memory(told: InputError) -> Iterator[None]:
    """Where torch cannot allocate what it is asked for within, on any device, raise `told` instead."""
    try:
        yield
    except RuntimeError as error:
        # A CPU's words, and a GPU's; kernels pass these on as text.
        if "allocate memory" not in str(error) and "out of memory" not in str(error):
            raise
        raise told from None


def share_cores(environment: MutableMapping[str, str]) -> None:
    """Let torch's threads sleep soon where they wait, unless the environment says already how they wait.

    With the library's own count they would take the cores from a second training for milliseconds at each of
    thousands of meetings a second, so that neither moves.  It reads the variable as torch is imported.
    """
    if "torch" not in sys.modules and not any(name in environment for name in _USERS_CHOICE):
        environment["GOMP_SPINCOUNT"] = SPIN_COUNT
