"""RUN/tensorboard: the scalars of a run for TensorBoard, over the number of optimizer steps."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

from recblr.errors import InputError
from recblr.run.log import EpochRecord
from recblr.training.progress import Listener, Step

EVERY = 10
"""Steps between two points of the training loss."""


def check_tensorboard() -> None:
    """Raise InputError if TensorBoard is not installed."""
    if find_spec("tensorboard") is None:
        raise InputError(
            "--tensorboard needs TensorBoard",
            "install it with pip install 'recblr[tensorboard]', or leave the option out",
        )


class TensorBoard(Listener):
    """A listener that writes scalars.

    folder: the folder of the scalars.
    steps: the number of steps that the run has done.  An earlier process may have written scalars of later
    steps.  These steps are done again, so TensorBoard is told to drop their scalars.

    Raises InputError if TensorBoard is missing or the folder cannot be written to.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        check_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._folder = folder
        with self._writing():
            self._writer = SummaryWriter(folder, purge_step=steps + 1)

    def trained(self, step: Step) -> None:
        if step.number % EVERY == 0:
            with self._writing():
                self._writer.add_scalar("train/loss", step.loss, step.number)
                self._writer.add_scalar("train/learning_rate", step.learning_rate, step.number)

    def end_epoch(self, record: EpochRecord) -> None:
        scalars = {
            "epoch/number": record.epoch,
            "epoch/loss": record.loss,
            "epoch/train_seconds": record.train_seconds,
            "epoch/valid_seconds": record.valid_seconds,
        }
        for masking, metrics in record.valid.items():
            scalars |= {f"valid_{masking}/{name}": value for name, value in metrics.items()}
        with self._writing():
            for name, value in scalars.items():
                self._writer.add_scalar(name, value, record.steps)
            self._writer.flush()

    def close(self) -> None:
        """Write the scalars that are still in memory."""
        with self._writing():
            self._writer.close()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise InputError(
                f"cannot write into {self._folder}: {error.strerror}",
                "make room there, or continue with --resume --no-tensorboard",
            ) from None
