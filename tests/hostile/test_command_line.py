"""Wrong words on the command line: values out of range, contradictions, and misplaced words."""

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
GOOD_LOG = text(HEADER + ROWS)


def option(*words: str, says: tuple[str, ...]) -> Bad:
    return train("log.csv", "--k-core", "0", *words, says=says, prepare=GOOD_LOG)


def on_a_run(words: str, *says: str, prepare: Callable[[Path], object] = lambda _: None) -> Bad:
    return Bad(words, says, prepare, run=True)


def resumed(words: str, *says: str, prepare: Callable[[Path], object] = GOOD_LOG) -> Bad:
    return on_a_run(f"train --out run --resume {words}", *says, prepare=prepare)


def titles(content: bytes, *says: str) -> Bad:
    return on_a_run("recommend run --user u1 --titles t.csv", *says, prepare=text(content, "t.csv"))


NUMBERS: dict[str, Bad] = {
    "width larger than memory": option(
        "--d-model", "10000000", says=("not enough memory", "--d-model 10000000")
    ),
    "width larger than any machine": option("--d-model", HUGE, says=("--d-model", HUGE)),
    "more layers than memory": option(
        "--num-layers", "1000000000", says=("not enough memory", "--num-layers")
    ),
    "more layers than any machine": option("--num-layers", HUGE, says=("--num-layers", HUGE)),
    "recurrence larger than memory": option(
        "--expand", "1e8", says=("not enough memory", "--expand 100000000.0")
    ),
    "recurrence larger than any float": option(
        "--expand", "1e400", says=("--expand must be a number", "inf")
    ),
    "recurrence of width 0": option("--expand", "1e-300", says=("--expand must be a number",)),
    "recurrence of nan": option("--expand", "nan", says=("--expand must be a number", "nan")),
    "convolution larger than memory": option(
        "--d-conv", "2000000000", says=("not enough memory", "--d-conv")
    ),
    "convolution of width 0": option("--d-conv", "0", says=("--d-conv must be at least 1",)),
    "endless padding": option("--padding-leak", "--max-length", HUGE, says=("--max-length", HUGE)),
    "padding without --max-length": option("--padding-leak", says=("--padding-leak must come with max",)),
    "length of 0": option("--max-length", "0", says=("--max-length must be at least 1",)),
    "length below 0": option("--max-length", "-1", says=("--max-length must be at least 1",)),
    "minus 0": option("--epochs", "-0", says=("--epochs must be at least 1, but is 0",)),
    "rate of minus 0": option("--learning-rate", "-0.0", says=("--learning-rate must be a positive",)),
    "rate larger than any float": option("--learning-rate", "1e400", says=("--learning-rate must be", "inf")),
    "warm-up in all steps": option("--warmup", "1", says=("--warmup must lie in [0, 1)",)),
    "average with decay 1": option("--ema", "1", says=("--ema must lie in [0, 1)",)),
    "average of nan": option("--ema", "nan", says=("--ema must lie in [0, 1)", "nan")),
    "decay below 0": option("--weight-decay", "-1", says=("--weight-decay must be 0 or a positive",)),
    "infinite decay": option("--weight-decay", "inf", says=("--weight-decay must be 0 or",)),
    "norm of nan": option("--clip-norm", "nan", says=("--clip-norm must be 0 or a positive", "nan")),
    "checkpoints every nan minutes": option(
        "--checkpoint-minutes", "nan", says=("--checkpoint-minutes must be",)
    ),
    "checkpoints every -1 minutes": option("--checkpoint-minutes", "-1", says=("--checkpoint-minutes",)),
    "epsilon below 0": option("--beta-epsilon", "-1e-8", says=("--beta-epsilon must be 0 or",)),
    "epsilon of nan": option("--beta-epsilon", "nan", says=("--beta-epsilon must be 0 or", "nan")),
    "dropout of 1": option("--ffn-dropout", "1", says=("--ffn-dropout must lie in [0, 1)",)),
    "no negatives": option("--loss", "bpr", "--negatives", "0", says=("--negatives must be at least 1",)),
    "more negatives than memory": option("--loss", "bpr", "--negatives", HUGE, says=("--negatives", HUGE)),
    "no sequences": option("--samples", "prefixes", "--batch-sequences", "0", says=("--batch-sequences",)),
    "calibration above 1": option(
        "--loss", "gbce", "--gbce-t", "1.01", says=("--gbce-t must lie in [0, 1]",)
    ),
    "fewest events of a user below 0": option(
        "--min-user-events",
        "-1",
        says=("--min-user-events", "of a user, and it is -1", "0 to keep everything"),
    ),
    "fewest events of an item that nothing reaches": option(
        "--min-item-events",
        "10000",
        says=("items with fewer than 10000 interactions", "lower --min-item-events"),
    ),
    "core below 0": option("--k-core", "-5", says=("--k-core", "-5", "0 to keep everything")),
    "column with an empty name": option(
        "--user-column", "", says=("log.csv has no column ''", "--user-column")
    ),
    "threshold of nan": option("--min-rating", "nan", says=("--min-rating", "nan")),
    "share of 1": option("--split", "time", "--test-share", "1", says=("--test-share", "between 0 and 1")),
    "share of 0": option("--split", "time", "--valid-share", "0", says=("--valid-share", "between 0")),
    "share below 0": option("--split", "time", "--test-share", "-0.1", says=("--test-share", "-0.1")),
    "share of nan": option("--split", "time", "--test-share", "nan", says=("--test-share", "nan")),
    "share for validation above 1": option("--valid-share", "1.1", says=("--valid-share", "up to 1")),
    "shares with a sum above 1": option(
        "--split", "time", "--test-share", "0.6", "--valid-share", "0.6", says=("leave nothing to train on",)
    ),
    "synth without end": Bad(f"synth demo.inter --users {HUGE}", ("--users must", HUGE)),
    "synth larger than memory": Bad("synth demo.inter --users 10000000000", ("--users must", "10000000000")),
}

