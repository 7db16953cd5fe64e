"""Options: each bad one is refused by its flag's name, good ones survive JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from recblr.errors import InputError
from recblr.nn import RecBLRConfig
from recblr.training import TrainingConfig


@pytest.mark.parametrize(
    ("option", "value", "flag"),
    [
        ("epochs", 0, "--epochs"),
        ("epochs", -3, "--epochs"),
        ("batch_tokens", 0, "--batch-tokens"),
        ("batch_sequences", 0, "--batch-sequences"),
        ("samples", "users", "--samples"),
        ("patience", 0, "--patience"),
        ("learning_rate", 0.0, "--learning-rate"),
        ("learning_rate", -0.1, "--learning-rate"),
        ("learning_rate", math.nan, "--learning-rate"),
        ("learning_rate", math.inf, "--learning-rate"),
        ("seed", -1, "--seed"),
        ("seed", 2**64, "--seed"),
    ],
)
def test_a_bad_option_is_named_by_its_flag(option: str, value: Any, flag: str) -> None:
    with pytest.raises(InputError) as raised:
        TrainingConfig(**{option: value})
    message = str(raised.value)
    assert message.startswith(f"{flag} must ")
    assert str(value) in message
    assert "\n" not in message


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_every_seed_that_torch_takes_is_legal(seed: int) -> None:
    assert TrainingConfig(seed=seed).seed == seed


def test_options_survive_json() -> None:
    config = TrainingConfig(epochs=7, learning_rate=3e-4, seed=5, model=RecBLRConfig(d_model=8, dropout=0.5))
    assert TrainingConfig.from_dict(json.loads(json.dumps(config.as_dict()))) == config


@pytest.mark.parametrize("missing", ["epochs", "model", "seed"])
def test_a_missing_option_is_not_guessed(missing: str) -> None:
    values = TrainingConfig().as_dict()
    del values[missing]
    with pytest.raises(KeyError):
        TrainingConfig.from_dict(values)


def test_options_are_compared_by_flag_those_of_the_model_too() -> None:
    flat: dict[str, Any] = TrainingConfig(model=RecBLRConfig(d_model=8)).flat()
    assert flat["d-model"] == 8
    assert flat["batch-tokens"] == 1024
    assert "model" not in flat
