"""The log of a run: one line for each epoch, and the record in a line."""

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

from recblr.errors import InputError
from recblr.io.atomic import atomic_path
from recblr.io.reading import check_ends


@dataclass(frozen=True)
class EpochRecord:
    """A line of the log: the cost and the results of an epoch."""

    epoch: int
    loss: float  # mean over the epoch's training targets
    learning_rate: float  # of the epoch's last batch
    steps: int  # of the optimizer, since the run began
    targets: int
    train_seconds: float
    valid_seconds: float
    valid: dict[str, dict[str, float]]  # masking -> metric -> value
    best_epoch: int
    device: str = "cpu"  # that trained the epoch; the oldest logs lack it, because only a CPU could train

    def is_sound(self) -> bool:
        """Whether the values are possible for an epoch."""
        counts = (self.epoch, self.steps, self.targets, self.best_epoch)
        numbers = (self.loss, self.learning_rate)
        metrics = [metric for masking in self.valid.values() for metric in masking.values()]
        return (
            type(self.device) is str
            and all(map(is_count, counts))
            and all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
            and all(map(is_duration, (self.train_seconds, self.valid_seconds)))
            and all(type(metric) in (int, float) and 0 <= metric <= 1 for metric in metrics)
        )


def read_log(file: Path) -> list[EpochRecord]:
    """The records, one for each epoch.  The user may have deleted lines, or the whole file.

    Raises InputError if the file cannot be read or a line is damaged.
    """
    records = []
    for number, line in enumerate(_lines(file), 1):
        record = _record(line)
        if record is None:
            raise InputError(
                f"{file}, line {number} is damaged", "restore it from a copy, or delete the line"
            )
        records.append(record)
    return records


def append_to_log(file: Path, record: EpochRecord) -> None:
    """Add the line of an epoch.  InputError if it cannot be written."""
    try:
        with open(file, "a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(record)) + "\n")
    except OSError as error:
        raise InputError(
            f"cannot write {file}: {error.strerror}", "make room and continue with --resume"
        ) from None


def drop_log_after(file: Path, epoch: int) -> None:
    """Remove the lines of epochs that will be repeated, and a line that a crash has cut off."""
    lines = _lines(file)
    records = [_record(line) for line in lines]
    # A damaged line stays, so that reading the log reports it.
    kept = [
        line for line, record in zip(lines, records, strict=True) if record is None or record.epoch <= epoch
    ]
    while kept and _record(kept[-1]) is None and (len(kept) > epoch or not kept[-1].endswith(b"\n")):
        kept.pop()
    # Some editors leave out the last line break.  Without it, the next line would continue this one.
    if kept and not kept[-1].endswith(b"\n"):
        kept[-1] += b"\n"
    if kept != lines:
        with atomic_path(file) as draft:
            draft.write_bytes(b"".join(kept))


def _record(line: bytes) -> EpochRecord | None:
    """The record in a line of the log.  None if the line is damaged."""
    try:
        record = EpochRecord(**json.loads(line))
        return record if record.is_sound() else None
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError):
        return None


def _lines(file: Path) -> list[bytes]:
    """The lines with their line breaks.  Empty if there is no file."""
    try:
        check_ends(file)
        return file.read_bytes().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise InputError(
            f"cannot read {file}: {error.strerror}", "restore it from a copy, or delete it"
        ) from None


def is_count(value: object) -> bool:
    """Whether a value from a file can be a count."""
    return type(value) is int and 0 <= value < 2**63


def is_duration(value: object) -> bool:
    """Whether a value from a file can be seconds.  It is below three centuries, so sums stay finite."""
    return type(value) in (int, float) and 0 <= value < 1e10  # type: ignore[operator]
