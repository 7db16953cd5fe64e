"""Words on the command line that are possible, and wrong: too large, at odds with each other, misplaced."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.command import recblr
from hostile.rows import (
    HEADER,
    ROWS,
    TRAIN,
    Bad,
    assert_one_sentence,
    at,
    check,
    in_time,
    little_memory,
    text,
    train,
)
from training.tiny_runs import contents

HUGE = str(10**30)
PLENTY = text(HEADER + ROWS)


def option(*words: str, says: tuple[str, ...]) -> Bad:
    return train("log.csv", "--k-core", "0", *words, says=says, prepare=PLENTY)


def on_a_run(words: str, *says: str, prepare: Callable[[Path], object] = lambda _: None) -> Bad:
    return Bad(words, says, prepare, run=True)


def resumed(words: str, *says: str, prepare: Callable[[Path], object] = PLENTY) -> Bad:
    return on_a_run(f"train --out run --resume {words}", *says, prepare=prepare)


def titles(content: bytes, *says: str) -> Bad:
    return on_a_run("recommend run --user u1 --titles t.csv", *says, prepare=text(content, "t.csv"))


NUMBERS: dict[str, Bad] = {
    "width beyond memory": option("--d-model", "10000000", says=("not enough memory", "--d-model 10000000")),
    "width beyond any machine": option("--d-model", HUGE, says=("--d-model", HUGE)),
    "layers beyond memory": option("--num-layers", "1000000000", says=("not enough memory", "--num-layers")),
    "layers beyond any machine": option("--num-layers", HUGE, says=("--num-layers", HUGE)),
    "recurrence beyond memory": option("--expand", "1e8", says=("not enough memory", "--expand 100000000.0")),
    "recurrence beyond any float": option("--expand", "1e400", says=("--expand must be a number", "inf")),
    "recurrence of next to nothing": option("--expand", "1e-300", says=("--expand must be a number",)),
    "recurrence of nan": option("--expand", "nan", says=("--expand must be a number", "nan")),
    "convolution beyond memory": option("--d-conv", "2000000000", says=("not enough memory", "--d-conv")),
    "convolution of nothing": option("--d-conv", "0", says=("--d-conv must be at least 1",)),
    "padding without an end": option("--padding-leak", "--max-length", HUGE, says=("--max-length", HUGE)),
    "padding without a length": option("--padding-leak", says=("--padding-leak must come with max",)),
    "length of nothing": option("--max-length", "0", says=("--max-length must be at least 1",)),
    "length below nothing": option("--max-length", "-1", says=("--max-length must be at least 1",)),
    "minus nothing": option("--epochs", "-0", says=("--epochs must be at least 1, but is 0",)),
    "rate of minus nothing": option("--learning-rate", "-0.0", says=("--learning-rate must be a positive",)),
    "rate beyond any float": option("--learning-rate", "1e400", says=("--learning-rate must be", "inf")),
    "warm-up of all": option("--warmup", "1", says=("--warmup must lie in [0, 1)",)),
    "average of itself": option("--ema", "1", says=("--ema must lie in [0, 1)",)),
    "average of nan": option("--ema", "nan", says=("--ema must lie in [0, 1)", "nan")),
    "decay below 0": option("--weight-decay", "-1", says=("--weight-decay must be 0 or a positive",)),
    "decay without a bound": option("--weight-decay", "inf", says=("--weight-decay must be 0 or",)),
    "norm of nan": option("--clip-norm", "nan", says=("--clip-norm must be 0 or a positive", "nan")),
    "saving in nan minutes": option("--checkpoint-minutes", "nan", says=("--checkpoint-minutes must be",)),
    "saving in minutes that go back": option("--checkpoint-minutes", "-1", says=("--checkpoint-minutes",)),
    "epsilon below 0": option("--beta-epsilon", "-1e-8", says=("--beta-epsilon must be 0 or",)),
    "epsilon of nan": option("--beta-epsilon", "nan", says=("--beta-epsilon must be 0 or", "nan")),
    "dropout of everything": option("--ffn-dropout", "1", says=("--ffn-dropout must lie in [0, 1)",)),
    "no negatives": option("--loss", "bpr", "--negatives", "0", says=("--negatives must be at least 1",)),
    "negatives beyond memory": option("--loss", "bpr", "--negatives", HUGE, says=("--negatives", HUGE)),
    "no sequences": option("--samples", "prefixes", "--batch-sequences", "0", says=("--batch-sequences",)),
    "calibration beyond 1": option(
        "--loss", "gbce", "--gbce-t", "1.01", says=("--gbce-t must lie in [0, 1]",)
    ),
    "core below 0": option("--k-core", "-5", says=("--k-core", "-5", "0 to keep everything")),
    "column of no name": option("--user-column", "", says=("log.csv has no column ''", "--user-column")),
    "threshold of nan": option("--min-rating", "nan", says=("--min-rating", "nan")),
    "share of all": option("--split", "time", "--test-share", "1", says=("--test-share", "between 0 and 1")),
    "share of nothing": option("--split", "time", "--valid-share", "0", says=("--valid-share", "between 0")),
    "share below nothing": option("--split", "time", "--test-share", "-0.1", says=("--test-share", "-0.1")),
    "share of nan": option("--split", "time", "--test-share", "nan", says=("--test-share", "nan")),
    "more validate than there are": option("--valid-share", "1.1", says=("--valid-share", "up to 1")),
    "shares of more than all": option(
        "--split", "time", "--test-share", "0.6", "--valid-share", "0.6", says=("leave nothing to train on",)
    ),
    "synth for ever": Bad(f"synth demo.inter --users {HUGE}", ("--users must", HUGE)),
    "synth beyond memory": Bad("synth demo.inter --users 10000000000", ("--users must", "10000000000")),
}

ODDS: dict[str, Bad] = {
    "shares without a split": option(
        "--test-share", "0.2", says=("goes with a split by time", "--split time")
    ),
    "loss that is none": option(
        "--loss", "crossentropy", says=("--loss must be one of", "do you mean cross-entropy?")
    ),
    "split that is none": option("--split", "loo", says=("--split must be one of", "leave-one-out")),
    "loss of nothing": option("--loss", "", says=("--loss must be one of",)),
    "loss in capitals": option("--loss", "BPR", says=("--loss must be one of",)),
    "calibrated for other negatives": option(
        "--loss", "gbce", "--negatives-from", "popularity", says=("--negatives-from", "another loss")
    ),
    "no data": Bad("train --out run", ("there are no data to train on", "give DATA")),
    "resume without a run": Bad("train --out run --resume", ("there are no data to train on",)),
    "resume a run of other options": resumed("--d-model 8", "started with --d-model 16, not 8"),
    "resume with another split": resumed("--split time", "started with --split leave-one-out, not time"),
    "resume with another loss": resumed("--loss bpr", "started with --loss cross-entropy, not bpr"),
    "resume with other data": resumed("log.csv", "was started", "--out"),
    "resume with data that are not there": resumed("none.csv", "there is no file none.csv"),
    "resume with a config of another run": resumed(
        "--config other.toml",
        "run was started with",
        "resume with the same options",
        prepare=text("[model]\nd-model = 8\n", "other.toml"),
    ),
    "k with a user that is empty": on_a_run(["recommend", "run", "--user", ""], "no user ''"),  # type: ignore[arg-type]
    "user with spaces": on_a_run(["recommend", "run", "--user", " u1"], "no user ' u1'"),  # type: ignore[arg-type]
    "user with line breaks": on_a_run(["recommend", "run", "--user", "u1\nu2"], r"no user 'u1\nu2'"),  # type: ignore[arg-type]
    "user without an end": on_a_run(["recommend", "run", "--user", "u" * 100_000], "no user 'uuu", "…"),  # type: ignore[arg-type]
    "user that is no text": on_a_run(["recommend", "run", "--user", "\udce9"], r"no user '\udce9'"),  # type: ignore[arg-type]
    "history of the unknown": on_a_run("recommend run --history s01e01,nope,s01e02", "no item 'nope'"),
    "history without an end": on_a_run(["recommend", "run", "--history", "x" * 100_000], "no item", "…"),  # type: ignore[arg-type]
    "run that is a link to itself": Bad(
        "evaluate run", ("run", "--out"), lambda at: (at / "run").symlink_to("run")
    ),
    "run that is a pipe": Bad("evaluate run", ("run holds no run",), lambda at: os.mkfifo(at / "run")),
    "run that is empty": Bad(["evaluate", ""], ("holds no run",)),
    "run of a very long name": Bad(["evaluate", "x" * 5000], ("File name too long", "…")),
    "run with terminal codes": Bad(["evaluate", "\x1b]0;\x07"], (r"\x1b]0;\x07 holds no run",)),
    "out that is a pipe": train(
        "log.csv",
        "--k-core",
        "0",
        says=("cannot make the folder run", "--out"),
        prepare=lambda at: (PLENTY(at), os.mkfifo(at / "run")),
    ),
    "out that is a link to nowhere": train(
        "log.csv",
        "--k-core",
        "0",
        says=("cannot make the folder run", "--out"),
        prepare=lambda at: (PLENTY(at), (at / "run").symlink_to("none")),
    ),
    "out with line breaks": Bad(
        ["train", "log.csv", "--k-core", "0", "--out", "log.csv/a\nb"], (r"log.csv/a\nb",), PLENTY
    ),
    "synth into a folder": Bad(
        "synth folder.inter",
        ("cannot write folder.inter", "choose"),
        lambda at: (at / "folder.inter").mkdir(),
    ),
    "synth into a name too long": Bad(
        ["synth", "x" * 300 + ".inter"], ("cannot write", "File name too long")
    ),
    "download of nothing": Bad("download ml-2m", ("ml-2m", "ml-1m")),
    "download from a folder without": Bad("download ml-1m --from .", ("ml-1m",)),
    "download over a file": Bad("download ml-1m --from . --to there", ("there",), text("", "there")),
    "titles, no text in sight": titles(b"\0" * 9999, "t.csv has no line with an id and a title"),
    "titles, empty": titles(b"", "t.csv has no line with an id and a title"),
    "titles, one endless line": titles(b"a" * 1_000_000, "the titles file t.csv"),
    "titles, an open quote": titles(b'1,"' + b"x" * 1_000_000, "t.csv cannot be read", "check its quotes"),
    "titles, a pipe": on_a_run(
        "recommend run --user u1 --titles t.csv",
        "t.csv cannot be read",
        "not a file",
        "--titles",
        prepare=lambda at: os.mkfifo(at / "t.csv"),
    ),
    "titles, a device": on_a_run("recommend run --user u1 --titles /dev/zero", "/dev/zero cannot be read"),
    "titles, a link to itself": on_a_run(
        "recommend run --user u1 --titles t.csv",
        "symbolic links",
        "--titles",
        prepare=lambda at: (at / "t.csv").symlink_to("t.csv"),
    ),
}

CASES = NUMBERS | ODDS


@pytest.mark.parametrize("name", CASES)
def test_hostile_words_are_told_in_one_sentence(name: str, tmp_path: Path, finished: Path) -> None:
    with little_memory():
        check(CASES[name], tmp_path, finished)


def test_divergence_in_the_very_last_step_is_told_and_leaves_no_model(tmp_path: Path) -> None:
    PLENTY(tmp_path)
    with at(tmp_path), in_time():
        seen = recblr("train", "log.csv", "--k-core", "0", *TRAIN, "--learning-rate", "1e308")
    assert_one_sentence(seen, ("weights became infinite in epoch 1", "lower --learning-rate"))
    assert not (tmp_path / "run" / "model.safetensors").exists()


USAGE = {
    "a whole number with a fraction": "train log.csv --out run --epochs 1.5",
    "a whole number in a float's clothes": "train log.csv --out run --epochs 1e3",
    "a number that is empty": ["train", "log.csv", "--out", "run", "--epochs", ""],
    "a number of too many digits": ["train", "log.csv", "--out", "run", "--epochs", "9" * 5000],
    "a number with a comma": "train log.csv --out run --learning-rate 0,1",
    "a flag with a value": "train log.csv --out run --resume=yes",
    "a flag without its value": "train log.csv --out",
    "two runs": "evaluate one two",
    "a command that is none": "trian log.csv",
    "k of nothing": ["recommend", "run", "--user", "u1", "-k", ""],
    "users in words": "synth demo.inter --users many",
}


@pytest.mark.parametrize("name", USAGE)
def test_words_that_are_no_values_are_told_with_the_usage(name: str, tmp_path: Path) -> None:
    PLENTY(tmp_path)
    before = contents(tmp_path)
    words = USAGE[name]
    with at(tmp_path), in_time():
        seen = recblr(*(words.split() if isinstance(words, str) else words))
    assert (seen.code, seen.out) == (2, "")
    assert "Error" in seen.err
    assert "Traceback" not in seen.err
    assert contents(tmp_path) == before
