"""`recblr reproduce`: seeds continue after any interruption, and the report says how they were trained."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cli.command import ENVIRONMENT, SMALL, Seen, at, recblr, succeeds
from data.publisher import publish
from training.tiny_runs import assert_same_run, contents, tiny_dataset

import recblr.training.evaluate as evaluation
from recblr.data import download, write_inter
from recblr.evaluation import read_report, write_report
from recblr.experiments import RECIPES
from recblr.training import Run, curves
from recblr.training.learner import Learner

OPTIONS = ["--k-core", "0", "--epochs", "2", *SMALL]
COMMAND = ["reproduce", "ml-1m", "--data", "shop.inter", "--seeds", "2", *OPTIONS]


@pytest.fixture(autouse=True)
def paper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the recipes expect the counts of the tiny dataset."""
    tiny = tiny_dataset()
    counts = {"users": 60, "items": tiny.num_items, "interactions": tiny.num_interactions}
    for name in RECIPES:
        monkeypatch.setitem(RECIPES, name, replace(RECIPES[name], **counts))  # type: ignore[arg-type]


@pytest.fixture
def shop(data: Path, tmp_path: Path) -> Iterator[Path]:
    """A folder with the data, and the current folder of the command."""
    shutil.copy(data, tmp_path / "shop.inter")
    with at(tmp_path):
        yield tmp_path


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeds 0 and 1, each a run of `recblr train`."""
    folder = tmp_path_factory.mktemp("straight")
    write_inter(tiny_dataset(), folder / "shop.inter")
    for seed in ("0", "1"):
        out = folder / f"seed-{seed}"
        succeeds("train", folder / "shop.inter", "--out", out, "--seed", seed, *OPTIONS)
    return folder


@contextmanager
def signal_at_step(number: int, *signals: int) -> Iterator[list[int]]:
    """Send this process the signals in step `number` of the optimizer.  Yields [count of steps]."""
    steps, step = [0], Learner.step

    def spy(self: Learner, *arguments: Any) -> float:
        steps[0] += 1
        if steps[0] == number:
            for one in signals:
                os.kill(os.getpid(), one)
        return step(self, *arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Learner, "step", spy)
        yield steps


def steps_of(*words: str) -> int:
    """The number of optimizer steps of a command that must succeed."""
    with signal_at_step(0) as steps:
        succeeds(*words)
    return steps[0]


def planned(straight: Path, seed: int, epochs: int = 2) -> int:
    """The number of steps that a seed takes for its first epochs."""
    return Run(straight / f"seed-{seed}").log()[epochs - 1].steps


def test_each_seed_is_a_run_of_train_and_the_report_holds_all_seeds(shop: Path, straight: Path) -> None:
    out = succeeds(*COMMAND)
    folder = shop / "reproduce-ml-1m"
    assert sorted(path.name for path in folder.iterdir()) == [
        "report.json",
        "report.png",
        "seed-0",
        "seed-1",
    ]
    for seed in ("seed-0", "seed-1"):
        assert_same_run(folder / seed, straight / seed)
        assert sorted(contents(folder / seed)) == sorted(contents(straight / seed))
    report = read_report(folder / "report.json")
    singles = [read_report(straight / seed / "report.json") for seed in ("seed-0", "seed-1")]
    values = [single["ours"]["test"]["unmasked"]["ndcg@10"]["mean"] for single in singles]
    leaf = report["ours"]["test"]["unmasked"]["ndcg@10"]
    assert leaf["seeds"] == {"0": values[0], "1": values[1]}
    assert leaf["mean"] == pytest.approx(sum(values) / 2)
    assert report["baselines"] == singles[0]["baselines"]
    assert report["dataset"]["name"] == "ml-1m"
    assert report["dataset"]["fingerprint"] == tiny_dataset().fingerprint
    assert report["paper"]["test"]["unmasked"]["hr@10"]["mean"] == 0.3285
    assert report["command"] == f"recblr {' '.join(COMMAND)}"
    lines = out.splitlines()
    assert lines[0].startswith("read ")
    assert lines[0].endswith(" events, dropped none; ordered by timestamp, whose unit is unknown")
    assert lines[1].startswith("ml-1m: 60 users, ")
    assert lines[2].endswith(f"the same command continues: recblr {' '.join(COMMAND)}")
    assert [line for line in lines if line.startswith("seed ")] == [
        "seed 1 of 2: reproduce-ml-1m/seed-0",
        "seed 2 of 2: reproduce-ml-1m/seed-1",
    ]
    (row,) = (line.split() for line in lines if line.startswith(" NDCG@10"))
    assert row[:3] == ["NDCG@10", "0.1901", f"{leaf['mean']:.4f}"]
    assert lines[-1] == "written to reproduce-ml-1m/report.json"


def test_a_finished_command_typed_again_changes_nothing(shop: Path) -> None:
    first = succeeds(*COMMAND)
    before = contents(shop)
    with signal_at_step(0) as steps:
        again = succeeds(*COMMAND)
    assert steps == [0]
    assert contents(shop) == before
    assert again.splitlines()[-12:] == first.splitlines()[-12:]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_unfinished_seed_continues_and_a_finished_seed_stays(
    shop: Path, straight: Path, how: int, seed: int
) -> None:
    first, both = planned(straight, 0), planned(straight, 0) + planned(straight, 1)
    done = 3 + seed * first
    with signal_at_step(done, how):
        seen = recblr(*COMMAND)
    assert seen.code == 128 + how
    assert seen.err == f"recblr: stopped; the run is saved: continue with recblr {' '.join(COMMAND)}\n"
    assert not (shop / "reproduce-ml-1m" / "report.json").exists()
    assert (shop / "reproduce-ml-1m" / "seed-1").exists() == (seed == 1)
    assert steps_of(*COMMAND) == both - done
    for name in ("seed-0", "seed-1"):
        assert_same_run(shop / "reproduce-ml-1m" / name, straight / name)


def killed(step: int, cwd: Path) -> None:
    """Run the command in a separate process and kill it in step `step`."""
    counts = {name: getattr(RECIPES["ml-1m"], name) for name in ("users", "items", "interactions")}
    code = f"""
