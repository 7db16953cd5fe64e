"""Which models there are, and the hyper-parameters of the one that is asked for."""

from typing import Any

from recblr.config.baselines import GRU4RecConfig, SASRecConfig
from recblr.config.model import ModelConfig, RecBLRConfig
from recblr.config.option import Option, check_choice, from_values, options
from recblr.errors import InputError, naming_flag

MODELS: dict[str, type[ModelConfig]] = {
    "recblr": RecBLRConfig,
    "sasrec": SASRecConfig,
    "gru4rec": GRU4RecConfig,
}
"""The class of a model's hyper-parameters by the model's name."""

MODEL_OPTIONS: dict[str, Option] = {}
"""Every option of every model by its key; where models share one, with the default of the first."""

for _config in MODELS.values():
    for _option in options(_config):
        MODEL_OPTIONS.setdefault(_option.key, _option)


def model_from_options(values: dict[str, Any]) -> ModelConfig:
    """The hyper-parameters of {key: value}, in which other tables' keys are passed over.

    What is missing has its default.  An option of another model may be there with its default, so that a
    config file serves for all models.

    Raises InputError, naming the flag, for an unknown model, another model's option, or a value out of range.
    """
    name = values.get("model", RecBLRConfig.model)
    check_choice(MODEL_OPTIONS["model"], name)
    config = MODELS[name]
    own = {option.key for option in options(config)}
    for key, option in MODEL_OPTIONS.items():
        if key not in own and values.get(key, option.default) != option.default:
            raise InputError(f"--{key} is no option of --model {name}; leave it out")
    try:
        return from_values(config, values)
    except ValueError as error:
        raise naming_flag(error) from None
