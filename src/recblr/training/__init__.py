"""Training with exact resume, and the folder that a run leaves behind."""

from recblr.training.config import TrainingConfig
from recblr.training.record import EpochRecord
from recblr.training.run import Run
from recblr.training.scorer import model_scorer
from recblr.training.trainer import Listener, train

__all__ = ["EpochRecord", "Listener", "Run", "TrainingConfig", "model_scorer", "train"]
