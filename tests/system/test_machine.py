"""The machine: its description, the memory that a process keeps, and the cores that two trainings share."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import recblr
from recblr.system.machine import SPIN_COUNT, cpu_model, describe_machine, usable_cores


def test_the_description_is_plain_json_with_versions() -> None:
    machine = describe_machine()
    assert json.loads(json.dumps(machine)) == machine
    versions = machine["versions"]
    assert isinstance(versions, dict)
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == torch.__version__
    assert versions["recblr"] == recblr.__version__
    assert machine["torch_threads"] == torch.get_num_threads()


def test_it_holds_nothing_that_names_the_host() -> None:
    assert describe_machine().keys() == {
        "platform",
        "cpu",
        "cores",
        "torch_threads",
        "accelerator",
        "versions",
    }


def test_the_processor_is_read_from_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: Abacus 9000: Pro\nprocessor\t: 1\nmodel name\t: other\n"
    )
    assert cpu_model(cpuinfo) == "Abacus 9000: Pro"


def test_without_a_name_in_cpuinfo_the_architecture_is_given(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nCPU part\t: 0xd0c\n")
    expected = platform.processor() or platform.machine()
    assert cpu_model(tmp_path / "cpuinfo") == expected
    assert cpu_model(tmp_path / "missing") == expected


def test_only_usable_cores_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 6}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1


FREED_MEMORY = """
import ctypes, resource, sys
from recblr.system.machine import keep_freed_memory
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


def test_freed_memory_is_kept_for_the_next_step() -> None:
    done = subprocess.run([sys.executable, "-c", FREED_MEMORY], capture_output=True, text=True, check=False)
    if done.returncode == 77:
        pytest.skip("the C library is not glibc")
    assert done.returncode == 0, done.stderr
    # Without keep_freed_memory, every round needs new pages.  With it, only the first rounds may need them.
    assert int(done.stdout) < 0.25 * 20 * 4 * 2**22 / 4096


# Prints two variables of the environment when torch is imported, and then refuses the import.
PROGRAM = """
import os, sys
class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == "torch":
            print(os.environ.get("GOMP_SPINCOUNT"), os.environ.get("OMP_WAIT_POLICY"))
            raise ModuleNotFoundError("no torch", name="torch")
sys.meta_path.insert(0, Finder())
"""
COMMAND = "from recblr.cli import main; sys.argv = ['recblr', 'evaluate', 'run']; main()"


def seen_by_torch(code: str, **environment: str) -> str:
    plain = {
        name: value for name, value in os.environ.items() if name not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")
    }
    words = [sys.executable, "-c", PROGRAM + code]
    done = subprocess.run(words, env={**plain, **environment}, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[0]


def test_the_command_sets_the_spin_count_before_torch_is_imported() -> None:
    assert seen_by_torch(COMMAND) == f"{SPIN_COUNT} None"


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [("GOMP_SPINCOUNT", "7", "7 None"), ("OMP_WAIT_POLICY", "active", "None active")],
)
def test_a_setting_of_the_user_is_not_changed(name: str, value: str, seen: str) -> None:
    assert seen_by_torch(COMMAND, **{name: value}) == seen


def test_importing_the_library_does_not_change_the_environment() -> None:
    code = "import recblr, recblr.data, recblr.cli\ntry: import torch\nexcept ModuleNotFoundError: pass"
    assert seen_by_torch(code) == "None None"
