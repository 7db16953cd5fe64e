"""Keeps the memory of one training step for the next.

glibc gives blocks of more than 128 KiB back to the system when they are freed.  A step frees all of its
tensors, so that the next one would have every page zeroed and mapped anew, for a tenth of its time.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 2**25  # the most that glibc takes for it
_KEPT = 2**30


def keep_freed_memory() -> bool:
    """Let this process keep up to a gibibyte that it has freed; False where the C library cannot."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_BLOCK) and mallopt(_M_TRIM_THRESHOLD, _KEPT))
