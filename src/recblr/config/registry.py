"""Every option of a run in one place."""

from recblr.config.data import DataConfig
from recblr.config.models import MODEL_OPTIONS
from recblr.config.option import Option, options
from recblr.config.training import TrainingConfig

OPTIONS: dict[str, Option] = {
    **{option.key: option for option in options(DataConfig)},
    **MODEL_OPTIONS,
    **{option.key: option for option in options(TrainingConfig)},
}
"""Every option by its key, which is unique because it is a flag."""
