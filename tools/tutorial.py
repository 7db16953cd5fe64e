"""Runs the commands of docs/tutorial.md, and writes their output into it.

    python tools/tutorial.py

A fenced block below a line `<!-- file: NAME -->` is written to that file. The commands of a bash block below
a line `<!-- screen -->` are run, and their output replaces the text block after it. A test compares the
output, except numbers that depend on the training (tests/docs/test_tutorial.py).
"""

import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
_STEP = re.compile(
    r"<!-- file: (?P<file>\S+) -->\n```\w+\n(?P<text>.*?)```\n"
    r"|<!-- screen -->\n```bash\n(?P<commands>.*?)```\n\n```text\n(?P<screen>.*?)```\n",
    re.DOTALL,
)


def commands_of(lines: str) -> list[list[str]]:
    """The words of each command. A line that ends in a backslash continues in the next line."""
    return [shlex.split(line) for line in lines.replace("\\\n", " ").splitlines() if line.strip()]


def played(page: str, folder: Path, run: Callable[[list[str], Path], str]) -> str:
    """The page with the output of `run` for every command, in a folder with the files of the page."""

    def step(found: re.Match[str]) -> str:
        if found["file"]:
            (folder / found["file"]).write_text(found["text"], encoding="utf-8")
            return found[0]
        shown = "".join(run(words, folder) for words in commands_of(found["commands"]))
        screen = "".join(f"{line.rstrip()}\n" for line in shown.splitlines())
        return f"<!-- screen -->\n```bash\n{found['commands']}```\n\n```text\n{screen}```\n"

    return _STEP.sub(step, page)


def _run(words: list[str], folder: Path) -> str:
    program = [sys.executable, "-m", "recblr"] if words[0] == "recblr" else [sys.executable]
    done = subprocess.run(
        [*program, *words[1:]], cwd=folder, capture_output=True, encoding="utf-8", check=True
    )
    return done.stdout


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        PAGE.write_text(played(PAGE.read_text(encoding="utf-8"), Path(name), _run), encoding="utf-8")
