"""Two trainings on one machine share its cores: waiting threads soon sleep, unless the user decides."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from recblr.system.threads import SPIN_COUNT

# As the command comes to torch, what it finds in the environment; the import is then refused.
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


def test_the_command_sets_it_before_torch_is_imported() -> None:
    assert seen_by_torch(COMMAND) == f"{SPIN_COUNT} None"


@pytest.mark.parametrize(
    ("name", "value", "seen"),
    [("GOMP_SPINCOUNT", "7", "7 None"), ("OMP_WAIT_POLICY", "active", "None active")],
)
def test_what_the_user_has_set_stays(name: str, value: str, seen: str) -> None:
    assert seen_by_torch(COMMAND, **{name: value}) == seen


def test_the_library_changes_no_environment() -> None:
    code = "import recblr, recblr.data, recblr.cli\ntry: import torch\nexcept ModuleNotFoundError: pass"
    assert seen_by_torch(code) == "None None"
