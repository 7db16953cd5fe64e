"""Every option of a run in one place."""

from recblr.config.data import DataConfig
from recblr.config.model import RecBLRConfig
from recblr.config.option import Option, options
from recblr.config.training import TrainingConfig

OPTIONS: dict[str, Option] = {
    option.key: option for config in (DataConfig, RecBLRConfig, TrainingConfig) for option in options(config)
}
"""Every option by its key, which is unique because it is a flag."""
