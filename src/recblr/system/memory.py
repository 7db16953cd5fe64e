"""The memory of the machine: its size, the error where it does not suffice, and keeping what was freed."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from recblr.errors import InputError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 2**25  # the most that glibc takes for it
_KEPT = 2**30


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
