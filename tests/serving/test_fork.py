"""Workers that a server forks after it has loaded the model answer too."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli.command import ENVIRONMENT
from serving.test_scorer import NUM_ITEMS, model

from recblr.run import save_model

# A worker that waits for a thread for ever is ended by the alarm.
PROGRAM = """
import os, signal, sys
from pathlib import Path
import torch
torch.set_num_threads(int(sys.argv[1]))
import recblr
from recblr.run import load_model
from recblr.serving import recommend_ids

saved = load_model(Path("m.safetensors"))
def answer():
    torch.manual_seed(0)
    a, b = torch.rand(2, 32, 200, 256)  # enough work for all threads
    return recommend_ids(saved, ["item 3", "item 1"], 5), recblr.scan(a, b)

best, states = answer()
workers = []
for _ in range(3):
    worker = os.fork()
    if worker == 0:
        signal.alarm(60)
        ours = answer()
        good = ours[0] == best and torch.equal(ours[1], states) and torch.get_num_threads() == 1
        os._exit(0 if good else 3)
    workers.append(worker)
print([os.waitstatus_to_exitcode(os.waitpid(worker, 0)[1]) for worker in workers])
assert answer()[0] == best
assert torch.get_num_threads() == int(sys.argv[1])
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_forked_workers_answer_as_their_parent(threads: int, tmp_path: Path) -> None:
    save_model(model(), tmp_path / "m.safetensors", [f"item {number}" for number in range(NUM_ITEMS)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(threads)],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("[0, 0, 0]\n", "")
