"""What a run is asked to do: the dataclasses from which flags, TOML tables and the resume check are made.

Never imports torch: the command's help must come at once.
"""

from recblr.config.baselines import GRU4RecConfig, SASRecConfig
from recblr.config.data import DataConfig
from recblr.config.model import ModelConfig, RecBLRConfig
from recblr.config.models import MODELS
from recblr.config.option import TABLES, Option
from recblr.config.registry import OPTIONS
from recblr.config.training import TrainingConfig

__all__ = [
    "MODELS",
    "OPTIONS",
    "TABLES",
    "DataConfig",
    "GRU4RecConfig",
    "ModelConfig",
    "Option",
    "RecBLRConfig",
    "SASRecConfig",
    "TrainingConfig",
]
