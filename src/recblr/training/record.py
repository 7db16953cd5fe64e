"""What the log keeps of an epoch."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EpochRecord:
    """A line of the log: what an epoch cost and what it brought."""

    epoch: int
    loss: float  # mean over the epoch's training targets
    learning_rate: float  # of the epoch's last batch
    steps: int  # of the optimizer, since the run began
    targets: int
    train_seconds: float
    valid_seconds: float
    valid: dict[str, dict[str, float]]  # masking -> metric -> value
    best_epoch: int
