"""In a terminal, bars show the speed and the time left.  The line of each epoch stays on the screen."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from pathlib import Path

from cli.command import ENVIRONMENT
from rich.console import Console
from training.tiny_runs import tiny_config, tiny_dataset

from recblr.cli.display import TrainingDisplay, ranking_display
from recblr.training import Run, Step, train


def shown(text: str) -> str:
    """The text without the terminal's control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=120, legacy_windows=False)


def test_bars_show_speed_and_time_left(tmp_path: Path) -> None:
    console = terminal()
    with TrainingDisplay(console) as display:
        display._bars.live.auto_refresh = False
        display.start_epoch(2, 4, 1000, 50, 0)
        for number in range(5):
            display.trained(Step(number, 100, 3.5, 0.001))
        display._bars.refresh()
        display.validated(20)
        display._bars.refresh()
    text = shown(console.file.getvalue())  # type: ignore[attr-defined]
    assert re.search(r"training .* 1500/4000 .*left", text)  # includes the targets of the first epoch
    assert re.search(r"epoch 2/4 .* 500/1000 loss 3\.500  [\d,]+ tokens/s left", text)
    assert re.search(r"validation .* 20/50 ", text)


def test_an_epochs_line_stays_in_the_terminal(tmp_path: Path) -> None:
    console = terminal()
    with TrainingDisplay(console) as display:
        train(tiny_dataset(), Run(tmp_path / "run"), tiny_config(epochs=2), listener=display)
    text = shown(console.file.getvalue())  # type: ignore[attr-defined]
    assert re.search(r"epoch   1  loss \d\.\d{4}  NDCG@10 0\.\d{4}  unseen 0\.\d{4}  [\d,]+ tokens/s", text)
    assert "epoch   2" in text


def test_ranking_shows_the_name_of_the_model() -> None:
    console = terminal()
    with ranking_display(console) as progress:
        progress("popular", 3, 60)
    assert "ranking for popular" in shown(console.file.getvalue())  # type: ignore[attr-defined]


def test_without_a_terminal_there_are_no_bars(tmp_path: Path) -> None:
    console = Console(file=io.StringIO(), force_terminal=False, width=120)
    with TrainingDisplay(console) as display:
        train(tiny_dataset(), Run(tmp_path / "run"), tiny_config(epochs=2), listener=display)
    with ranking_display(console) as progress:
        progress("popular", 3, 60)
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split()[1] for line in lines] == ["1", "2"]


def test_a_closed_pipe_is_no_error(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "recblr", "synth", str(tmp_path / "d.inter"), "--users", "9"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()  # as `| head -0` does
    complaint = process.stderr.read().decode()
    process.stderr.close()
    process.wait(timeout=60)
    assert complaint == ""
