"""What a run is asked to do: the dataclasses from which flags, TOML tables and the resume check are made.

Never imports torch: the command's help must come at once.
"""

from recblr.config.data import DataConfig
from recblr.config.model import RecBLRConfig
from recblr.config.option import TABLES, Option
from recblr.config.registry import OPTIONS
from recblr.config.training import TrainingConfig

__all__ = ["OPTIONS", "TABLES", "DataConfig", "Option", "RecBLRConfig", "TrainingConfig"]
