"""Options: the error for a bad value names the flag, and keys are converted to fields and back."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

import pytest

from recblr.config import MODELS, OPTIONS, GRU4RecConfig, RecBLRConfig, SASRecConfig, TrainingConfig
from recblr.config.model import ModelConfig, model_from_fields
from recblr.config.option import options
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
        ("label_smoothing", 1.0, "--label-smoothing"),
        ("label_smoothing", math.nan, "--label-smoothing"),
        ("seed", -1, "--seed"),
        ("seed", 2**64, "--seed"),
    ],
)
def test_the_error_for_a_bad_option_names_its_flag(option: str, value: Any, flag: str) -> None:
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
def test_the_error_for_a_bad_model_parameter_names_it_as_it_was_given(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"^{option} must .*{value}"):
        RecBLRConfig(**{option: value})
    key = option.replace("_", "-")
    with pytest.raises(InputError, match=rf"^--{key} must .*{value}"):
        TrainingConfig.from_options({key: value})


@pytest.mark.parametrize(
    ("events", "tokens", "dropout"),
    [
        (0, 128, 0.5),
        (65_535, 128, 0.5),
        (65_536, 256, 0.5),
        (153_776, 512, 0.5),
        (262_143, 512, 0.5),
        (262_144, 1024, 0.2),
        (10**9, 1024, 0.2),
    ],
)
def test_batch_size_and_dropout_depend_on_the_number_of_events_unless_they_are_given(
    events: int, tokens: int, dropout: float
) -> None:
    settled = TrainingConfig().settled(events)
    assert (settled.batch_tokens, settled.model.dropout) == (tokens, dropout)
    given = TrainingConfig(batch_tokens=7, model=SASRecConfig(dropout=0.0, time="past"))
    assert given.settled(events) == given


@pytest.mark.parametrize(("times", "use"), [(True, "request"), (False, "none")])
def test_times_are_used_where_they_are_known_unless_the_use_is_given(times: bool, use: str) -> None:
    assert TrainingConfig().settled(9, times=times).model.time == use
    given = TrainingConfig(model=RecBLRConfig(time="past"))
    assert given.settled(9, times=times).model.time == "past"


@pytest.mark.parametrize("config", [RecBLRConfig, SASRecConfig, GRU4RecConfig])
def test_a_model_that_recblr_does_not_train_knows_no_time_by_default(config: type[ModelConfig]) -> None:
    assert config().time_use == "none"
    with pytest.raises(ValueError, match="time must be one of none, past, request, but is 'later'"):
        config(time="later")  # type: ignore[arg-type]


def test_a_model_file_without_the_option_time_knows_no_time() -> None:
    fields = {name: value for name, value in asdict(RecBLRConfig()).items() if name != "time"}
    assert model_from_fields(fields).time == "none"


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
def test_every_seed_that_torch_accepts_is_accepted(seed: int) -> None:
    assert TrainingConfig(seed=seed).seed == seed


def test_all_options_have_their_flags_as_keys() -> None:
    config = TrainingConfig(epochs=7, learning_rate=3e-4, seed=5, model=RecBLRConfig(d_model=8, dropout=0.5))
    options = config.as_options()
    assert (options["d-model"], options["learning-rate"], options["epochs"]) == (8, 3e-4, 7)
    assert options["model"] == "recblr"
    assert TrainingConfig.from_options(options) == config


def test_a_missing_option_has_its_default() -> None:
    assert TrainingConfig.from_options({}) == TrainingConfig()
    assert TrainingConfig.from_options({"d-model": 8}).model == RecBLRConfig(d_model=8)


def test_the_name_of_the_model_selects_its_hyper_parameters() -> None:
    assert TrainingConfig.from_options({}).model == RecBLRConfig()
    assert TrainingConfig.from_options({"model": "sasrec", "num-heads": 4}).model == SASRecConfig(num_heads=4)
    assert TrainingConfig.from_options({"model": "gru4rec", "expand": 3.0}).model == GRU4RecConfig(expand=3.0)


@pytest.mark.parametrize("name", MODELS)
def test_the_options_of_a_model_build_it_again_and_hold_no_others(name: str) -> None:
    config = TrainingConfig(model=MODELS[name](d_model=8))
    written = config.as_options()
    assert TrainingConfig.from_options(written) == config
    own = {option.key for option in options(MODELS[name])}
    assert {key for key in written if OPTIONS[key].table == "model"} == own


def test_the_error_for_an_option_of_another_model_names_its_flag() -> None:
    for name, key, value in (
        ("recblr", "num-heads", 4),
        ("sasrec", "lambda-init", "linspace"),
        ("sasrec", "expand", 3.0),
        ("gru4rec", "d-conv", 3),
        ("gru4rec", "padding-leak", True),
    ):
        with pytest.raises(InputError, match=f"^--{key} is not an option of --model {name}; leave it out$"):
            TrainingConfig.from_options({"model": name, key: value})


@pytest.mark.parametrize("name", MODELS)
def test_the_options_of_a_recblr_run_work_for_every_model(name: str) -> None:
    recblr = TrainingConfig(epochs=3, model=RecBLRConfig(d_model=8, max_length=50)).as_options()
    config = TrainingConfig.from_options(recblr | {"model": name})
    assert config.model == MODELS[name](d_model=8, max_length=50)


def test_sasrec_sees_200_events_by_default() -> None:
    assert SASRecConfig().max_length == 200
    with pytest.raises(ValueError, match="max_length must be a whole number, but is None"):
        SASRecConfig(max_length=None)  # type: ignore[arg-type]


def test_the_number_of_heads_must_divide_the_width() -> None:
    with pytest.raises(InputError, match=r"^--num-heads must divide d_model \(64\), but is 3$"):
        TrainingConfig.from_options({"model": "sasrec", "num-heads": 3})


def test_a_class_of_hyper_parameters_belongs_to_one_model() -> None:
    with pytest.raises(ValueError, match="model must be recblr in a RecBLRConfig, but is 'sasrec'"):
        RecBLRConfig(model="sasrec")
