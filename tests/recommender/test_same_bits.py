"""`fit` on a frame makes the same bits as `recblr train` on its file."""

from __future__ import annotations

import gc
import json
import os
import signal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from cli.command import succeeds
from recommender.shop import NAMES, SMALL, columns
from training.tiny_runs import StopAfter, Stopped

from recblr import Dataset, InputError, Recommender
from recblr.recommender.answers import EngineAnswers
from recblr.training import Listener, Run

FLAGS = [word for key, value in SMALL.items() for word in (f"--{key.replace('_', '-')}", str(value))]
FRAMES = {
    "polars": lambda: pl.DataFrame(columns()),
    "a lazy frame": lambda: pl.LazyFrame(columns()),
    "pandas": lambda: pd.DataFrame(columns()),
    "dates": lambda: pl.DataFrame(columns()).with_columns(pl.from_epoch("ts")),
    "other columns": lambda: pd.DataFrame({"note": "x", **columns()}),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    pl.DataFrame(columns()).write_csv(folder / "log.csv")
    words = ["--user-column", "uid", "--item-column", "sku", "--time-column", "ts", "--valid-share", "0.5"]
    succeeds("train", folder / "log.csv", "--out", folder / "run", *words, *FLAGS)
    return folder


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES)
def test_a_frame_and_its_file_make_the_same_model(frame: Any, trained: Path, tmp_path: Path) -> None:
    Recommender().fit(frame(), **NAMES, **SMALL, valid=0.5, out=tmp_path / "run")
    ours, theirs = Run(tmp_path / "run"), Run(trained / "run")
    assert ours.model_file.read_bytes() == theirs.model_file.read_bytes()
    assert ours.config() == theirs.config()


def test_a_path_and_a_dataset_make_the_same_model_too(trained: Path, tmp_path: Path) -> None:
    file = trained / "log.csv"
    of_path = Recommender().fit(str(file), **NAMES, **SMALL, valid=0.5, out=tmp_path / "path")
    dataset = Dataset.from_frame(pl.read_csv(file), **NAMES)
    of_dataset = Recommender().fit(dataset, **SMALL, valid=0.5)
    right = Run(trained / "run").model_file.read_bytes()
    assert of_path.run.model_file.read_bytes() == right
    assert of_dataset.run.model_file.read_bytes() == right
    assert of_path.run.data() == Run(trained / "run").data()


def test_the_figures_are_those_of_the_command(trained: Path) -> None:
    from recblr.evaluation import read_report

    ours = Recommender.load(trained / "run").evaluate("valid")
    theirs = read_report(trained / "run" / "report.json")
    assert ours["ours"]["valid"] == theirs["ours"]["valid"]
    assert list(ours["ours"]) == ["valid"]
    assert Recommender.load(trained / "run").evaluate()["ours"]["test"] == theirs["ours"]["test"]
    written = read_report(trained / "run" / "report.json")
    assert (written["ours"], written["baselines"]) == (theirs["ours"], theirs["baselines"])


def test_a_stopped_training_goes_on(tmp_path: Path) -> None:
    frame, options = pl.DataFrame(columns()), {**NAMES, **SMALL, "epochs": 2}
    straight = Recommender().fit(frame, **options)
    with pytest.raises(Stopped):
        Recommender().fit(frame, **options, out=tmp_path / "run", listener=StopAfter(1))
    resumed = Recommender().fit(frame, **options, out=tmp_path / "run", resume=True)
    assert resumed.run.model_file.read_bytes() == straight.run.model_file.read_bytes()


class Interrupt(Listener):
    """Sends Ctrl-C in the middle of an epoch."""

    def __init__(self, epoch: int) -> None:
        self.epoch, self.now = epoch, 0

    def start_epoch(self, epoch: int, epochs: int, targets: int, users: int, done: int) -> None:
        self.now = epoch

    def validated(self, users: int) -> None:
        if self.now == self.epoch:
            signal.raise_signal(signal.SIGINT)


def test_after_ctrl_c_the_best_epoch_is_kept(tmp_path: Path) -> None:
    frame, options = pd.DataFrame(columns()), {**NAMES, **SMALL, "k_core": 0}
    said = "fit was interrupted in epoch 2, and the recommender has the best model so far, that of epoch 1"
    with pytest.warns(UserWarning, match=f"^{said}$"):
        stopped = Recommender().fit(frame, **{**options, "epochs": 2}, listener=Interrupt(2))
    first = Recommender().fit(frame, **{**options, "epochs": 2}, out=tmp_path / "one", listener=None)
    assert stopped.run.log_file.read_text().count("\n") == 1
    assert len(stopped.recommend([3], 2)) == 2
    with pytest.warns(UserWarning, match=f"^{said}; resume=True continues the training$"):
        Recommender().fit(frame, **{**options, "epochs": 2}, out=tmp_path / "two", listener=Interrupt(2))
    resumed = Recommender().fit(frame, **{**options, "epochs": 2}, out=tmp_path / "two", resume=True)
    assert resumed.run.model_file.read_bytes() == first.run.model_file.read_bytes()


def test_ctrl_c_after_the_training_keeps_the_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: EngineAnswers, people: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(EngineAnswers, "take_in", interrupted)
    with pytest.warns(UserWarning, match="^fit was interrupted after the training, and .* that of epoch 1$"):
        recommender = Recommender().fit(pd.DataFrame(columns()), **NAMES, **SMALL, k_core=0)
    assert len(recommender.recommend([3], 2)) == 2


def test_ctrl_c_in_the_first_epoch_leaves_what_was_there(own: Recommender, tmp_path: Path) -> None:
    before, frame = own.recommend(k=1), pd.DataFrame(columns())
    with pytest.raises(KeyboardInterrupt):
        own.fit(frame, **NAMES, **SMALL, k_core=0, listener=Interrupt(1), out=tmp_path / "run")
    assert before.equals(own.recommend(k=1))
    # What the ids were is known already, also to another process that looks into the folder.
    with pytest.raises(InputError, match="holds no trained model yet"):
        Recommender.load(tmp_path / "run")
    assert json.loads((tmp_path / "run" / "recommender.json").read_text())["frames"] == "pandas"


def test_a_training_that_was_stopped_keeps_the_types_of_ids(tmp_path: Path) -> None:
    with pytest.raises(Stopped):
        Recommender().fit(
            pd.DataFrame(columns()),
            **NAMES,
            **{**SMALL, "epochs": 2},
            out=tmp_path / "run",
            listener=StopAfter(1),
        )
    answer = Recommender.load(tmp_path / "run").recommend([3], 1)
    assert isinstance(answer, pd.DataFrame)
    assert answer["user"].tolist() == [3]


def test_the_temporary_run_goes_with_the_recommender() -> None:
    recommender = Recommender().fit(pl.DataFrame(columns()), **NAMES, **SMALL)
    folder = recommender.run.folder
    worker = os.fork()
    if worker == 0:
        recommender = None  # type: ignore[assignment]
        gc.collect()
        os._exit(0)
    os.waitpid(worker, 0)
    assert folder.exists()  # it belongs to this process
    del recommender
    gc.collect()
    assert not folder.exists()
