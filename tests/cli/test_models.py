"""`recblr train --model`: the commands work for a baseline as for RecBLR, and show its own name."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli.command import SMALL, items_in, recblr, succeeds

from recblr.evaluation import read_report

OPTIONS = ["--k-core", "0", "--epochs", "1", *SMALL]


@pytest.mark.parametrize(("model", "shown"), [("sasrec", "SASRec"), ("gru4rec", "GRU4Rec")])
def test_every_command_shows_a_baseline_under_its_own_name(
    model: str, shown: str, data: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    printed = succeeds("train", data, "--out", run, "--model", model, *OPTIONS)
    assert f'model = "{model}"' in (run / "config.toml").read_text()
    assert read_report(run / "report.json")["model"]["name"] == shown
    for out in (printed, succeeds("evaluate", run)):
        assert (
            sum(line.strip().startswith(shown) for line in out.splitlines()) == 3
        )  # unmasked, masked, lists
        assert "RecBLR" not in out
    assert len(items_in(succeeds("recommend", run, "--user", "u1", "-k", "3"))) == 3


def test_a_config_file_can_choose_the_model(finished: Path, tmp_path: Path) -> None:
    words = ("train", "--config", finished / "config.toml", "--epochs", "1")
    succeeds(*words, "--model", "sasrec", "--num-heads", "4", "--out", tmp_path / "one")
    assert "SASRec" in succeeds(
        "train", "--config", tmp_path / "one" / "config.toml", "--out", tmp_path / "two"
    )


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--model", "sasrc"], "--model must be one of recblr, sasrec, gru4rec, but is 'sasrc'"),
        (
            ["--model", "sasrec", "--lambda-init", "linspace"],
            "--lambda-init is not an option of --model sasrec",
        ),
        (["--num-heads", "4"], "--num-heads is not an option of --model recblr; leave it out"),
        (["--model", "sasrec", "--num-heads", "3"], "--num-heads must divide d_model (16), but is 3"),
    ],
)
def test_a_mistake_gives_one_sentence_and_no_run(
    words: list[str], says: str, data: Path, tmp_path: Path
) -> None:
    seen = recblr("train", data, "--out", tmp_path / "run", *OPTIONS, *words)
    assert (seen.code, seen.out, seen.err.count("\n")) == (2, "", 1)
    assert seen.err.startswith(f"recblr: {says}")
    assert not (tmp_path / "run").exists()


def test_a_run_of_another_model_is_not_resumed(run: Path, data: Path) -> None:
    seen = recblr("train", data, "--out", run, "--resume", "--model", "sasrec")
    assert seen.code == 2
    assert "was started with --model recblr, not sasrec; resume with the same options" in seen.err
