"""Config files: written values are read back, and each mistake gives one sentence with the remedy."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recblr.config import OPTIONS, DataConfig, TrainingConfig
from recblr.config.file import read_config, write_config
from recblr.config.option import RENAMED
from recblr.errors import InputError

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
FLOATS = st.floats(min_value=1e-300, max_value=1e300)


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "c.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refused(path: Path) -> str:
    with pytest.raises(InputError) as raised:
        read_config(path)
    message = str(raised.value)
    assert "\n" not in message
    assert str(path) in message
    return message


def test_the_defaults_are_written_in_tables_and_read_back(tmp_path: Path) -> None:
    defaults = DataConfig().as_options() | TrainingConfig().as_options()
    write_config(tmp_path / "c.toml", defaults)
    assert read_config(tmp_path / "c.toml") == {k: v for k, v in defaults.items() if v is not None}
    tables = tomllib.loads((tmp_path / "c.toml").read_text())
    assert list(tables) == [
        name for name in ("data", "model", "optimisation", "loss", "run") if name in tables
    ]
    for table, entries in tables.items():
        assert {OPTIONS[key].table for key in entries} == {table}


def test_a_file_with_an_old_name_of_an_option_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, "[model]\nwidth-of-conv = 3\n")
    assert "there is no width-of-conv in [model]" in refused(path)
    monkeypatch.setitem(RENAMED, "width_of_conv", "d_conv")
    assert read_config(path) == {"d-conv": 3}
    assert "there is no width-of-conv" in refused(write(tmp_path, "[model]\nwidth-of-conv = 3\nd-conv = 3\n"))


def test_every_old_name_has_an_existing_field() -> None:
    names = {option.name for option in OPTIONS.values()}
    assert not RENAMED.keys() & names
    assert set(RENAMED.values()) <= names


def test_each_value_has_its_help_text_beside_it(tmp_path: Path) -> None:
    write_config(tmp_path / "c.toml", TrainingConfig().as_options())
    assert f"epochs = 36  # {OPTIONS['epochs'].help}\n" in (tmp_path / "c.toml").read_text()


@given(
    paths=st.lists(TEXTS, max_size=3),
    column=st.none() | TEXTS,
    rate=FLOATS,
    seed=st.integers(0, 2**64 - 1),
)
def test_any_value_is_read_back_unchanged(
    tmp_path_factory: pytest.TempPathFactory, paths: list[str], column: str | None, rate: float, seed: int
) -> None:
    path = tmp_path_factory.mktemp("config") / "c.toml"
    data = DataConfig(paths=tuple(paths), user_column=column)
    training = TrainingConfig(learning_rate=rate, seed=seed)
    write_config(path, data.as_options() | training.as_options())
    values = read_config(path)
    assert DataConfig.from_options(values) == data
    assert TrainingConfig.from_options(values) == training


def test_a_path_that_is_not_valid_text_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not valid text, so a config file cannot hold it; rename it"):
        write_config(tmp_path / "c.toml", {"paths": ("\udcff.csv",)})
    assert list(tmp_path.iterdir()) == []


def test_an_empty_file_and_a_file_of_comments_have_no_values(tmp_path: Path) -> None:
    assert read_config(write(tmp_path, "")) == {}
    assert read_config(write(tmp_path, "# later\n[model]\n")) == {}


def test_a_whole_number_is_accepted_as_a_number(tmp_path: Path) -> None:
    values = read_config(write(tmp_path, "[model]\nexpand = 3"))
    assert values == {"expand": 3.0}
    assert isinstance(values["expand"], float)


SENTENCES: dict[str, tuple[str | bytes, str]] = {
    "misspelt key": ("[optimisation]\nepoch = 3", "there is no epoch in [optimisation]; do you mean epochs?"),
    "underscores": ("[model]\nd_model = 3", "there is no d_model in [model]; do you mean d-model?"),
    "another table's key": (
        "[model]\nepochs = 3",
        "epochs is not a key of [model]; put it under [optimisation]",
    ),
    "near another table's key": (
        "[data]\nlearning-rat = 3",
        "there is no learning-rat; do you mean learning-rate, under [optimisation]?",
    ),
    "nothing near": ("[run]\nzzz = 3", "there is no zzz in [run]; its keys are seed"),
    "misspelt table": ("[optimization]\nepochs = 3", "no table [optimization]; do you mean optimisation?"),
    "no such table": (
        "[zzz]\nepochs = 3",
        "no table [zzz]; the tables are data, model, optimisation, loss, run",
    ),
    "outside its table": ("epochs = 3", "epochs is outside its table; put it under [optimisation]"),
    "a table as a value": ("model = 3", "model is a table; write [model]"),
    "text for a whole number": (
        '[optimisation]\nepochs = "many"',
        'epochs in [optimisation] must be a whole number, but is "many"',
    ),
    "fraction for a whole number": ("[optimisation]\nepochs = 2.5", "must be a whole number, but is 2.5"),
    "boolean for a whole number": ("[optimisation]\nepochs = true", "must be a whole number, but is true"),
    "text for a number": ('[model]\ndropout = "x"', 'dropout in [model] must be a number, but is "x"'),
    "boolean for a number": ("[model]\ndropout = true", "must be a number, but is true"),
    "list for a number": ("[model]\ndropout = [1]", "must be a number, but is [1]"),
    "number for a text": ("[data]\nformat = 3", "format in [data] must be a text in quotes, but is 3"),
    "date for a text": ("[data]\nformat = 2020-01-01", "must be a text in quotes, but is 2020-01-01"),
    "text for a list": (
        '[data]\npaths = "a"',
        'paths in [data] must be a list of texts in quotes, but is "a"',
    ),
    "numbers in a list": ("[data]\npaths = [1]", "must be a list of texts in quotes, but is [1]"),
    "a table for a number": ("[model.dropout]\nx = 1", "dropout in [model] must be a number"),
    "long value": (f'[model]\ndropout = "{"x" * 999}"', "xxx…"),
    "out of range": ("[optimisation]\nepochs = 0", "--epochs must be at least 1, but is 0"),
    "out of range, an option of the model": (
        "[model]\ndropout = 7",
        "--dropout must lie in [0, 1), but is 7.0",
    ),
    "infinite": ("[optimisation]\nlearning-rate = inf", "--learning-rate must be a positive number"),
    "an option of another model": (
        '[model]\nmodel = "sasrec"\nd-conv = 3',
        "--d-conv is not an option of --model sasrec; leave it out",
    ),
    "unknown model": ('[model]\nmodel = "sasrc"', "is 'sasrc'; do you mean sasrec?"),
    "not TOML": ("[model", "is not TOML: expected ']'"),
    "key twice": ("[model]\ndropout = 0.1\ndropout = 0.2", "is not TOML: cannot overwrite a value"),
    "binary": (b"\xff\xfe\x00", "is not TOML; give a file like the config.toml"),
    "deeply nested": ("a = " + "[" * 100_000, "is not TOML"),
}


@pytest.mark.parametrize("name", SENTENCES)
def test_a_mistake_gives_one_sentence_with_the_remedy(name: str, tmp_path: Path) -> None:
    text, says = SENTENCES[name]
    message = refused(write(tmp_path, text))
    assert says in message
    assert len(message) < 300 + len(str(tmp_path))


def test_a_missing_file_or_a_folder_is_named_in_the_error(tmp_path: Path) -> None:
    assert "there is no config file" in refused(tmp_path / "none.toml")
    assert "there is no config file" in refused(write(tmp_path, "") / "below")
    assert "cannot read the config file" in refused(tmp_path)


NEEDED_OPTIONS: dict[str, dict[str, Any]] = {
    "padding-leak": {"max-length": 200},
    "num-heads": {"model": "sasrec", "d-model": 48},
}


def test_every_option_can_be_written_alone_or_with_the_options_it_needs(tmp_path: Path) -> None:
    values: dict[type, Any] = {bool: True, int: 3, float: 0.25, str: "word", tuple: ("a", "b")}
    for key, option in OPTIONS.items():
        written = option.choices[0] if option.choices else values[option.type]
        written = "cuda:1" if key == "device" else written
        needed = NEEDED_OPTIONS.get(key, {})
        write_config(tmp_path / "c.toml", {key: written, **needed})
        assert read_config(tmp_path / "c.toml") == {key: written, **needed}


def test_the_classes_are_frozen() -> None:
    for config in (DataConfig(), TrainingConfig()):
        with pytest.raises(AttributeError):
            setattr(config, fields(config)[0].name, None)


@pytest.mark.parametrize(
    ("content", "problem", "remedy"),
    [
        (None, "there is no config file {}", "check the path"),
        ("epochs = 3", "{}: epochs is outside its table", "put it under [optimisation]"),
        ("[modle]", "{}: there is no table [modle]", "do you mean model?"),
        ("[model]\nepochs = 3", "{}: epochs is not a key of [model]", "put it under [optimisation]"),
        ("[model]\nd-modle = 3", "{}: there is no d-modle in [model]", "do you mean d-model?"),
        (
            '[loss]\nloss = "gbc; e"',
            "{}: --loss must be one of " + ", ".join(OPTIONS["loss"].choices) + ", but is 'gbc; e'",
            "do you mean gbce?",
        ),
        ("[optimisation]\nepochs = 0", "{}: --epochs must be at least 1, but is 0", ""),
    ],
)
def test_the_problem_and_the_remedy_stay_separate_with_any_punctuation_in_the_path(
    tmp_path: Path, content: str | None, problem: str, remedy: str
) -> None:
    folder = tmp_path / "mine; not yours: old"
    folder.mkdir()
    path = folder / "c.toml" if content is None else write(folder, content)
    with pytest.raises(InputError) as raised:
        read_config(path)
    assert (raised.value.problem, raised.value.remedy) == (problem.format(path), remedy)
