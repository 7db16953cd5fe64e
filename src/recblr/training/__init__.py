"""Training.  It can be interrupted at any time, and a resumed run ends with the same bits."""

from recblr.config import DataConfig, TrainingConfig
from recblr.run.folder import Run
from recblr.run.log import EpochRecord
from recblr.training.progress import Listener, Progress, Step, TrainingStopped
from recblr.training.trainer import train

__all__ = [
    "DataConfig",
    "EpochRecord",
    "Listener",
    "Progress",
    "Run",
    "Step",
    "TrainingConfig",
    "TrainingStopped",
    "train",
]
