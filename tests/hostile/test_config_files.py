"""Config files that an editor, a script or an attacker has damaged."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cli.command import SMALL, recblr
from hostile.rows import HEADER, ROWS, Bad, at, check, text

WORDS = "train log.csv --out run --config c.toml"
DIGITS = "9" * 400


def config(content: str | bytes, *says: str) -> Bad:
    return Bad(WORDS, says, lambda at: (text(HEADER + ROWS)(at), text(content, "c.toml")(at)))


def elsewhere(prepare: Callable[[Path], object], *says: str) -> Bad:
    return Bad(WORDS, says, lambda at: (text(HEADER + ROWS)(at), prepare(at)))


CASES: dict[str, Bad] = {
    "a pipe": elsewhere(
        lambda at: os.mkfifo(at / "c.toml"),
        "cannot read the config file c.toml",
        "not a file",
        "give another file",
    ),
    "a device": elsewhere(
        lambda at: (at / "c.toml").symlink_to("/dev/zero"), "cannot read the config file", "a device"
    ),
    "a link to itself": elsewhere(
        lambda at: (at / "c.toml").symlink_to("c.toml"), "cannot read the config file", "symbolic"
    ),
    "a link to nowhere": elsewhere(
        lambda at: (at / "c.toml").symlink_to("none"), "there is no config file c.toml"
    ),
    "a folder": elsewhere(
        lambda at: (at / "c.toml").mkdir(), "cannot read the config file c.toml", "Is a directory"
    ),
    "UTF-16": config("[model]\nd-model = 16\n".encode("utf-16"), "c.toml is not TOML"),
    "a zero byte": config("[model]\nd-model = 16\n\0", "c.toml is not TOML"),
    "a zero character in a path": Bad(
        "train --out run --config c.toml",
        (r"the path 'a\x00b.csv' holds a zero character",),
        text('[data]\npaths = ["a\\u0000b.csv"]', "c.toml"),
    ),
    "a zero character in a column": config('[data]\nuser-column = "a\\u0000b"', r"no column 'a\x00b'"),
    "a surrogate": config('[data]\nuser-column = "\\ud800"', "c.toml is not TOML"),
    "a whole number of 400 digits for a number": config(
        f"[optimisation]\nlearning-rate = {DIGITS}", "learning-rate in [optimisation] must be a number", "…"
    ),
    "a whole number of 400 digits": config(
        f"[optimisation]\nepochs = {DIGITS}", "c.toml: --epochs must be at most", "999"
    ),
    "a whole number of 5000 digits": config(f"[optimisation]\nepochs = {'9' * 5000}", "c.toml is not TOML"),
    "a number larger than any float": config(
        "[optimisation]\nlearning-rate = 1e400", "--learning-rate must be", "inf"
    ),
    "not a number": config("[model]\ndropout = nan", "c.toml: --dropout must lie in [0, 1), but is nan"),
    "minus 0": config("[optimisation]\nlearning-rate = -0.0", "--learning-rate must be", "-0.0"),
    "a number in quotes": config('[model]\nd-model = "16"', "d-model in [model] must be a whole number"),
    "a date": config("[model]\nd-model = 1979-05-27T07:32:00Z", "must be a whole number, but is 1979"),
    "an impossible date": config("[model]\nd-model = 1979-13-99", "c.toml is not TOML"),
    "a nested table": config("[model.zzz.deeper]\nd-model = 16", "there is no zzz in [model]"),
    "a list of tables": config("[[model]]\nd-model = 16", "model is a table; write [model]"),
    "a table twice": config("[model]\nd-model = 16\n[model]\nd-conv = 4", "is not TOML", "twice"),
    "a table within a list": config("[data]\npaths = [{a = 1}]", "paths in [data] must be a list of texts"),
    "lists within a list": config('[data]\npaths = [["log.csv"]]', "paths in [data] must be a list of texts"),
    "an empty list of paths": config("[data]\npaths = []\n[model]\nzzz = 1", "there is no zzz in [model]"),
    "an empty path": Bad(
        "train --out run --config c.toml", ("the folder . holds",), text('[data]\npaths = [""]', "c.toml")
    ),
    "no path at all": Bad(
        "train --out run --config c.toml",
        ("there are no data to train on",),
        text("[data]\npaths = []", "c.toml"),
    ),
    "an empty key": config('[model]\n"" = 1', "there is no  in [model]"),
    "a key of line breaks": config('[model]\n"a\\nb" = 1', r"there is no a\nb in [model]"),
    "a key of 100,000 letters": config(f"[model]\n{'k' * 100_000} = 1", "c.toml: there is no kkk", "…"),
    "a table of 100,000 letters": config(f"[{'t' * 100_000}]", "c.toml: there is no table [ttt", "…"),
    "5,000 dots in a key": config("a" + ".a" * 5_000 + " = 1", "c.toml: there is no table [a]"),
    "a string without a closing quote": config('[data]\nformat = "' + "x" * 100_000, "c.toml is not TOML"),
    "options that contradict each other": config(
        '[loss]\nloss = "gbce"\nnegatives-from = "popularity"', "--loss gbce"
    ),
    "the word None": config("[model]\nmax-length = None", "c.toml is not TOML"),
    "JSON": config('{"model": {"d-model": 16}}', "c.toml is not TOML"),
    "YAML": config("model:\n  d-model: 16\n", "c.toml is not TOML"),
    "INI": config("[model]\nd-model: 16\n", "c.toml is not TOML"),
    "a path where the column was meant": config('[data]\nuser-column = "log.csv"', "no column 'log.csv'"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_config_gives_one_sentence(name: str, tmp_path: Path, finished: Path) -> None:
    check(CASES[name], tmp_path, finished)


@pytest.mark.parametrize("how", ["byte order mark", "carriage returns", "no line break at the end"])
def test_changes_by_editors_do_not_harm_a_config(how: str, tmp_path: Path) -> None:
    text(HEADER + ROWS)(tmp_path)
    plain = "[data]\nk-core = 0\n[optimisation]\nepochs = 1"
    changed = {
        "byte order mark": b"\xef\xbb\xbf" + plain.encode(),
        "carriage returns": plain.replace("\n", "\r\n").encode() + b"\r\n",
        "no line break at the end": plain.encode(),
    }
    text(changed[how], "c.toml")(tmp_path)
    with at(tmp_path):
        seen = recblr(*WORDS.split(), *SMALL)
    assert (seen.code, seen.err) == (0, "")