CONTRADICTIONS: dict[str, Bad] = {
    "share for testing without --split time": option(
        "--test-share", "0.2", says=("goes with a split by time", "--split time")
    ),
    "unknown loss": option(
        "--loss", "crossentropy", says=("--loss must be one of", "do you mean cross-entropy?")
    ),
    "unknown split": option("--split", "loo", says=("--split must be one of", "leave-one-out")),
    "empty loss": option("--loss", "", says=("--loss must be one of",)),
    "loss in capitals": option("--loss", "BPR", says=("--loss must be one of",)),
    "calibrated for other negatives": option(
        "--loss", "gbce", "--negatives-from", "popularity", says=("--negatives-from", "another loss")
    ),
    "no data": Bad("train --out run", ("there are no data to train on", "give DATA")),
    "resume without a folder": Bad(
        "train --out run --resume",
        ("there is no folder run, so there is no run to continue", "check --out, or give DATA"),
    ),
    "resume without a run": Bad(
        "train --out run --resume",
        ("run holds no run (there is no run.json)", "check --out, or give DATA"),
        lambda at: (at / "run").mkdir(),
    ),
    "resume a file": Bad(
        "train --out log.csv --resume", ("log.csv holds no run", "check --out, or give DATA"), GOOD_LOG
    ),
    "resume a link to nowhere": Bad(
        "train --out run --resume", ("run holds no run", "--out"), lambda at: (at / "run").symlink_to("none")
    ),
    "resume without a run, with a config of no data": Bad(
        "train --config c.toml --out run --resume",
        ("there is no folder run", "give DATA"),
        text("[optimisation]\nepochs = 1\n", "c.toml"),
    ),
    "resume with another width": resumed("--d-model 8", "started with --d-model 16, not 8"),
    "resume with another split": resumed("--split time", "started with --split leave-one-out, not time"),
    "resume with a minimum of its own": resumed(
        "--min-item-events 3", "run was started without --min-item-events, not with 3"
    ),
    "resume with users of few events": resumed("--keep-short", "started with --keep-short False, not True"),
    "resume with another loss": resumed("--loss bpr", "started with --loss cross-entropy, not bpr"),
    "resume with other data": resumed("log.csv", "was started", "--out"),
    "resume with missing data": resumed("none.csv", "there is no file none.csv"),
    "resume with a config of another run": resumed(
        "--config other.toml",
        "run was started with",
        "resume with the same options",
        prepare=text("[model]\nd-model = 8\n", "other.toml"),
    ),
    "empty user": on_a_run(["recommend", "run", "--user", ""], "no user ''"),  # type: ignore[arg-type]
    "user with spaces": on_a_run(["recommend", "run", "--user", " u1"], "no user ' u1'"),  # type: ignore[arg-type]
    "user with line breaks": on_a_run(["recommend", "run", "--user", "u1\nu2"], r"no user 'u1\nu2'"),  # type: ignore[arg-type]
    "user of 100,000 letters": on_a_run(["recommend", "run", "--user", "u" * 100_000], "no user 'uuu", "…"),  # type: ignore[arg-type]
    "user that is not valid text": on_a_run(["recommend", "run", "--user", "\udce9"], r"no user '\udce9'"),  # type: ignore[arg-type]
    "history with an unknown item": on_a_run("recommend run --history s01e01,nope,s01e02", "no item 'nope'"),
    "history of 100,000 letters": on_a_run(["recommend", "run", "--history", "x" * 100_000], "no item", "…"),  # type: ignore[arg-type]
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
        prepare=lambda at: (GOOD_LOG(at), os.mkfifo(at / "run")),
    ),
    "out that is a link to nowhere": train(
        "log.csv",
        "--k-core",
        "0",
        says=("cannot make the folder run", "--out"),
        prepare=lambda at: (GOOD_LOG(at), (at / "run").symlink_to("none")),
    ),
    "out with line breaks": Bad(
        ["train", "log.csv", "--k-core", "0", "--out", "log.csv/a\nb"], (r"log.csv/a\nb",), GOOD_LOG
    ),
    "synth into a folder": Bad(
        "synth folder.inter",
        ("cannot write folder.inter", "choose"),
        lambda at: (at / "folder.inter").mkdir(),
    ),
    "synth into a name too long": Bad(
        ["synth", "x" * 300 + ".inter"], ("cannot write", "File name too long")
    ),
    "download of an unknown dataset": Bad("download ml-2m", ("ml-2m", "ml-1m")),
    "download from a folder without the files": Bad("download ml-1m --from .", ("ml-1m",)),
    "download over a file": Bad("download ml-1m --from . --to there", ("there",), text("", "there")),
    "titles, zero bytes only": titles(b"\0" * 9999, "t.csv has no line with an id and a title"),
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

