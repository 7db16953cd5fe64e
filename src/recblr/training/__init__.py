"""Training with exact resume, and the folder that a run leaves behind."""

from recblr.config import DataConfig, TrainingConfig
from recblr.training.listener import Listener, Step
from recblr.training.progress import Progress, TrainingStopped
from recblr.training.record import EpochRecord
from recblr.training.run import Run
from recblr.training.scorer import model_scorer
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
    "model_scorer",
    "train",
]
