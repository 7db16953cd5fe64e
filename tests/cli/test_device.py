"""--device on the command line: refused before any work, saved with the run, and changed on --resume."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from cli.command import SMALL, recblr, succeeds
from training.tiny_runs import contents

from recblr.config.file import read_config
from recblr.evaluation import read_report


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize("command", ["train", "evaluate", "recommend"])
@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("cuda", "recblr: --device cuda needs a GPU, and torch "),
        ("gpu", "recblr: --device must be auto, cpu, cuda or cuda:N, but is 'gpu'"),
    ],
)
def test_a_missing_device_is_refused_before_any_work(run: Path, command: str, word: str, says: str) -> None:
    # The data file does not exist: the option is checked before a large file is read.
    words = {
        "train": ["none.inter", "--out", run.parent / "new"],
        "evaluate": [run],
        "recommend": [run, "--user", "u1"],
    }
    before = contents(run.parent)
    seen = recblr(command, *words[command], "--device", word)
    assert (seen.code, seen.out) == (2, "")
    assert seen.err.startswith(says)
    assert seen.err.count("\n") == 1
    assert contents(run.parent) == before


def test_the_run_saves_the_option_and_the_report_names_the_device(finished: Path) -> None:
    assert read_config(finished / "config.toml")["device"] == "cpu"
    report = read_report(finished / "report.json")
    assert report["training"]["device"] == report["machine"]["device"] == "cpu"


@pytest.mark.usefixtures("no_gpu")
def test_a_run_that_was_started_on_a_gpu_continues_on_a_cpu(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    succeeds("train", data, "--out", run, "--k-core", "0", "--epochs", "1", *SMALL)
    file = run / "config.toml"
    file.write_text(file.read_text().replace('device = "cpu"', 'device = "cuda"'))
    seen = recblr("train", "--out", run, "--resume")
    assert seen.code == 2
    assert "give --device cpu" in seen.err
    succeeds("train", "--out", run, "--resume", "--device", "cpu")
    assert read_config(file)["device"] == "cpu"
