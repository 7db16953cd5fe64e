"""Training with exact resume, and the folder that a run leaves behind."""

from recblr.config import DataConfig, TrainingConfig
from recblr.training.record import EpochRecord
from recblr.training.run import Run
from recblr.training.scorer import model_scorer
from recblr.training.trainer import Listener, train

__all__ = ["DataConfig", "EpochRecord", "Listener", "Run", "TrainingConfig", "model_scorer", "train"]
