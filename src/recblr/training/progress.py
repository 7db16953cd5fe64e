"""How far a run has come."""

import math
from dataclasses import dataclass

from recblr.run.log import is_count, is_duration

SELECT_BY = "ndcg@10"
"""The metric by which the best epoch is chosen, on the validation items over the whole catalogue: the paper's
protocol."""


class TrainingStopped(Exception):
    """Training was asked to stop, and everything that it takes to go on is saved."""


@dataclass(frozen=True)
class Progress:
    """Epochs done, the best of them, and how far the next one is.

    epoch: complete epochs. best_epoch, best: the best validation NDCG@10 and its epoch (0: none).
    seconds: of the complete epochs. steps: of the optimizer, in all.
    step, targets, loss, step_seconds: in the next epoch, the steps done, their targets, the sum of these
    targets' losses, and the seconds.
    """

    epoch: int = 0
    best_epoch: int = 0
    best: float = -1.0
    seconds: float = 0.0
    steps: int = 0
    step: int = 0
    targets: int = 0
    loss: float = 0.0
    step_seconds: float = 0.0

    def is_sound(self) -> bool:
        """Whether the values can be a run's."""
        whole = (self.epoch, self.best_epoch, self.steps, self.step, self.targets)
        return (
            all(map(is_count, whole))
            and self.best_epoch <= self.epoch
            and (0 <= self.best <= 1 if self.best_epoch else self.best == -1 and self.epoch == 0)
            and self.step <= self.steps
            and abs(self.loss) < math.inf
            and is_duration(self.seconds)
            and is_duration(self.step_seconds)
        )
