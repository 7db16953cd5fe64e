"""The examples of docs/stepping.md."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.command import ENVIRONMENT, SMALL, at, items_in, succeeds
from docs.shell import type_in
from training.tiny_runs import one_thread, tiny_dataset

import recblr
from recblr.data import write_inter


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the run that the examples use; they run in this folder."""
    folder = tmp_path_factory.mktemp("serving")
    write_inter(tiny_dataset(), folder / "shop.inter")
    with at(folder), one_thread():
        succeeds("train", "shop.inter", "--out", "run", "--epochs", "1", *SMALL)
        yield folder


def test_a_server_that_forks(shop: Path) -> None:
    app = """
    # [fork]
    from pathlib import Path

    import torch

    torch.set_num_threads(1)  # in the parent, before any work of torch

    from recblr.run import load_model
    from recblr.serving import recommend_ids

    saved = load_model(Path("run/model.safetensors"))  # before the fork: all workers share it

    def answer(history):
        return recommend_ids(saved, history, 5)
    # [/fork]
    """
    server = """
    import os, signal
    expected = answer(["s01e12", "s02e01"])
    for _ in range(3):
        worker = os.fork()
        if worker == 0:
            signal.alarm(60)
            os._exit(answer(["s01e12", "s02e01"]) != expected)
        assert os.waitpid(worker, 0)[1] == 0
    print("served")
    """
    program = textwrap.dedent(app) + textwrap.dedent(server)
    environment = {name: value for name, value in ENVIRONMENT.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=shop, env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("served\n", "")


def test_the_file_alone(shop: Path) -> None:
    # [alone]
    from pathlib import Path

    from recblr.run import load_model
    from recblr.serving import recommend_ids

    saved = load_model(Path("run/model.safetensors"))  # model, item_ids, fingerprint, epoch, metrics, version
    best = recommend_ids(saved, ["s01e12", "s02e01"], 5)  # (id, score), best first
    # [/alone]
    assert items_in(succeeds("recommend", "run", "--history", "s01e12,s02e01", "-k", "5")) == [
        token for token, _ in best
    ]


def test_a_state_a_user(shop: Path) -> None:
    # [step]
    from pathlib import Path

    import torch

    from recblr.training import Run

    run = Run(Path("run"))
    dataset, model = run.dataset(), run.model()  # ids, and the best model, in evaluation mode

    @torch.no_grad()
    def after(item, state):
        """The hidden vector and the state after one more event."""
        return model.step(torch.tensor([item]), state)

    state = None  # a user without events …
    seen = torch.zeros(1, model.num_items, dtype=torch.bool)  # … who has nothing yet
    for item in map(dataset.item_index, ("s01e12", "s02e01", "s01e13")):
        hidden, state = after(item, state)
        seen[0, item] = True

    with torch.no_grad():
        best = torch.topk(model.scores(hidden, seen)[0], 10)
    recommended = [dataset.item_ids[index] for index in best.indices]
    # [/step]
    history = torch.tensor([[dataset.item_index(item) for item in ("s01e12", "s02e01", "s01e13")]])
    torch.testing.assert_close(model(history)[:, -1], hidden, rtol=1e-5, atol=1e-5)
    assert len(recommended) == 10


def test_from_a_whole_history(shop: Path) -> None:
    run = recblr.training.Run(Path("run"))
    model, histories = run.model(), run.dataset().histories
    # [whole]
    items, offsets = torch.from_numpy(histories.items), torch.from_numpy(histories.offsets)
    with torch.no_grad():
        hidden, state = model.with_state(items, offsets=offsets)  # every user's state in one pass
    hidden = hidden[offsets[1:] - 1]  # after each history's last event
    # [/whole]
    user, stepped = histories.history(5), None
    for item in user:
        last, stepped = model.step(torch.tensor([item]), stepped)
    torch.testing.assert_close(hidden[5:6], last, rtol=1e-5, atol=1e-5)
    for layer, whole in zip(stepped, state, strict=True):
        torch.testing.assert_close(whole.hidden[5:6], layer.hidden, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(whole.conv[5:6], layer.conv, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(whole.average[5:6], layer.average, rtol=1e-5, atol=1e-5)


def test_the_size_of_a_state() -> None:
    # [size]
    model = recblr.RecBLR(num_items=1000).eval()  # the defaults: width 64, 2 layers
    _, state = model.step(torch.tensor([7]))
    size = sum(part.nbytes for layer in state for part in layer)
    # Bytes a user: 2 layers x ((3 inputs + 1 state) x 128 channels + an average of 64) x 4 bytes
    assert size == 4608
    # [/size]
    _, later = model.with_state(torch.randint(1000, (1, 5000)))
    assert sum(part.nbytes for layer in later for part in layer) == size


def test_a_model_that_knows_time() -> None:
    timed = recblr.RecBLR(1000, recblr.nn.RecBLRConfig(time="request")).eval()
    # [timed]
    now = torch.tensor([1_800_000_000.0], dtype=torch.float64)
    with torch.no_grad():
        _, state = timed.step(torch.tensor([7]), time=now, request_time=now)
        _, state = timed.step(torch.tensor([3]), state, time=now + 40, request_time=now + 40)
        soon = timed.hidden_at(state, now + 45)  # five seconds after the last event
        later = timed.hidden_at(state, now + 86_400)  # the next day, from the same state
    # [/timed]
    assert not torch.equal(soon, later)
    assert state.time.nbytes + sum(part.nbytes for part in state.pending) == 20


def test_asking_at_a_time(tmp_path: Path) -> None:
    dataset = tiny_dataset()
    write_inter(
        replace(dataset, times=1_600_000_000 + 60 * np.arange(dataset.num_interactions)), tmp_path / "v.inter"
    )
    with at(tmp_path), one_thread():
        succeeds("train", "v.inter", "--out", "visits", "--epochs", "1", *SMALL)
    lines = """
    # [at]
    recblr recommend visits --user u7 --at 2026-11-01T12:00
    # [/at]
    """
    type_in(tmp_path, lines)


def test_states_of_many_users() -> None:
    model = recblr.RecBLR(num_items=1000).eval()
    # [many]
    from recblr.nn import LayerState

    _, empty = model.with_state(torch.empty(1, 0, dtype=torch.int64))  # of a user without events

    def together(states):
        """The states of several users as one."""
        return tuple(
            LayerState(*map(torch.cat, zip(*layer, strict=True))) for layer in zip(*states, strict=True)
        )

    def apart(state, user):
        """One user's of several."""
        return tuple(LayerState(*(part[user : user + 1].clone() for part in layer)) for layer in state)

    states = {"ada": empty, "bob": empty}
    events = {"ada": 17, "bob": 4}  # what has just happened, one event a user
    with torch.no_grad():
        state = together([states[user] for user in events])
        hidden, state = model.step(torch.tensor([*events.values()]), state)
        scores = model.scores(hidden)  # (2, 1000)
    states |= {user: apart(state, index) for index, user in enumerate(events)}
    # [/many]
    assert scores.shape == (2, 1000)
    for user, item in events.items():
        _, alone = model.step(torch.tensor([item]))
        for layer, expected in zip(states[user], alone, strict=True):
            torch.testing.assert_close(layer.hidden, expected.hidden)
            torch.testing.assert_close(layer.conv, expected.conv)


NUMPY_ONLY = """
import sys
sys.modules["torch"] = None  # as where it is not installed
# [numpy]
import numpy as np

from recblr._core import scan_with_final

rng = np.random.default_rng(0)
a, b = rng.random((2, 4, 100, 64), dtype=np.float32)  # (batch, time, channels)
h, state = scan_with_final(a, b)

a, b = rng.random((2, 4, 1, 64), dtype=np.float32)  # one more event of each
h, state = scan_with_final(a, b, initial=state)
# [/numpy]
assert h.shape == (4, 1, 64) and (h[:, 0] == state).all()
"""


def test_numpy_without_torch() -> None:
    subprocess.run([sys.executable, "-c", NUMPY_ONLY], check=True, env=ENVIRONMENT)
