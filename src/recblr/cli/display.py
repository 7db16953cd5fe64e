"""Shows the progress of a training or an evaluation: bars in a terminal, and one line for each epoch."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from recblr.run.log import EpochRecord
from recblr.training.progress import SELECT_BY, Listener, Step


def _bars(console: Console, *columns: TextColumn) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        *columns,
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


class TrainingDisplay(Listener):
    """Shows a training: one bar for the whole run, one bar for the epoch, and one line for each epoch.

    title: the text beside the bar of the run.
    """

    def __init__(self, console: Console, title: str = "training") -> None:
        self._console = console
        self._bars = _bars(console, TextColumn("{task.fields[note]}"))
        self._run = self._bars.add_task(title, total=None, note="")
        self._epoch = self._bars.add_task("epoch", total=None, note="")
        self._loss = 0.0

    def __enter__(self) -> "TrainingDisplay":
        self._bars.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._bars.stop()

    def show_saving(self) -> None:
        """Show that the run is being saved and will then stop."""
        self._bars.update(self._run, description="saving")

    def start_epoch(self, epoch: int, epochs: int, targets: int, users: int, done: int) -> None:
        if self._bars.tasks[0].total is None:
            self._bars.update(self._run, total=epochs * targets, completed=(epoch - 1) * targets + done)
        description = f"epoch {epoch}/{epochs}"
        self._bars.reset(self._epoch, total=targets, completed=done, description=description, note="")
        self._users = users
        self._validating = False

    def trained(self, step: Step) -> None:
        self._bars.advance(self._run, step.targets)
        self._bars.advance(self._epoch, step.targets)
        speed = self._bars.tasks[1].speed
        self._loss = step.loss if self._loss == 0 else 0.98 * self._loss + 0.02 * step.loss
        note = f"loss {self._loss:.3f}" + (f"  {speed:,.0f} tokens/s" if speed else "")
        self._bars.update(self._epoch, note=note)

    def validated(self, users: int) -> None:
        if not self._validating:
            self._validating = True
            self._bars.reset(self._epoch, total=self._users, description="validation", note="users")
        self._bars.update(self._epoch, completed=users)

    def end_epoch(self, record: EpochRecord) -> None:
        speed = record.targets / max(record.train_seconds, 1e-9)
        name = SELECT_BY.upper()
        self._console.print(
            f"epoch {record.epoch:3}  loss {record.loss:.4f}"
            f"  {name} {record.valid['unmasked'][SELECT_BY]:.4f}"
            f"  unseen {record.valid['masked'][SELECT_BY]:.4f}"
            f"  {speed:,.0f} tokens/s  {record.train_seconds + record.valid_seconds:.1f} s"
            + ("  *" if record.best_epoch == record.epoch else ""),
            highlight=False,
            soft_wrap=True,
        )


@contextmanager
def ranking_display(console: Console) -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for the evaluation.  Yields a callback for the `progress` of `evaluate_run`."""
    with _bars(console) as bars:
        task = bars.add_task("ranking", total=None)

        def show(name: str, done: int, users: int) -> None:
            bars.update(task, description=f"ranking for {name}", completed=done, total=users)

        yield show


@contextmanager
def users_display(console: Console, title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar for work on many users.  Yields a callback for the users done, and for all users."""
    with _bars(console, TextColumn("{task.fields[note]}")) as bars:
        task = bars.add_task(title, total=None, note="")

        def show(done: int, users: int) -> None:
            bars.update(task, completed=done, total=users)
            speed = bars.tasks[0].speed
            bars.update(task, note=f"{speed:,.0f} users/s" if speed else "")

        yield show
