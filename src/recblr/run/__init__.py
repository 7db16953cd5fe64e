"""The folder of a training run: training writes it, and serving and evaluation read it."""

from recblr.run.folder import Run, split_for
from recblr.run.log import EpochRecord
from recblr.run.model_file import SavedModel, load_model, save_model

__all__ = ["EpochRecord", "Run", "SavedModel", "load_model", "save_model", "split_for"]
