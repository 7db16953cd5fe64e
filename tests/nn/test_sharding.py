"""Models that FSDP shards by layer train and serve as whole models do.  sharded.py runs on two processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

LIMIT = 120  # seconds


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of the two ranks found."""
    folder = tmp_path_factory.mktemp("ranks")
    program = str(Path(__file__).with_name("sharded.py"))
    ranks = [
        subprocess.Popen(
            [sys.executable, program, str(rank), str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for rank in range(2)
    ]
    try:
        ended = [rank.communicate(timeout=LIMIT) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    assert [rank.returncode for rank in ranks] == [0, 0], ended
    # Gloo of torch 2.10 prints lines of its own first.
    return [json.loads(printed.splitlines()[-1]) for printed, _ in ended]


@pytest.mark.parametrize("loop", ["a_loop_of_ones_own", "sasrec", "gru4rec", "the_step_of_recblr_train"])
def test_a_model_that_is_sharded_by_layer_trains_as_a_whole_one(loop: str, results: list[Any]) -> None:
    for result in results:
        whole, sharded = result[loop]["whole"], result[loop]["sharded"]
        assert sharded == pytest.approx(whole, abs=1e-5)
        assert len({round(loss, 4) for loss in whole}) > 1  # so a step that does nothing would be seen


def test_a_layer_is_whole_only_while_it_runs(results: list[Any]) -> None:
    """Under forward, with_state and step."""
    for result in results:
        assert result["weights_are_whole_only_while_a_layer_runs"] == {
            "before": [True] * 3,
            "in": [False] * 3,
            "other layer": [True] * 3,
            "after": [True] * 3,
        }


def test_states_steps_and_scores_of_a_sharded_model_are_those_of_a_whole_one(results: list[Any]) -> None:
    assert [result["inference"] for result in results] == [{"equal": True}] * 2
