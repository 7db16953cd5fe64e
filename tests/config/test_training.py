"""Options: each bad one is refused by its flag's name, and keys lead to fields and back."""

from __future__ import annotations

import math
from typing import Any

import pytest

from recblr.config import RecBLRConfig, TrainingConfig
from recblr.errors import InputError


@pytest.mark.parametrize(
    ("option", "value", "flag"),
    [
        ("epochs", 0, "--epochs"),
        ("epochs", -3, "--epochs"),
        ("batch_tokens", 0, "--batch-tokens"),
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


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("d_model", 0),
        ("num_layers", -1),
        ("d_conv", 0),
        ("expand", 0.0),
        ("expand", math.nan),
        ("expand", math.inf),
        ("dropout", 1.0),
        ("dropout", math.nan),
    ],
)
def test_a_bad_parameter_of_the_model_is_named_as_it_was_given(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{option} must .*{value}"):
        RecBLRConfig(**{option: value})
    key = option.replace("_", "-")
    with pytest.raises(InputError, match=rf"^--{key} must .*{value}"):
        TrainingConfig.from_options({key: value})


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_every_seed_that_torch_takes_is_legal(seed: int) -> None:
    assert TrainingConfig(seed=seed).seed == seed


def test_options_go_by_their_flags_those_of_the_model_too() -> None:
    config = TrainingConfig(epochs=7, learning_rate=3e-4, seed=5, model=RecBLRConfig(d_model=8, dropout=0.5))
    options = config.as_options()
    assert (options["d-model"], options["batch-tokens"], options["epochs"]) == (8, 1024, 7)
    assert "model" not in options
    assert TrainingConfig.from_options(options) == config


def test_what_is_not_given_has_its_default() -> None:
    assert TrainingConfig.from_options({}) == TrainingConfig()
    assert TrainingConfig.from_options({"d-model": 8}).model == RecBLRConfig(d_model=8)