CASES = NUMBERS | CONTRADICTIONS


@pytest.mark.parametrize("name", CASES)
def test_hostile_words_give_one_sentence(name: str, tmp_path: Path, finished: Path) -> None:
    with little_memory():
        check(CASES[name], tmp_path, finished)


def test_divergence_in_the_last_step_gives_an_error_and_leaves_no_model(tmp_path: Path) -> None:
    GOOD_LOG(tmp_path)
    with at(tmp_path), in_time():
        seen = recblr("train", "log.csv", "--k-core", "0", *TRAIN, "--learning-rate", "1e308")
    assert_one_sentence(seen, ("weights became infinite in epoch 1", "lower --learning-rate"))
    assert not (tmp_path / "run" / "model.safetensors").exists()


USAGE = {
    "a whole number with a fraction": "train log.csv --out run --epochs 1.5",
    "a whole number written as a float": "train log.csv --out run --epochs 1e3",
    "a number that is empty": ["train", "log.csv", "--out", "run", "--epochs", ""],
    "a number with too many digits": ["train", "log.csv", "--out", "run", "--epochs", "9" * 5000],
    "a number with a comma": "train log.csv --out run --learning-rate 0,1",
    "a flag with a value": "train log.csv --out run --resume=yes",
    "a flag without its value": "train log.csv --out",
    "two runs": "evaluate one two",
    "an unknown command": "trian log.csv",
    "an empty k": ["recommend", "run", "--user", "u1", "-k", ""],
    "users in words": "synth demo.inter --users many",
}


@pytest.mark.parametrize("name", USAGE)
def test_words_that_are_not_values_give_an_error_with_the_usage(name: str, tmp_path: Path) -> None:
    GOOD_LOG(tmp_path)
    before = contents(tmp_path)
    words = USAGE[name]
    with at(tmp_path), in_time():
        seen = recblr(*(words.split() if isinstance(words, str) else words))
    assert (seen.code, seen.out) == (2, "")
    assert "Error" in seen.err
    assert "Traceback" not in seen.err
    assert contents(tmp_path) == before
