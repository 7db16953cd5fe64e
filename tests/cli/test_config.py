"""`recblr train --config`: a file gives the options that are not typed; a run's own file repeats the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cli.command import SMALL, at, recblr, succeeds
from training.tiny_runs import assert_same_run, contents

from recblr.config import OPTIONS
from recblr.config.file import read_config
from recblr.training import Run

SMALL_TOML = """
[data]
k-core = 0
[model]
d-model = 16
num-layers = 1
[optimisation]
epochs = 2
batch-tokens = 256
learning-rate = 0.01
[run]
device = "cpu"
"""


def test_a_config_file_has_the_same_effect_as_flags(data: Path, finished: Path, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(SMALL_TOML)
    succeeds("train", data, "--config", tmp_path / "c.toml", "--out", tmp_path / "run")
    assert_same_run(tmp_path / "run", finished)
    assert (tmp_path / "run" / "config.toml").read_text() == (finished / "config.toml").read_text()


def test_a_runs_own_config_file_repeats_the_run(finished: Path, tmp_path: Path) -> None:
    succeeds("train", "--config", finished / "config.toml", "--out", tmp_path / "other")
    assert_same_run(tmp_path / "other", finished)
    assert (tmp_path / "other" / "config.toml").read_bytes() == (finished / "config.toml").read_bytes()


def test_a_flag_overrides_the_file(finished: Path, tmp_path: Path) -> None:
    words = [
        "--config",
        finished / "config.toml",
        "--out",
        tmp_path / "other",
        "--epochs",
        "1",
        "--seed",
        "4",
    ]
    succeeds("train", *words)
    config, before = Run(tmp_path / "other").config(), Run(finished).config()
    assert (config.epochs, config.seed) == (1, 4)
    assert config.model == before.model


def test_data_on_the_command_line_override_those_of_the_file(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    other = Path(shutil.copy(data, tmp_path / "other.inter"))
    out = succeeds("train", other, "--config", finished / "config.toml", "--out", tmp_path / "run")
    assert out.splitlines()[1].startswith("other: 60 users")
    assert read_config(tmp_path / "run" / "config.toml")["paths"] == (str(other),)


def test_every_option_is_saved_and_paths_are_absolute(data: Path, finished: Path, tmp_path: Path) -> None:
    written = read_config(finished / "config.toml")
    given = {key for key, option in OPTIONS.items() if option.default is not None}
    settled = {"batch-tokens", "dropout", "time"}  # their defaults depend on the data
    assert written.keys() == (given | settled) - {"num-heads"}  # an option of another model
    with at(data.parent):
        succeeds("train", data.name, "--out", tmp_path / "run", "--k-core", "0", "--epochs", "1", *SMALL)
    assert read_config(tmp_path / "run" / "config.toml")["paths"] == (str(data),)


@pytest.mark.parametrize("text", [SMALL_TOML.replace("epochs", "epoch"), "[model]\ndropout = 2"])
def test_a_mistake_in_the_file_gives_one_sentence_and_no_run(data: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    seen = recblr("train", data, "--config", tmp_path / "c.toml", "--out", tmp_path / "run")
    assert (seen.code, seen.out, seen.err.count("\n")) == (2, "", 1)
    assert seen.err.startswith(f"recblr: {tmp_path / 'c.toml'}: ")
    assert not (tmp_path / "run").exists()


def test_missing_data_are_reported(tmp_path: Path) -> None:
    seen = recblr("train", "--out", tmp_path / "run")
    assert seen.code == 2
    assert seen.err == (
        "recblr: there are no data to train on; give DATA, or paths under [data] in --config FILE\n"
    )


def test_a_run_resumes_without_its_options_or_data(data: Path, finished: Path, tmp_path: Path) -> None:
    own = Path(shutil.copy(data, tmp_path / "own.inter"))
    run = tmp_path / "run"
    succeeds("train", own, "--out", run, "--k-core", "0", "--epochs", "2", *SMALL)
    shutil.rmtree(run / "checkpoints")
    own.unlink()
    succeeds("train", "--out", run, "--resume")
    assert_same_run(run, finished)


def test_resuming_with_moved_data_saves_the_new_path(run: Path, data: Path, tmp_path: Path) -> None:
    moved = Path(shutil.copy(data, tmp_path / "moved.inter"))
    succeeds("train", moved, "--out", run, "--resume")
    assert Run(run).options()["paths"] == (str(moved),)
    before = contents(run)
    succeeds("train", "--out", run, "--resume")
    after = contents(run)
    assert {name for name in after if after[name] != before.get(name)} <= {"report.json"}


def test_resuming_with_another_runs_options_is_refused(run: Path, tmp_path: Path) -> None:
    text = (run / "config.toml").read_text().replace("epochs = 2", "epochs = 3")
    (tmp_path / "c.toml").write_text(text)
    seen = recblr("train", "--config", tmp_path / "c.toml", "--out", run, "--resume")
    assert seen.code == 2
    assert "was started with --epochs 2, not 3; resume with the same options" in seen.err