import os, signal, sys
from dataclasses import replace
from recblr.experiments import RECIPES
from recblr.training.learner import Learner
RECIPES["ml-1m"] = replace(RECIPES["ml-1m"], **{counts})
step, steps = Learner.step, []
def spy(self, *arguments):
    steps.append(1)
    if len(steps) == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, *arguments)
Learner.step = spy
sys.argv = ["recblr", *{COMMAND}]
from recblr.cli import main
main()
"""
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr


def test_kill_9_in_the_middle_of_a_seed_loses_at_most_one_epoch(shop: Path, straight: Path) -> None:
    epoch, both = planned(straight, 1, epochs=1), planned(straight, 1)
    killed(planned(straight, 0) + epoch + 2, shop)  # in the second seed's second epoch
    assert steps_of(*COMMAND) == both - epoch
    for name in ("seed-0", "seed-1"):
        assert_same_run(shop / "reproduce-ml-1m" / name, straight / name)


def test_an_interrupted_evaluation_is_repeated(
    shop: Path, straight: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(evaluation, "evaluate_run", press)
        seen = recblr(*COMMAND)
    assert seen.code == 130
    assert seen.err == f"recblr: stopped; the model is saved: continue with recblr {' '.join(COMMAND)}\n"
    assert steps_of(*COMMAND) == planned(straight, 1)


def test_more_seeds_can_be_added_later(shop: Path, straight: Path) -> None:
    assert steps_of(*COMMAND, "--seeds", "1") == planned(straight, 0)
    assert steps_of(*COMMAND) == planned(straight, 1)
    assert list(read_report("reproduce-ml-1m/report.json")["runs"]) == ["0", "1"]
    assert steps_of(*COMMAND, "--seed", "1", "--seeds", "1") == 0
    assert list(read_report("reproduce-ml-1m/report.json")["runs"]) == ["1"]


def test_a_report_of_an_unfinished_seed_is_not_used(shop: Path) -> None:
    succeeds(*COMMAND)
    file = Path("reproduce-ml-1m/seed-1/report.json")
    whole = read_report(file)
    write_report({**whole, "training": {**whole["training"], "epochs_done": 1}}, file)
    succeeds(*COMMAND)
    assert read_report(file)["training"] == whole["training"]
    file.write_text("{")
    succeeds(*COMMAND)
    assert read_report(file)["ours"] == whole["ours"]


@pytest.mark.parametrize("deleted", [1, 2])
def test_a_deleted_line_of_the_log_costs_at_most_one_evaluation(
    shop: Path, deleted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_seed = [*COMMAND, "--seeds", "1"]
    succeeds(*one_seed)
    run, before = Run(Path("reproduce-ml-1m/seed-0")), read_report("reproduce-ml-1m/report.json")
    lines = run.log_file.read_text().splitlines(keepends=True)
    run.log_file.write_text("".join(lines[: deleted - 1] + lines[deleted:]))
    run.report_file.unlink()
    assert steps_of(*one_seed) == 0
    training = read_report(run.report_file)["training"]
    assert training["epochs_done"] == 2
    assert training["best_epoch"] == before["runs"]["0"]["training"]["best_epoch"]

    def again(*_: object, **__: object) -> None:
        raise AssertionError("it was evaluated again")

    monkeypatch.setattr(evaluation, "evaluate_run", again)
    succeeds(*one_seed)


def test_a_seed_that_another_process_trains_is_refused_at_once(shop: Path) -> None:
    succeeds(*COMMAND)
    run = Run(Path("reproduce-ml-1m/seed-1"))
    before = contents(run.folder)
    with run.lock():
        seen = recblr(*COMMAND, "--checkpoint-minutes", "5")
    assert seen.code == 2
    assert seen.err.startswith(f"recblr: another process is training into {run.folder}; ")
    assert "seed 1 of 2" not in seen.out
    assert contents(run.folder) == before


def test_a_baseline_can_use_the_recipe(shop: Path) -> None:
    options = ["--model", "sasrec", "--num-heads", "4", "--epochs", "1", "--k-core", "0", "--seeds", "1"]
    succeeds("reproduce", "ml-1m", "--data", "shop.inter", *options, "--out", "out")
    report = read_report("out/report.json")
    assert report["model"]["name"] == "SASRec"
    assert {key: entry["here"] for key, entry in report["recipe"]["differs"].items()} == {
        "model": "sasrec", "num-heads": 4, "max-length": 200, "epochs": 1, "k-core": 0,
    }  # fmt: skip


def test_options_that_differ_from_the_recipe_are_listed(shop: Path) -> None:
    options = ["--k-core", "0", "--seeds", "1", "--seed", "4", "--checkpoint-minutes", "0"]
    out = succeeds("reproduce", "beauty", "--data", "shop.inter", "--epochs", "1", *options, "--out", "out")
    differs = read_report("out/report.json")["recipe"]["differs"]
    epochs = RECIPES["beauty"].options["epochs"]
    assert differs == {
        "epochs": {"recipe": epochs, "here": 1},
        "k-core": {"recipe": 5, "here": 0},
    }
    listed = f"recipe    beauty, but --epochs 1 in place of {epochs}; --k-core 0 in place of 5"
    assert listed in out.splitlines()
    assert Run(Path("out/seed-4")).config().model.dropout == 0.5


REFUSED = {
    "no such recipe": (["reproduce", "steam"], ["there is no recipe 'steam'", "ml-1m, beauty"]),
    "no seeds": ([*COMMAND, "--seeds", "0"], ["--seeds must lie in 1..1000, but is 0"]),
    "other counts": (
        ["reproduce", "ml-1m", "--data", "few.inter"],
        [
            "few.inter holds 9 users, 9 items and 81 interactions after --k-core 5",
            "the paper's MovieLens-1M has 60, 129 and ",
            "after --k-core 5; give that dataset with --data",
        ],
    ),
    "no data to download": (["reproduce", "beauty"], ["no download for beauty; give its file with --data"]),
    "no such file": (
        ["reproduce", "ml-1m", "--data", "none.inter"],
        ["there is no file none.inter; check the path"],
    ),
    "a folder without it": (
        ["reproduce", "ml-1m", "--data", "empty"],
        ["the folder empty has none of ml-1m.inter.gz, ml-1m.inter, ratings.dat; give MovieLens-1M's file"],
    ),
    "a run in the way": ([*COMMAND, "--out", "run"], ["run holds a run", "choose another --out"]),
    "an option's value": ([*COMMAND, "--dropout", "2"], ["--dropout must lie in [0, 1), but is 2.0"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_refused_in_one_sentence(name: str, shop: Path, run: Path) -> None:
    words, says = REFUSED[name]
    (shop / "empty").mkdir()
    rows = [f"{user}\t{item}\t{item}" for user in range(9) for item in range(9)]
    Path("few.inter").write_text("user_id:token\titem_id:token\ttimestamp:float\n" + "\n".join(rows))
    assert_refused(recblr(*words), says, shop)


def assert_refused(seen: Seen, says: list[str], folder: Path) -> None:
    assert seen.code == 2, seen
    assert seen.err.count("\n") == 1
    for words in says:
        assert words in seen.err
    assert "epoch " not in seen.out
    assert not (folder / "reproduce-ml-1m" / "seed-0").exists()


def test_other_options_and_other_data_are_refused_by_name(shop: Path) -> None:
    with signal_at_step(1, signal.SIGINT):
        assert recblr(*COMMAND).code == 130
    before = contents(shop / "reproduce-ml-1m")
    seen = recblr(*COMMAND, "--epochs", "3")
    assert (seen.code, seen.out) == (2, "")
    assert "seed-0 was started with --epochs 2, not 3; resume with the same options" in seen.err
    lines = Path("shop.inter").read_text().splitlines()
    first, second = (line.split("\t") for line in lines[1:3])
    first[1], second[1] = second[1], first[1]
    Path("shop.inter").write_text("\n".join([lines[0], "\t".join(first), "\t".join(second), *lines[3:]]))
    seen = recblr(*COMMAND)
    assert (seen.code, seen.out) == (2, "")
    assert "seed-0 was started on other data than ml-1m holds now" in seen.err
    assert contents(shop / "reproduce-ml-1m") == before


def test_a_later_seed_with_other_options_is_refused_before_the_first_is_trained(shop: Path) -> None:
    succeeds(*COMMAND, "--seed", "1", "--seeds", "1")
    seen = recblr(*COMMAND, "--d-model", "8")
    assert (seen.code, seen.out) == (2, "")
    assert "seed-1 was started with --d-model 16, not 8" in seen.err
    assert not Path("reproduce-ml-1m/seed-0").exists()


def test_the_data_file_is_found_in_a_folder(shop: Path) -> None:
    Path("films").mkdir()
    Path("shop.inter").rename("films/ml-1m.inter")
    once = ["reproduce", "ml-1m", *OPTIONS, "--seeds", "1", "--epochs", "1"]
    succeeds(*once, "--data", "films")
    Path("films").rename("ml-1m")  # the default folder
    assert steps_of(*once) == 0


def test_missing_data_are_downloaded_only_once(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    publisher = publish(tmp_path_factory.mktemp("publisher"), monkeypatch)
    films = replace(RECIPES["ml-1m"], users=9, items=9, interactions=81)
    monkeypatch.setitem(RECIPES, "ml-1m", films)  # type: ignore[misc]
    monkeypatch.setattr(download, "PUBLISHER", str(publisher))
    words = ["reproduce", "ml-1m", "--seeds", "1", "--epochs", "1", *SMALL]
    with at(tmp_path):
        out = succeeds(*words)
        assert out.index("If you use it, you accept the terms at") < out.index("ml-1m: 9 users, 9 items")
        assert sorted(os.listdir("ml-1m")) == ["README", "movies.dat", "ratings.dat"]
        monkeypatch.setattr(download, "PUBLISHER", "no/such/folder")
        assert steps_of(*words) == 0


def test_a_download_that_fails_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PUBLISHER", "no/such/folder")
    with at(tmp_path):
        seen = recblr("reproduce", "ml-1m")
    assert seen.code == 2
    assert "with recblr download --from" in seen.err
    assert list(tmp_path.iterdir()) == []


def test_without_matplotlib_there_is_no_picture(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curves, "find_spec", lambda name: None)
    seen = recblr(*COMMAND, "--seeds", "1", "--epochs", "1")
    assert seen.code == 0
    assert seen.err.startswith(
        "recblr: there will be no curves.png and report.png, because matplotlib is not installed"
    )
    assert not Path("reproduce-ml-1m/report.png").exists()
