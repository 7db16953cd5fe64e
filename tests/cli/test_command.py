"""The command as a person meets it: what it prints, where, and with which exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from recblr import cli
from recblr.data import synthesize, write_inter

TINY = ["--d-model", "8", "--num-layers", "1", "--batch-tokens", "256", "--k-core", "0"]


@dataclass
class Outcome:
    code: int
    out: str
    err: str


@pytest.fixture
def recblr(monkeypatch, capsys):
    """Runs the command in this process; gives its exit code and what it printed."""

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["recblr", *map(str, arguments)])
        capsys.readouterr()
        try:
            cli.main()
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("data") / "tiny.inter"
    write_inter(synthesize(users=40, series=4, series_length=30, noise_items=30, max_events=24), path)
    return path


@pytest.fixture(scope="module")
def run_folder(data, tmp_path_factory) -> Path:
    """A finished run, trained by the command in a process of its own."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    command = [sys.executable, "-m", "recblr.cli", "train", data, "--out", folder, "--epochs", "2", *TINY]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "epoch   2" in done.stdout
    assert "\x1b" not in done.stdout, "no colours or bars where there is no terminal"
    assert done.stderr == ""
    return folder


def test_training_ends_with_a_report_in_the_schema(run_folder):
    report = json.loads((run_folder / "report.json").read_text())
    for masking in ("unmasked", "masked"):
        for root in (report["ours"], report["baselines"]["popular"], report["baselines"]["successor"]):
            for k in (1, 5, 10, 20, 50):
                for metric in ("hr", "ndcg", "mrr"):
                    assert 0 <= root["test"][masking][f"{metric}@{k}"]["mean"] <= 1
        assert report["ours"]["test"][masking]["hr@10"].keys() == {"mean", "std", "seeds"}
    assert report["command"].startswith("recblr train ")
    assert [point["epoch"] for point in report["curve"]] == [1, 2]


def test_evaluate_says_what_training_said(recblr, run_folder):
    before = json.loads((run_folder / "report.json").read_text())
    done = recblr("evaluate", run_folder)
    assert done.code == 0
    assert "RecBLR" in done.out
    assert "popular" in done.out
    after = json.loads((run_folder / "report.json").read_text())
    assert after["ours"] == before["ours"]
    assert after["baselines"] == before["baselines"]


def items_in(table: str) -> list[str]:
    return [line.split()[1] for line in table.splitlines() if line.strip()[:1].isdigit()]


def test_recommendations_leave_out_the_history_unless_asked(recblr, run_folder, data):
    history = [line.split("\t")[1] for line in data.read_text().splitlines() if line.startswith("u3\t")]
    done = recblr("recommend", run_folder, "--user", "u3", "-k", "500")
    assert done.code == 0
    assert f"for user u3 after {len(history)} events" in done.out
    listed = items_in(done.out)
    assert len(listed) == len(set(listed))
    assert not set(listed) & set(history)
    everything = items_in(recblr("recommend", run_folder, "--user", "u3", "-k", "500", "--include-seen").out)
    assert set(everything) == set(listed) | set(history)
    assert len(items_in(recblr("recommend", run_folder, "--user", "u3").out)) == 10
    by_history = recblr("recommend", run_folder, "--history", ",".join(history), "-k", "500")
    assert items_in(by_history.out) == listed


@pytest.mark.parametrize("line", ["{}::The {} Title::Genre", "{}\tThe {} Title", '{},"The {} Title"'])
def test_titles_stand_beside_the_items(recblr, run_folder, tmp_path, line):
    best = items_in(recblr("recommend", run_folder, "--user", "u1", "-k", "1").out)[0]
    titles = tmp_path / "titles"
    titles.write_text(line.format(best, "Très") + "\n", encoding="latin-1")
    assert "The Très Title" in recblr("recommend", run_folder, "--user", "u1", "--titles", titles).out


