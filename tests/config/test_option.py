"""A dataclass field is all it takes to make a flag, a key of config files and a line of the help."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, fields

import pytest

from recblr.config import OPTIONS, TABLES, DataConfig, RecBLRConfig, TrainingConfig
from recblr.config.option import option, options

CONFIGS = (DataConfig, RecBLRConfig, TrainingConfig)


def test_every_field_is_an_option_but_the_model_within_training() -> None:
    names = [field.name for config in CONFIGS for field in fields(config) if field.name != "model"]
    assert [option.name for option in OPTIONS.values()] == names


def test_no_two_options_share_a_flag() -> None:
    assert sum(len(options(config)) for config in CONFIGS) == len(OPTIONS)


@pytest.mark.parametrize("key", OPTIONS)
def test_every_option_says_what_it_is_for_in_one_sentence(key: str) -> None:
    help = OPTIONS[key].help
    assert help.endswith(".")
    assert "\n" not in help
    assert OPTIONS[key].table in TABLES


def test_types_are_read_from_the_annotations() -> None:
    @dataclass(frozen=True)
    class Some:
        ratio: float = option("run", 0.5, "A ratio.")
        name: str | None = option("run", None, "A name.", fixed=False)
        names: tuple[str, ...] = option("run", (), "Names.")
        not_an_option: int = 3

    # A class within a function: its annotations are texts until they are looked up.
    Some.__annotations__ = {
        "ratio": float, "name": str | None, "names": tuple[str, ...], "not_an_option": int,
    }  # fmt: skip
    found = [(o.key, o.type, o.optional, o.default, o.fixed) for o in options(Some)]
    assert found == [
        ("ratio", float, False, 0.5, True),
        ("name", str, True, None, False),
        ("names", tuple, False, (), True),
    ]


def test_a_field_that_could_not_be_a_flag_is_refused() -> None:
    @dataclass(frozen=True)
    class Some:
        numbers: dict[str, int] = option("run", (), "Numbers.")  # noqa: RUF009

    Some.__annotations__ = {"numbers": dict[str, int]}
    with pytest.raises(TypeError, match="an option cannot be of the type dict"):
        options(Some)
    with pytest.raises(ValueError, match="table must be one of data, model, optimisation, loss, run"):
        option("colours", "red", "A colour.")


def test_options_need_no_torch() -> None:
    code = "import sys; import recblr.config, recblr.config.file; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
