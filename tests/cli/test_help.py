"""Help: every command has a worked example that fits on a line and works."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cli.command import SMALL, Seen, at, recblr, shell
from data.publisher import publish

from recblr import __version__
from recblr.cli import commands  # noqa: F401  registers them
from recblr.cli.app import app
from recblr.config import OPTIONS
from recblr.experiments import RECIPES

COMMANDS = {info.callback.__name__: info for info in app.registered_commands if info.callback}


def examples(command: str) -> list[str]:
    return re.findall(r"\[bold\](.*?)\[/bold\]", COMMANDS[command].epilog or "")


def test_the_commands_are_the_documented_ones() -> None:
    assert set(COMMANDS) == {
        "train", "evaluate", "compare", "recommend", "similar", "embeddings", "export", "serve",
        "reproduce", "download", "synth", "doctor",
    }  # fmt: skip


def test_the_version_is_the_version_of_the_package() -> None:
    seen = recblr("--version")
    assert (seen.code, seen.out) == (0, f"recblr {__version__}\n")


@pytest.mark.parametrize("flag", ["--help", "-h"])
@pytest.mark.parametrize("command", COMMANDS)
def test_help_shows_a_worked_example_and_fits(command: str, flag: str) -> None:
    seen = recblr(command, flag)
    assert (seen.code, seen.err) == (0, "")
    assert examples(command)
    lines = [line.strip() for line in seen.out.splitlines()]
    for example in examples(command):
        assert example.startswith(f"recblr {command}") or command == "synth"
        assert example in lines  # whole, on a line of its own
    assert max(map(len, seen.out.splitlines())) <= 80
    assert "[bold]" not in seen.out


def test_every_option_is_in_its_panel_with_its_default() -> None:
    panels = {
        panel.split(" ─")[0].strip().lower(): panel
        for panel in recblr("train", "--help").out.split("╭─ ")[1:]
    }
    for key, option in OPTIONS.items():
        if option.type is tuple:
            continue
        (row,) = re.findall(rf"│ --{key} (?:.|\n)*?(?=│ --|╰)", panels[option.table])
        words = " ".join(row.replace("│", " ").split())
        assert option.help in words
        if option.default is not None and option.type is not bool:
            assert f"[default: {option.default}]" in words


def test_the_first_help_lists_every_command() -> None:
    seen = recblr("--help")
    assert seen.code == 0
    for command in COMMANDS:
        assert re.search(rf"^│ {command} ", seen.out, re.MULTILINE)


def test_without_a_command_there_is_help() -> None:
    assert "Usage: recblr" in recblr().out


@pytest.mark.parametrize(
    "words", [["trian"], ["train", "--colour", "red"], ["train"], ["recommend", "run", "-k", "many"]]
)
def test_a_typing_mistake_gives_exit_code_2_and_no_output(words: list[str]) -> None:
    seen = recblr(*words)
    assert (seen.code, seen.out) == (2, "")
    assert "Usage: recblr" in seen.err
    assert "Traceback" not in seen.err


def run_example(line: str, *more: str) -> Seen:
    return recblr(*shlex.split(line)[1:], *more)


def test_the_examples_work(tmp_path: Path) -> None:
    with at(tmp_path):
        # Films and users with the ids of the examples.  Each user watches a few films in the same order.
        films = ["1270", "1721", "1022", *map(str, range(9))]
        rows = [f"{user},{film},{at}" for user in range(30, 60) for at, film in enumerate(films[user % 3 :])]
        Path("ratings.csv").write_text("\n".join(["user_id,movie,timestamp", *rows]) + "\n")
        Path("movies.dat").write_text("1270::Back to the Future (1985)::Comedy\n")

        csv, resumed, repeated = examples("train")
        assert run_example(csv, *SMALL, "--epochs", "1").code == 0
        for line in examples("evaluate"):
            assert run_example(line).code == 0, line
        for command in ("recommend", "similar", "embeddings", "export"):
            for line in examples(command):
                assert run_example(line).code == 0, line

        shutil.copytree("run", "other")
        for line in examples("compare"):
            assert run_example(line).code == 0, line

        shutil.rmtree("run/checkpoints")
        for line in (resumed, repeated):
            assert run_example(line).code == 0, line

        Path("run").rename("ratings")
        for line, more in zip(examples("synth"), ([], [*SMALL, "--epochs", "1"]), strict=True):
            assert run_example(line, *more).code == 0, line
        assert run_example(*examples("doctor")).code == 0
        with pytest.MonkeyPatch.context() as patch:
            publish(tmp_path, patch)
            for line in examples("download"):
                assert run_example(line, "--from", str(tmp_path)).code == 0, line
            few = {"users": 9, "items": 9, "interactions": 81}
            for name in RECIPES:
                patch.setitem(RECIPES, name, replace(RECIPES[name], **few))  # type: ignore[arg-type]
            Path("Beauty.txt").write_text("".join(f"{user} {' '.join('123456789')}\n" for user in range(9)))
            for line in examples("reproduce"):
                assert run_example(line, *SMALL, "--epochs", "1").code == 0, line


def test_help_needs_no_torch() -> None:
    # The help must appear at once, and also if torch is broken.
    code = (
        "import sys; sys.modules['torch'] = None; sys.argv = ['recblr', 'train', '--help']\n"
        "from recblr.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "Usage: recblr train" in done.stdout


def test_help_without_a_terminal_is_plain_text() -> None:
    seen = shell("train", "--help")
    assert seen.code == 0
    assert "\x1b" not in seen.out
