"""docs/tutorial.md shows the output of its commands."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from cli.command import at, recblr
from training.tiny_runs import one_thread
from tutorial import PAGE, commands_of, played

TEXT = PAGE.read_text(encoding="utf-8")


def run_smaller(words: list[str], folder: Path) -> str:
    """Run a command of the page in this process. A training has only one epoch, to save time."""
    with at(folder):
        if words[0] == "recblr":
            seen = recblr(*words[1:], *(("--epochs", "1") if words[1] == "train" else ()))
            assert (seen.code, seen.err) == (0, "")
            return seen.out
        shown = io.StringIO()
        with redirect_stdout(shown):
            exec(compile((folder / words[1]).read_text(encoding="utf-8"), words[1], "exec"), {})
        return shown.getvalue()


def without_chance(page: str) -> str:
    """The page without the results of the training: lines of epochs, figures, items and scores."""
    page = re.sub(r"(^epoch +\d+ .*\n)+", "epochs\n", page, flags=re.MULTILINE)
    page = re.sub(r"^best validation.*$", "best validation", page, flags=re.MULTILINE)
    page = re.sub(r"^( RecBLR)[ .\d%×bits]+$", r"\1", page, flags=re.MULTILINE)
    page = re.sub(r"^(95 % interval of \S+) .*$", r"\1", page, flags=re.MULTILINE)
    page = re.sub(r"^( +)?item +score$", "item score", page, flags=re.MULTILINE)
    page = re.sub(r"^(\d  )\S+ +-?\d+\.\d+$", r"\1item score", page, flags=re.MULTILINE)
    return re.sub(r"^next: .*$", "next:", page, flags=re.MULTILINE)


def test_the_page_shows_the_output_of_the_commands(tmp_path: Path) -> None:
    with one_thread():
        shown = played(TEXT, tmp_path, run_smaller)
    assert without_chance(shown) == without_chance(TEXT), "run python tools/tutorial.py"
    assert shown.count("written to run/report.json") == 1


def test_most_of_the_output_is_compared() -> None:
    screens = re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL)
    assert len(screens) == 5
    assert all(screen.strip() for screen in screens)
    kept = without_chance(TEXT)
    for line in ("successor", "popular", "users", "c0,", "for user c7 after", "written to"):
        assert line in kept
    assert without_chance(TEXT.replace("popular  ", "popular 9")) != kept


@pytest.mark.parametrize("words", commands_of("a b \\\n  c 'd e'\n\nf"), ids=str)
def test_a_command_may_go_on_in_the_next_line(words: list[str]) -> None:
    assert words in (["a", "b", "c", "d e"], ["f"])
