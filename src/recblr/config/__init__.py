"""The options of a run: dataclasses from which the flags, the TOML tables and the resume check are made.

Never imports torch, so that the command's help appears at once.
"""

from recblr.config.model import MODELS, GRU4RecConfig, ModelConfig, RecBLRConfig, SASRecConfig
from recblr.config.option import TABLES, Option
from recblr.config.run import OPTIONS, DataConfig, TrainingConfig

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
