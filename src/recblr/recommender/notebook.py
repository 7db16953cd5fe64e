"""What a notebook or a terminal shows: the progress of a training, and a report as a table."""

from __future__ import annotations

import html
import importlib
import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console

from recblr.evaluation.report_table import print_report
from recblr.run.log import EpochRecord
from recblr.training.progress import SELECT_BY, Listener, Step

_PAUSE = 0.25
"""Seconds between two changes of the bar in a notebook: each one is a message to the browser."""


class ShownReport(dict[str, Any]):
    """A report, as `recblr.evaluation.read_report` returns it, that a notebook shows as tables."""

    def _repr_html_(self) -> str:
        console = Console(file=io.StringIO(), record=True, width=110, force_jupyter=False)
        print_report(self, console)
        return console.export_html(
            inline_styles=True, code_format='<pre style="line-height:1.25">{code}</pre>'
        )

    def __str__(self) -> str:
        file = io.StringIO()
        print_report(self, Console(file=file, width=110, force_jupyter=False))
        return file.getvalue()


class NotebookProgress(Listener):
    """Shows a training in a notebook: a bar, and below it the epochs."""

    def __init__(self) -> None:
        ipython = importlib.import_module("IPython.display")
        self._html, self._lines = ipython.HTML, list[str]()
        self._handle: Any = ipython.display(ipython.HTML(""), display_id=True)
        self._epoch = self._epochs = self._targets = self._done = 0
        self._note, self._shown = "", 0.0

    def start_epoch(self, epoch: int, epochs: int, targets: int, users: int, done: int) -> None:
        self._epoch, self._epochs, self._targets, self._done = epoch, epochs, targets, done
        self._show()

    def trained(self, step: Step) -> None:
        self._done += step.targets
        self._note = f"loss {step.loss:.3f}"
        if time.monotonic() - self._shown >= _PAUSE:
            self._show()

    def validated(self, users: int) -> None:
        self._note = f"validating, {users:,} users"
        if time.monotonic() - self._shown >= _PAUSE:
            self._show()

    def end_epoch(self, record: EpochRecord) -> None:
        best = " *" if record.best_epoch == record.epoch else ""
        figure = record.valid["unmasked"][SELECT_BY]
        self._lines.append(
            f"epoch {record.epoch:3}  loss {record.loss:.4f}  {SELECT_BY.upper()} {figure:.4f}"
            f"  {record.train_seconds + record.valid_seconds:.1f} s{best}"
        )
        self._done = self._targets
        self._show()

    def _show(self) -> None:
        self._shown = time.monotonic()
        whole = max(1, self._epochs * self._targets)
        done = (self._epoch - 1) * self._targets + self._done
        lines = html.escape("\n".join(self._lines))
        self._handle.update(
            self._html(
                f'<progress value="{done}" max="{whole}"></progress> epoch {self._epoch}/{self._epochs}, '
                f"{html.escape(self._note)}<pre>{lines}</pre>"
            )
        )


@contextmanager
def shown_training(shown: bool | None) -> Iterator[Listener]:
    """A listener that shows a training.

    shown: None shows it in a notebook and in a terminal; True also elsewhere; False nowhere.
    """
    if (shown is None and not (in_notebook() or sys.stdout.isatty())) or shown is False:
        yield Listener()
    elif in_notebook():
        yield NotebookProgress()
    else:
        from recblr.cli.display import TrainingDisplay

        with TrainingDisplay(Console()) as display:
            yield display


def in_notebook() -> bool:
    """Whether this is a notebook, which can show HTML."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")
