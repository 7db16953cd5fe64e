"""curves.png: the picture of the log is kept up to date at little cost, and never stops a training."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from training.tiny_runs import contents, tiny_config, tiny_dataset, trained_to

from recblr.errors import InputError
from recblr.training import Run, TrainingStopped, curves, train
from recblr.training.curves import Curves, draw_curves

pytest.importorskip("matplotlib", reason="curves need matplotlib, the extra `plot`")

PNG = b"\x89PNG\r\n\x1a\n"


def drawings(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of epochs in the log at each drawing."""
    counts: list[int] = []

    def spy(run: Run) -> None:
        counts.append(len(run.log()))
        draw_curves(run)

    monkeypatch.setattr(curves, "draw_curves", spy)
    return counts


@pytest.mark.parametrize("epochs", [1, 3])
def test_the_picture_shows_the_whole_log(tmp_path: Path, epochs: int) -> None:
    run = Run(tmp_path / "run")
    train(tiny_dataset(), run, tiny_config(epochs=epochs))
    draw_curves(run)
    first = run.curves_file.read_bytes()
    assert first.startswith(PNG)
    draw_curves(run)
    assert run.curves_file.read_bytes() == first
    lines = run.log_file.read_text().splitlines()
    run.log_file.write_text("\n".join([*lines, lines[-1].replace(f'"epoch": {epochs}', '"epoch": 9')]))
    draw_curves(run)
    assert run.curves_file.read_bytes() != first


@pytest.mark.parametrize("deleted", [1, 2, 3, 4])
def test_a_log_with_a_line_deleted_is_drawn_by_its_own_epochs(
    tmp_path: Path, deleted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.axes import Axes

    run = Run(tmp_path / "run")
    train(tiny_dataset(), run, tiny_config())
    left = [record for record in run.log() if record.epoch != deleted]
    lines = run.log_file.read_text().splitlines(keepends=True)
    run.log_file.write_text("".join(lines[: deleted - 1] + lines[deleted:]))
    drawn: list[tuple[Any, ...]] = []
    plot = Axes.plot

    def spy(self: Axes, *arguments: Any, **options: Any) -> Any:
        drawn.append(arguments)
        return plot(self, *arguments, **options)

    monkeypatch.setattr(Axes, "plot", spy)
    draw_curves(run)
    assert run.curves_file.read_bytes().startswith(PNG)
    assert drawn[0] == ([record.epoch for record in left], [record.loss for record in left])
    best = [record for record in left if record.epoch == left[-1].best_epoch]
    marks = [point[:2] for point in drawn if "o" in point]
    assert marks == [(record.epoch, record.valid["unmasked"]["ndcg@10"]) for record in best]


def test_it_is_drawn_at_the_end_and_after_each_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = drawings(monkeypatch)
    with Curves(Run(tmp_path / "one")) as listener:
        train(tiny_dataset(), Run(tmp_path / "one"), tiny_config(), listener=listener)
    assert counts == [4]
    monkeypatch.setattr(curves, "PAUSE", 0.0)
    with Curves(Run(tmp_path / "two")) as listener:
        train(tiny_dataset(), Run(tmp_path / "two"), tiny_config(), listener=listener)
    assert counts == [4, 1, 2, 3, 4]


def test_a_stopped_run_is_drawn_but_a_failed_run_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends_with(error: type[BaseException]) -> None:
        run = Run(tmp_path / error.__name__)
        with Curves(run) as listener:
            train(tiny_dataset(), run, tiny_config(epochs=1), listener=listener)
            raise error("ends here")

    counts = drawings(monkeypatch)
    for error in (TrainingStopped, KeyboardInterrupt, InputError):
        with pytest.raises(error):
            ends_with(error)
    assert counts == [1]


def test_a_run_that_was_killed_before_its_last_drawing_is_drawn_once_when_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path / "run")
    train(tiny_dataset(), run, tiny_config())
    counts = drawings(monkeypatch)
    for _ in range(2):
        with Curves(run) as listener:
            train(tiny_dataset(), run, tiny_config(), resume=True, listener=listener)
    assert counts == [4]


def test_a_damaged_log_does_not_end_the_training(tmp_path: Path) -> None:
    run = trained_to(tmp_path / "run", 1, tiny_dataset(), tiny_config())
    run.log_file.write_text("damaged\n")
    with Curves(run) as listener:
        train(tiny_dataset(), run, tiny_config(), resume=True, listener=listener)
    assert not run.curves_file.exists()
    with pytest.raises(InputError, match="line 1 is damaged"):
        draw_curves(run)


def test_without_an_epoch_there_is_nothing_to_draw(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.create(tiny_dataset(), tiny_config())
    before = contents(run.folder)
    draw_curves(run)
    assert contents(run.folder) == before


def test_no_window_system_is_used(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    train(tiny_dataset(), run, tiny_config(epochs=1))
    code = (
        "import sys; from pathlib import Path; from recblr.training import Run, curves\n"
        "curves.draw_curves(Run(Path(sys.argv[1])))\n"
        "loaded = [m for m in sys.modules if m.startswith('matplotlib.backends.backend_')]\n"
        "print('matplotlib.pyplot' in sys.modules, loaded)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, run.folder], capture_output=True, text=True, check=True
    )
    assert done.stdout == "False ['matplotlib.backends.backend_agg']\n"


def test_without_matplotlib_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "can_draw", lambda: False)
    with pytest.raises(
        InputError, match=r"curves need matplotlib; install it with pip install 'recblr\[plot\]'"
    ):
        draw_curves(Run(tmp_path))