@pytest.mark.parametrize("command", ["train", "evaluate", "recommend", "synth", "doctor"])
def test_help_shows_a_worked_example(recblr, command):
    done = recblr(command, "--help")
    assert done.code == 0
    assert f"recblr {command}" in done.out.split("Example:")[1]


def test_an_instruction_set_that_is_not_there_stops_training(data, tmp_path):
    command = [sys.executable, "-m", "recblr.cli", "train", data, "--out", tmp_path / "run"]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "RECBLR_ISA": "nonsense"}
    )
    one_sentence(Outcome(done.returncode, done.stdout, done.stderr), "RECBLR_ISA", "nonsense", "baseline")
    assert not (tmp_path / "run").exists()


def test_without_the_native_module_training_and_evaluation_still_work(data, tmp_path):
    # What a machine sees for which there is no wheel: recblr._core cannot be imported.
    arguments = ["recblr", "train", str(data), "--out", str(tmp_path / "run"), "--epochs", "1", *TINY]
    hide = "import sys; sys.modules['recblr._core'] = None"
    code = f"{hide}; from recblr.cli import main; sys.argv = {arguments}; main()"
    environment = {**os.environ, "RECBLR_REQUIRE_NATIVE": "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("recblr: ")
    assert done.stderr.count("\n") == 1
    assert "the slower PyTorch reference serves" in done.stderr
    assert json.loads((tmp_path / "run" / "report.json").read_text())["commit"] is None


def test_synth_is_reproducible_and_prints_what_can_be_reached(recblr, tmp_path):
    first = recblr("synth", tmp_path / "a.inter", "--users", "50", "--seed", "4")
    second = recblr("synth", tmp_path / "b.inter", "--users", "50", "--seed", "4")
    assert (first.code, second.code) == (0, 0)
    assert (tmp_path / "a.inter").read_bytes() == (tmp_path / "b.inter").read_bytes()
    assert "the best possible predictor" in first.out


def test_doctor_says_what_runs(recblr):
    done = recblr("doctor")
    assert done.code == 0
    for part in ("recblr", "torch", "instruction set", "operators on cpu", "native", "operators on cuda"):
        assert part in done.out


def one_sentence(done: Outcome, *parts: str) -> None:
    assert done.code == 2, done
    assert done.err.startswith("recblr: "), done
    assert done.err.count("\n") == 1, done
    assert "Traceback" not in done.out + done.err
    for part in parts:
        assert part in done.err, done


HEADER = "user_id,item_id,timestamp\n"
FULL = HEADER + "".join(f"u{u},i{i},{i}\n" for u in range(6) for i in range(6))

BAD_DATA = {
    "unknown column": (FULL, ["--item-column", "sku"], ("sku", "--item-column", "item_id")),
    "time is no number": (FULL.replace("u2,i3,3", "u2,i3,noon"), [], ("noon", "line 17")),
    "empty file": ("", [], ("empty",)),
    "header only": (HEADER, [], ("no rows",)),
    "a user with one event": (FULL + "lonely,i1,9\n", ["--k-core", "1"], ("lonely", "1 event", "--k-core 3")),
    "too few for the core": (FULL, ["--k-core", "7"], ("--k-core",)),
    "unknown format": (FULL, ["--format", "xml"], ("xml", "inter")),
    "no epochs": (FULL, ["--epochs", "0"], ("--epochs",)),
    "negative rate": (FULL, ["--learning-rate", "-1"], ("--learning-rate",)),
    "rate is not a number": (FULL, ["--learning-rate", "nan"], ("--learning-rate",)),
    "dropout of one and a half": (FULL, ["--dropout", "1.5"], ("dropout", "1.5")),
    "no width": (FULL, ["--d-model", "0"], ("d-model", "at least 1")),
    "negative seed": (FULL, ["--seed", "-1"], ("--seed",)),
}


@pytest.mark.parametrize(("content", "options", "parts"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_input_to_train_is_one_sentence_and_leaves_nothing(recblr, tmp_path, content, options, parts):
    log = tmp_path / "log.csv"
    log.write_text(content)
    one_sentence(recblr("train", log, "--out", tmp_path / "run", *options), *parts)
    assert os.listdir(tmp_path) == ["log.csv"]


def test_bad_places_are_one_sentence(recblr, data, tmp_path):
    one_sentence(recblr("train", tmp_path / "nowhere.csv", "--out", tmp_path / "run"), "nowhere.csv")
    one_sentence(recblr("train", tmp_path, "--out", tmp_path / "run", "--format", "csv"), "is a folder")
    file = tmp_path / "file"
    file.write_text("kept")
    one_sentence(recblr("train", data, "--out", file, "--epochs", "1"), "file", "--out")
    one_sentence(recblr("train", data, "--out", file / "below", "--epochs", "1"), "below")
    assert file.read_text() == "kept"
    one_sentence(recblr("synth", tmp_path / "x.csv"), "x.csv", ".inter")
    one_sentence(recblr("synth", tmp_path / "missing" / "x.inter"), "missing")
    assert os.listdir(tmp_path) == ["file"]


def test_training_into_a_run_needs_resume_and_the_same_options(recblr, data, run_folder):
    before = {p: p.read_bytes() for p in run_folder.rglob("*") if p.is_file()}
    one_sentence(recblr("train", data, "--out", run_folder, "--epochs", "2", *TINY), "--resume")
    other = recblr("train", data, "--out", run_folder, "--epochs", "3", "--resume", *TINY)
    one_sentence(other, "--epochs 2", "not 3")
    assert {p: p.read_bytes() for p in run_folder.rglob("*") if p.is_file()} == before


def test_bad_questions_are_one_sentence(recblr, run_folder, tmp_path):
    one_sentence(recblr("recommend", run_folder, "--user", "nobody"), "nobody", "give one of the ids")
    one_sentence(recblr("recommend", run_folder, "--history", "never"), "never")
    one_sentence(recblr("recommend", run_folder, "--history", " , "), "--history is empty")
    one_sentence(recblr("recommend", run_folder), "--user", "--history")
    one_sentence(recblr("recommend", run_folder, "--user", "u1", "--history", "x42"), "either")
    one_sentence(recblr("recommend", run_folder, "--user", "u1", "--titles", tmp_path / "none"), "--titles")
    one_sentence(recblr("evaluate", tmp_path), "holds no run")
    one_sentence(recblr("recommend", tmp_path / "none", "--user", "u1"), "holds no run")
    assert recblr("recommend", run_folder, "--user", "u1", "-k", "0").code == 2


@pytest.mark.parametrize("damage", ["truncated", "foreign", "config", "dataset"])
def test_a_damaged_run_is_one_sentence(recblr, run_folder, tmp_path, damage):
    import shutil

    import numpy as np
    from safetensors.numpy import save_file

    run = tmp_path / "run"
    shutil.copytree(run_folder, run)
    match damage:
        case "truncated":
            os.truncate(run / "model.safetensors", 1000)
        case "foreign":
            save_file({"weight": np.zeros(3)}, run / "model.safetensors")
        case "config":
            (run / "config.json").write_text("{")
        case "dataset":
            (run / "dataset" / "histories.parquet").write_bytes(b"PAR1")
    report = (run / "report.json").read_bytes()
    one_sentence(recblr("evaluate", run), str(run), "train again")
    one_sentence(recblr("recommend", run, "--user", "u1"), str(run), "train again")
    assert (run / "report.json").read_bytes() == report


def test_ctrl_c_keeps_finished_epochs_and_says_how_to_go_on(data, tmp_path):
    run = tmp_path / "run"
    command = [sys.executable, "-m", "recblr.cli", "train", data, "--out", run, "--epochs", "3000", *TINY]
    process = subprocess.Popen(
        [*map(str, command), "--patience", "3000"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(run.glob("checkpoints/epoch-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in err
    assert err.count("\n") == 1
    assert list(run.glob("checkpoints/epoch-*"))
