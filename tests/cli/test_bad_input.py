"""For each mistake, the user sees one sentence with the problem and the remedy, and no file is changed."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from cli.command import SMALL, Seen, at, recblr, shell
from hostile.rows import HEADER, ROWS, TRAIN, Bad, nothing
from safetensors.torch import save_file
from training.tiny_runs import contents, tiny_dataset


def log(text: str, name: str = "log.csv") -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_text(text, encoding="utf-8")


DATA: dict[str, Bad] = {
    "unknown column": Bad(
        ["train", "log.csv", "--item-column", "film", *TRAIN],
        ("log.csv has no column 'film'", "'item_id'", "--item-column"),
        log(HEADER + ROWS),
    ),
    "no user column": Bad(
        ["train", "log.csv", *TRAIN], ("no column 'user_id'", "--user-column"), log("who,item_id\n" + ROWS)
    ),
    "time under another name": Bad(
        ["train", "log.csv", *TRAIN],
        ("'date' may hold the times", "--time-column date"),
        log("user_id,item_id,date\n" + ROWS),
    ),
    "time that is no number": Bad(
        ["train", "log.csv", *TRAIN],
        ("log.csv, line 2", "'yesterday'", "'timestamp'", "not a number", "--time-column"),
        log(HEADER + "u0,i0,yesterday\n" + ROWS),
    ),
    "empty file": Bad(["train", "log.csv", *TRAIN], ("log.csv is empty", "give a file"), log("")),
    "header only": Bad(["train", "log.csv", *TRAIN], ("a header and no rows", "give a file"), log(HEADER)),
    "value that is missing": Bad(
        ["train", "log.csv", *TRAIN],
        ("line 2 has no value in column 'item_id'",),
        log(HEADER + "u0,,1\n" + ROWS),
    ),
    "binary": Bad(["train", "log.csv", *TRAIN], ("log.csv is not text",), log(HEADER + "PK\0\1")),
    "one event, no filter": Bad(
        ["train", "log.csv", "--k-core", "0", *TRAIN],
        ("user 'lone' of log has 1 event(s)", "--min-user-events 3"),
        log(HEADER + ROWS + "lone,i1,1\n"),
    ),
    "one event, 1-core": Bad(
        ["train", "log.csv", "--k-core", "1", *TRAIN],
        ("user 'lone' of log has 1 event(s)", "--min-user-events 3"),
        log(HEADER + ROWS + "lone,i1,1\n"),
    ),
    "only a user with one event": Bad(
        ["train", "log.csv", "--k-core", "0", *TRAIN], ("'lone'", "--keep-short"), log(HEADER + "lone,i1,1\n")
    ),
    "nobody has enough to train on": Bad(
        ["train", "log.csv", "--k-core", "0", *TRAIN],
        ("no user of log has the 4 events that training needs",),
        log(HEADER + "a,x,1\na,y,2\na,z,3\n"),
    ),
    "nothing left by the filter": Bad(
        ["train", "log.csv", "--k-core", "50", *TRAIN],
        ("nothing is left of log.csv", "fewer than 50 interactions", "lower --k-core"),
        log(HEADER + ROWS),
    ),
    "format unknown": Bad(
        ["train", "log.csv", "--format", "excel", *TRAIN],
        ("no format 'excel'", "auto, inter, csv, movielens"),
        log(HEADER + ROWS),
    ),
    "suffix unknown": Bad(
        ["train", "log.bin", *TRAIN],
        ("log.bin", "inter, csv, movielens"),
        log(HEADER + ROWS, "log.bin"),
    ),
    "no such file": Bad(["train", "none.csv", *TRAIN], ("there is no file none.csv", "check the path")),
    "folder in place of a file": Bad(
        ["train", "logs", *TRAIN],
        ("logs is a folder without Parquet files", "the data files"),
        lambda at: (at / "logs").mkdir(),
    ),
    "damaged gzip": Bad(
        ["train", "log.csv.gz", *TRAIN],
        ("log.csv.gz is a damaged gzip file",),
        lambda folder: (folder / "log.csv.gz").write_bytes(b"\x1f\x8b\x08\x00half"),
    ),
    "column names for a file without": Bad(
        ["train", "log.txt", "--user-column", "uid", *TRAIN], ("'uid'", "no header"), log("a b\n", "log.txt")
    ),
}


def option(*words: str, says: tuple[str, ...]) -> Bad:
    return Bad(["train", "log.csv", "--out", "run", *words], says, log(HEADER + ROWS))


OPTIONS: dict[str, Bad] = {
    "no epochs": option("--epochs", "0", says=("--epochs must be at least 1, but is 0",)),
    "epochs below none": option("--epochs", "-3", says=("--epochs must be at least 1, but is -3",)),
    "no patience": option("--patience", "0", says=("--patience must be at least 1",)),
    "no tokens": option("--batch-tokens", "0", says=("--batch-tokens must be at least 1",)),
    "no learning": option("--learning-rate", "0", says=("--learning-rate must be a positive number", "0.0")),
    "learning rate nan": option("--learning-rate", "nan", says=("--learning-rate must be", "nan")),
    "learning rate inf": option("--learning-rate", "inf", says=("--learning-rate must be", "inf")),
    "dropout above 1": option("--dropout", "1.5", says=("--dropout must lie in [0, 1), but is 1.5",)),
    "dropout below 0": option("--dropout", "-0.1", says=("--dropout must lie in [0, 1)",)),
    "dropout nan": option("--dropout", "nan", says=("--dropout must lie in [0, 1), but is nan",)),
    "no width": option("--d-model", "0", says=("--d-model must be at least 1, but is 0",)),
    "no layers": option("--num-layers", "0", says=("--num-layers must be at least 1, but is 0",)),
    "seed below 0": option("--seed", "-1", says=("--seed must lie in 0..", "-1")),
    "seed too large": option("--seed", str(2**64), says=("--seed must lie in 0..",)),
    "out is a file": Bad(
        ["train", "log.csv", "--out", "log.csv"],
        ("cannot make the folder log.csv", "choose another --out"),
        log(HEADER + ROWS),
    ),
    "out below a file": Bad(
        ["train", "log.csv", "--out", "log.csv/run"],
        ("cannot make the folder log.csv/run", "choose another --out"),
        log(HEADER + ROWS),
    ),
    "out too long": Bad(
        ["train", "log.csv", "--out", "x" * 300],
        ("cannot make the folder", "File name too long", "choose another --out"),
        log(HEADER + ROWS),
    ),
    "synth with a suffix of its own": Bad("synth demo.csv", ("demo.csv", "end it in .inter or .inter.gz")),
    "titles over the data": Bad(
        "synth demo.inter --titles ./demo.inter",
        ("both the data and the titles", "give --titles another file"),
    ),
    "titles into nowhere": Bad("synth demo.inter --titles none/t.tsv", ("none/t.tsv", "choose a folder")),
    "titles for data into nowhere": Bad(
        "synth none/demo.inter --titles t.tsv", ("none/demo.inter", "choose")
    ),
    "synth without users": Bad("synth demo.inter --users 0", ("--users must be at least 1, not 0",)),
    "synth with a seed below 0": Bad("synth demo.inter --seed -1", ("--seed must not be negative",)),
    "synth into nowhere": Bad("synth none/demo.inter", ("cannot write none/demo.inter", "choose a folder")),
}


def prepared(change: Callable[[Path], object], words: str, *says: str) -> Bad:
    return Bad(words, says, lambda folder: change(folder / "run"), run=True)


def cut(name: str, keep: float) -> Callable[[Path], object]:
    def damage(run: Path) -> None:
        whole = (run / name).read_bytes()
        (run / name).write_bytes(whole[: int(keep * len(whole))])

    return damage


def no_model_yet(run: Path) -> None:
    (run / "model.safetensors").unlink()
    shutil.rmtree(run / "checkpoints")


def foreign_model(run: Path) -> None:
    save_file({"weight": torch.zeros(4, 2)}, run / "model.safetensors")


def stale_option(run: Path) -> None:
    text = (run / "config.toml").read_text()
    (run / "config.toml").write_text(text.replace("d-model = 16", 'd-model = "wide"'))


RESTORE = "restore it from a copy, or train again into another --out"

RUNS: dict[str, Bad] = {
    "evaluate nothing": Bad("evaluate none", ("none holds no run", "run.json", "--out")),
    "evaluate a folder without a run": Bad(
        "evaluate folder", ("folder holds no run",), lambda at: (at / "folder").mkdir()
    ),
    "evaluate a file": Bad("evaluate log.csv", ("log.csv holds no run", "give the folder"), log(HEADER)),
    "recommend from nothing": Bad("recommend none --user u1", ("none holds no run", "give the folder")),
    "no model yet": prepared(
        no_model_yet,
        "evaluate run",
        "run holds no trained model yet",
        "--resume",
    ),
    "model lost": prepared(
        lambda run: (run / "model.safetensors").unlink(),
        "evaluate run",
        "no file run/model.safetensors",
        RESTORE,
    ),
    "model emptied": prepared(
        cut("model.safetensors", 0), "evaluate run", "is damaged or truncated", RESTORE
    ),
    "model truncated": prepared(
        cut("model.safetensors", 0.9),
        "evaluate run",
        "run/model.safetensors is damaged or truncated",
        RESTORE,
    ),
    "model truncated, recommend": prepared(
        cut("model.safetensors", 0.5), "recommend run --user u1", "is damaged or truncated", RESTORE
    ),
    "model of another program": prepared(
        foreign_model, "evaluate run", "run/model.safetensors was not written by recblr", RESTORE
    ),
    "model of text": prepared(
        lambda run: (run / "model.safetensors").write_text("weights\n" * 99),
        "evaluate run",
        "run/model.safetensors is no model file",
        RESTORE,
    ),
    "facts cut short": prepared(cut("run.json", 0.5), "evaluate run", "run/run.json is damaged", RESTORE),
    "config cut short": prepared(
        lambda run: (run / "config.toml").write_text("[model"),
        "evaluate run",
        "run/config.toml is not TOML",
        RESTORE,
    ),
    "config lost": prepared(
        lambda run: (run / "config.toml").unlink(),
        "evaluate run",
        "there is no config file run/config.toml",
        RESTORE,
    ),
    "facts of another program": prepared(
        lambda run: (run / "run.json").write_text("{}"),
        "evaluate run",
        "not written by this version",
        "--out",
    ),
    "config with a wrong value": prepared(
        stale_option, "evaluate run", "run/config.toml: d-model in [model] must be a whole number", RESTORE
    ),
    "dataset cut short": prepared(
        cut("dataset/histories.parquet", 0.7), "evaluate run", "run/dataset is damaged", "train again"
    ),
    "dataset without a file": prepared(
        lambda run: (run / "dataset" / "catalogue.parquet").unlink(),
        "recommend run --user u1",
        "catalogue.parquet is missing",
        "train again",
    ),
    "dataset of another run": prepared(
        lambda run: tiny_dataset(seed=9).save(run / "dataset"),
        "evaluate run",
        "other data",
        "restore the run's own",
    ),
    "log cut short": prepared(
        cut("log.jsonl", 0.7), "evaluate run", "run/log.jsonl, line 2 is damaged", "delete"
    ),
    "unknown user": prepared(nothing, "recommend run --user nobody", "no user 'nobody'", "'u1'"),
    "unknown item": prepared(nothing, "recommend run --history s01e01,zzz", "no item 'zzz'", "such as"),
    "empty history": prepared(
        nothing, "recommend run --history ,", "--history is empty", "separated by commas"
    ),
    "user and history": prepared(
        nothing, "recommend run --user u1 --history s01e01", "either --user", "or --history"
    ),
    "neither user nor history": prepared(nothing, "recommend run", "either --user", "or --history"),
    "no titles file": prepared(
        nothing, "recommend run --user u1 --titles none.dat", "none.dat cannot be read", "check --titles"
    ),
    "titles without titles": prepared(
        lambda run: (run.parent / "t.csv").write_text("1\n2\n"),
        "recommend run --user u1 --titles t.csv",
        "t.csv has no line with an id and a title",
        "give id::title",
    ),
    "titles that are a folder": prepared(
        nothing, "recommend run --user u1 --titles run", "titles file run cannot be read", "check --titles"
    ),
}

CASES = DATA | OPTIONS | RUNS


def assert_one_sentence(seen: Seen, says: tuple[str, ...]) -> None:
    assert seen.code == 2
    assert seen.err.startswith("recblr: ")
    assert seen.err.count("\n") == 1
    assert seen.err.endswith("\n")
    assert "Traceback" not in seen.out + seen.err
    for part in says:
        assert part in seen.err


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_one_sentence_and_changes_nothing(name: str, tmp_path: Path, finished: Path) -> None:
    case = CASES[name]
    if case.run:
        shutil.copytree(finished, tmp_path / "run")
    case.prepare(tmp_path)
    before = contents(tmp_path)
    with at(tmp_path):
        seen = recblr(*(case.words.split() if isinstance(case.words, str) else case.words))
    assert_one_sentence(seen, case.says)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("damage", "problem", "remedy"),
    [
        (
            lambda run: (run / "config.toml").unlink(),
            "there is no config file mine; not yours: old/config.toml",
            RESTORE,
        ),
        (
            stale_option,
            "mine; not yours: old/config.toml: d-model in [model] must be a whole number",
            RESTORE,
        ),
        (
            lambda run: (run / "dataset" / "catalogue.parquet").unlink(),
            "mine; not yours: old/dataset has no complete dataset (catalogue.parquet is missing)",
            RESTORE.replace("it", "the folder"),
        ),
        (
            cut("dataset/histories.parquet", 0.7),
            "the dataset saved in mine; not yours: old/dataset is damaged",
            RESTORE.replace("it", "the folder"),
        ),
    ],
    ids=["config lost", "config with a wrong value", "dataset without a file", "dataset cut short"],
)
def test_a_path_with_punctuation_is_shown_whole(
    damage: Callable[[Path], object], problem: str, remedy: str, tmp_path: Path, finished: Path
) -> None:
    damage(Path(shutil.copytree(finished, tmp_path / "mine; not yours: old")))
    with at(tmp_path):
        seen = recblr("evaluate", "mine; not yours: old")
    assert_one_sentence(seen, (f"recblr: {problem}", f"; {remedy}\n"))
    assert "read the data file again" not in seen.err


USAGE = {
    "epochs in words": "train log.csv --out run --epochs many",
    "learning rate in words": "train log.csv --out run --learning-rate fast",
    "no out": "train log.csv",
    "k of none": "recommend run --user u1 -k 0",
    "k below none": "recommend run --user u1 -k -5",
    "option unknown": "evaluate run --fast",
}


@pytest.mark.parametrize("name", USAGE)
def test_a_wrong_word_shows_the_usage_and_changes_nothing(name: str, tmp_path: Path) -> None:
    log(HEADER + ROWS)(tmp_path)
    before = contents(tmp_path)
    with at(tmp_path):
        seen = recblr(*USAGE[name].split())
    assert (seen.code, seen.out) == (2, "")
    assert "Usage: recblr" in seen.err
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--epochs", "3"], ("--epochs 2, not 3", "resume with the same options")),
        (["--epochs", "2", "--seed", "4"], ("--seed 0, not 4", "resume with the same options")),
        (["--epochs", "2", "--k-core", "5"], ("--k-core 0, not 5", "resume with the same options")),
    ],
)
def test_resuming_with_other_options_is_refused(
    words: list[str], says: tuple[str, ...], run: Path, data: Path
) -> None:
    before = contents(run)
    seen = recblr("train", data, "--out", run, "--resume", "--k-core", "0", *SMALL, *words)
    assert_one_sentence(seen, says)
    assert contents(run) == before


def test_a_run_is_not_overwritten(run: Path, data: Path) -> None:
    before = contents(run)
    seen = recblr("train", data, "--out", run, "--k-core", "0", "--epochs", "2", *SMALL)
    assert_one_sentence(seen, (f"{run} already holds a run", "--resume", "another --out"))
    assert contents(run) == before


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "progress.json"])
def test_resuming_from_a_damaged_checkpoint_is_refused(file: str, run: Path, data: Path) -> None:
    cut(f"checkpoints/epoch-0002/{file}", 0.5)(run)
    before = contents(run)
    seen = recblr("train", data, "--out", run, "--resume", "--k-core", "0", "--epochs", "2", *SMALL)
    assert_one_sentence(seen, (f"epoch-0002/{file} is ", "damaged", "or delete", "--resume then starts from"))
    assert contents(run) == before


def test_the_remedy_for_a_damaged_checkpoint_works(run: Path, data: Path, finished: Path) -> None:
    shutil.rmtree(run / "checkpoints" / "epoch-0002")
    seen = recblr("train", data, "--out", run, "--resume", "--k-core", "0", "--epochs", "2", *SMALL)
    assert seen.code == 0
    assert (run / "model.safetensors").read_bytes() == (finished / "model.safetensors").read_bytes()


def test_divergence_is_reported_with_its_remedy(tmp_path: Path, data: Path) -> None:
    words = ["--epochs", "1", "--d-model", "16", "--learning-rate", "1e30", "--batch-tokens", "256"]
    seen = recblr("train", data, "--out", tmp_path / "run", "--k-core", "0", *words)
    assert_one_sentence(seen, ("training has diverged", "another --out", "lower --learning-rate"))


def test_a_separate_process_prints_the_same(tmp_path: Path) -> None:
    case = CASES["no such file"]
    case.prepare(tmp_path)
    seen = shell(*(case.words.split() if isinstance(case.words, str) else case.words), cwd=tmp_path)
    assert_one_sentence(seen, case.says)
    assert seen.out == ""
    assert not (tmp_path / "run").exists()
