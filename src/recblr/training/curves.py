"""RUN/curves.png: loss, learning rate and validation by epoch, drawn while a run goes on."""

import time
from contextlib import suppress
from importlib.util import find_spec
from typing import Self

from recblr.errors import InputError
from recblr.evaluation.picture import MASKINGS
from recblr.io.atomic import atomic_path
from recblr.run.folder import Run
from recblr.run.log import EpochRecord
from recblr.training.progress import SELECT_BY, Listener, TrainingStopped

PAUSE = 10.0  # seconds at least between two drawings, of 0.2 s each


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_curves(run: Run) -> None:
    """Draw the run's log into its folder, atomically; nothing where no epoch is done.

    Raises InputError where the log is damaged, the folder cannot be written to, or matplotlib is missing.
    """
    if not can_draw():
        raise InputError("curves take matplotlib: pip install 'recblr[plot]'")
    # Not pyplot, which would choose a window to draw in.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    log = run.log()
    if not log:
        return
    epochs = [record.epoch for record in log]
    figure = Figure(figsize=(7, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    loss, rate, valid = figure.subplots(3, 1, sharex=True)
    loss.plot(epochs, [record.loss for record in log], color="#222222")
    loss.set(ylabel="training loss")
    rate.plot(epochs, [record.learning_rate for record in log], color="#222222")
    rate.set(ylabel="learning rate", ylim=(0, None))
    for masking, (words, colour) in MASKINGS.items():
        valid.plot(epochs, [record.valid[masking][SELECT_BY] for record in log], color=colour, label=words)
    kept = [record for record in log if record.epoch == log[-1].best_epoch][-1:]  # its line may be deleted
    for best in kept:
        valid.plot(
            best.epoch, best.valid["unmasked"][SELECT_BY], "o", color=MASKINGS["unmasked"][1], label="kept"
        )
    valid.set(ylabel=f"validation {SELECT_BY.upper()}", xlabel="epoch", ylim=(0, None))
    valid.legend(frameon=False, loc="lower right")
    valid.xaxis.set_major_locator(MaxNLocator(integer=True))
    for axes in (loss, rate, valid):
        axes.spines[["top", "right"]].set_visible(False)
        # A single epoch has no line yet.
        for line in axes.lines:
            if len(epochs) == 1:
                line.set_marker("o")
    with atomic_path(run.curves_file) as draft:
        figure.savefig(draft, format="png", dpi=110)


class Curves(Listener):
    """A listener that keeps RUN/curves.png up to date, at no more than a few hundredths of the time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._drawn = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Draw what was not drawn yet, by a process that was killed either, unless this one is in a hurry."""
        if (kind is None or kind is TrainingStopped) and _outdated(self._run):
            self._draw()

    def end_epoch(self, record: EpochRecord) -> None:
        if time.monotonic() - self._drawn >= PAUSE:
            self._draw()

    def _draw(self) -> None:
        # What is wrong with the folder is told where it matters; a picture must not end a training.
        with suppress(InputError):
            draw_curves(self._run)
        self._drawn = time.monotonic()


def _outdated(run: Run) -> bool:
    picture, log = run.curves_file, run.log_file
    return log.exists() and not (picture.exists() and picture.stat().st_mtime_ns >= log.stat().st_mtime_ns)
