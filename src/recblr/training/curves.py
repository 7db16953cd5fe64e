"""RUN/curves.png: loss, learning rate and validation by epoch, drawn during the training."""

import time
from contextlib import suppress
from importlib.util import find_spec
from typing import Self

from recblr.errors import InputError
from recblr.evaluation.picture import MASKINGS, figure_in, format_axes
from recblr.run.folder import Run
from recblr.run.log import EpochRecord
from recblr.training.progress import SELECT_BY, Listener, TrainingStopped

PAUSE = 10.0
"""The least number of seconds between two drawings.  A drawing takes 0.2 seconds."""


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def draw_curves(run: Run) -> None:
    """Draw the log of the run into its folder, atomically.  Draws nothing before the first epoch is done.

    Raises InputError if the log is damaged, the folder cannot be written to, or matplotlib is missing.
    """
    if not can_draw():
        raise InputError("curves need matplotlib", "install it with pip install 'recblr[plot]'")
    log = run.log()
    if not log:
        return
    epochs = [record.epoch for record in log]
    with figure_in(run.curves_file, size=(7, 7.5)) as figure:
        loss, rate, valid = figure.subplots(3, 1, sharex=True)
        loss.plot(epochs, [record.loss for record in log], color="#222222")
        loss.set(ylabel="training loss")
        rate.plot(epochs, [record.learning_rate for record in log], color="#222222")
        rate.set(ylabel="learning rate", ylim=(0, None))
        for masking, (label, colour) in MASKINGS.items():
            values = [record.valid[masking][SELECT_BY] for record in log]
            valid.plot(epochs, values, color=colour, label=label)
        # The user may have deleted the line of the best epoch.
        for best in [record for record in log if record.epoch == log[-1].best_epoch][-1:]:
            value, colour = best.valid["unmasked"][SELECT_BY], MASKINGS["unmasked"][1]
            valid.plot(best.epoch, value, "o", color=colour, label="kept")
        valid.set(ylabel=f"validation {SELECT_BY.upper()}", xlabel="epoch", ylim=(0, None))
        valid.legend(frameon=False, loc="lower right")
        for axes in (loss, rate, valid):
            format_axes(axes)
            for line in axes.lines:
                if len(epochs) == 1:  # one point makes no line
                    line.set_marker("o")


class Curves(Listener):
    """A listener that keeps RUN/curves.png up to date.  It takes at most 2 % of the time."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._drawn = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Draw the epochs that are not drawn yet, also those of an earlier process.  Not after an error."""
        if (kind is None or kind is TrainingStopped) and _outdated(self._run):
            self._draw()

    def end_epoch(self, record: EpochRecord) -> None:
        if time.monotonic() - self._drawn >= PAUSE:
            self._draw()

    def _draw(self) -> None:
        # A picture must not end a training.  If the folder is damaged, other parts of the training report it.
        with suppress(InputError):
            draw_curves(self._run)
        self._drawn = time.monotonic()


def _outdated(run: Run) -> bool:
    picture, log = run.curves_file, run.log_file
    return log.exists() and not (picture.exists() and picture.stat().st_mtime_ns >= log.stat().st_mtime_ns)
