"""One dataclass field makes a flag, a key of config files and a line of the help."""

import subprocess
import sys
from dataclasses import dataclass, fields
from typing import Literal

import pytest

from recblr.config import MODELS, OPTIONS, TABLES, DataConfig, TrainingConfig
from recblr.config.option import check_choices, option, options, with_default
from recblr.errors import InputError

CONFIGS = (DataConfig, *MODELS.values(), TrainingConfig)


def test_every_field_is_an_option_except_the_model_in_the_training_options() -> None:
    names = dict.fromkeys(field.name for config in CONFIGS for field in fields(config))
    assert [option.name for option in OPTIONS.values()] == list(names)
    assert "model" not in {option.name for option in options(TrainingConfig)}


def test_only_the_options_that_models_share_have_the_same_flag() -> None:
    model = {option.key for config in MODELS.values() for option in options(config)}
    assert len(options(DataConfig)) + len(model) + len(options(TrainingConfig)) == len(OPTIONS)


def test_an_option_that_models_share_differs_only_in_its_default() -> None:
    for config in MODELS.values():
        for found in options(config):
            known = OPTIONS[found.key]
            assert (found.type, found.choices, found.help) == (known.type, known.choices, known.help)


@pytest.mark.parametrize("key", OPTIONS)
def test_every_option_has_one_line_of_help_and_a_table(key: str) -> None:
    help = OPTIONS[key].help
    assert help.endswith(".")
    assert "\n" not in help
    assert OPTIONS[key].table in TABLES


@dataclass(frozen=True)
class Some:
    """Options with every kind of annotation that is allowed."""

    ratio: float = option("run", 0.5, "A ratio.")
    name: str | None = option("run", None, "A name.", fixed=False)
    names: tuple[str, ...] = option("run", (), "Names.")
    colour: Literal["red", "blue"] | None = option("run", "red", "A colour.")
    not_an_option: int = 3


@dataclass(frozen=True)
class Another(Some):
    """A subclass with its own default."""

    ratio: float = with_default(Some, "ratio", 0.25)


def test_a_subclass_may_have_another_default() -> None:
    ratio, inherited = options(Another)[0], options(Some)[0]
    assert (Another().ratio, ratio.default, inherited.default) == (0.25, 0.25, 0.5)
    assert (ratio.key, ratio.help) == (inherited.key, inherited.help)


def test_types_and_choices_are_read_from_the_annotations() -> None:
    found = [(o.key, o.type, o.choices, o.optional, o.default, o.fixed) for o in options(Some)]
    assert found == [
        ("ratio", float, (), False, 0.5, True),
        ("name", str, (), True, None, False),
        ("names", tuple, (), False, (), True),
        ("colour", str, ("red", "blue"), True, "red", True),
    ]


def test_the_error_for_a_wrong_choice_names_the_nearest_one() -> None:
    check_choices(Some(colour="blue"))
    check_choices(Some(colour=None))
    with pytest.raises(
        InputError, match=r"^--colour must be one of red, blue, but is 'blu'; do you mean blue\?$"
    ):
        check_choices(Some(colour="blu"))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Numbers:
    """An option with an annotation that is not allowed."""

    numbers: tuple[int, ...] = option("run", (), "Numbers.")


def test_a_field_that_cannot_be_a_flag_is_refused() -> None:
    with pytest.raises(TypeError, match="an option cannot be of the type tuple"):
        options(Numbers)
    with pytest.raises(ValueError, match="table must be one of data, model, optimisation, loss, run"):
        option("colours", "red", "A colour.")


def test_the_options_do_not_import_torch() -> None:
    code = "import sys; import recblr.config, recblr.config.file; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
