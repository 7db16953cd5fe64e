"""--device on the command line: refused before any work, kept with the run, changed when it goes on."""

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
def test_a_device_that_is_not_there_is_refused_before_any_work(
    run: Path, command: str, word: str, says: str
) -> None:
    # The data need not be there: nobody should wait for a large file to be read first.
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


def test_the_run_keeps_the_word_and_the_report_the_device(finished: Path) -> None:
    assert read_config(finished / "config.toml")["device"] == "cpu"
    report = read_report(finished / "report.json")
    assert report["training"]["device"] == report["machine"]["device"] == "cpu"


@pytest.mark.usefixtures("no_gpu")
def test_a_run_that_began_on_a_gpu_goes_on_without_one(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    succeeds("train", data, "--out", run, "--k-core", "0", "--epochs", "1", *SMALL)
    file = run / "config.toml"
    file.write_text(file.read_text().replace('device = "cpu"', 'device = "cuda"'))
    seen = recblr("train", "--out", run, "--resume")
    assert seen.code == 2
    assert "give --device cpu" in seen.err
    succeeds("train", "--out", run, "--resume", "--device", "cpu")
    assert read_config(file)["device"] == "cpu"
