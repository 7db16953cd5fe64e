"""A training command keeps the memory of one step for the next."""

import subprocess
import sys

import pytest

CODE = """
import ctypes, resource, sys
from recblr.system.memory import keep_freed_memory
if not hasattr(ctypes.CDLL(None), "gnu_get_libc_version"):
    sys.exit(77)
import torch
assert keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(3):
    x = [torch.ones(2**20) for _ in range(4)]; del x
before = faults()
for _ in range(20):
    x = [torch.ones(2**20) for _ in range(4)]; del x
print(faults() - before)
"""


def test_freed_memory_is_used_again_without_asking_the_system():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("the C library is not glibc")
    assert done.returncode == 0, done.stderr
    # Without it all pages are new in every round; with it a round or two may still be.
    assert int(done.stdout) < 0.25 * 20 * 4 * 2**22 / 4096
