"""The sentence of an InputError and its two parts, with any punctuation in a path."""

from __future__ import annotations

import ast
import copy
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

import recblr
from recblr.config.file import read_config
from recblr.errors import InputError, naming_flag

SOURCES = Path(recblr.__file__).parent
# How a remedy begins if it stands in the problem: after a semicolon, or as an order after a colon.
REMEDY = re.compile(
    "; |: (add|check|choose|convert|correct|drop|fetch|give|lower|name|read|rename|try|write) "
)
TWO_PARTS = InputError("a; b.csv: c is damaged", "fetch it again; or leave it out")


def parts(error: InputError) -> tuple[str, str, str]:
    return error.problem, error.remedy, str(error)


def test_the_sentence_is_the_problem_and_the_remedy() -> None:
    assert str(InputError("a is damaged", "fetch it again")) == "a is damaged; fetch it again"


def test_a_whole_sentence_is_the_problem() -> None:
    assert parts(InputError("a is damaged; fetch it")) == (
        "a is damaged; fetch it",
        "",
        "a is damaged; fetch it",
    )


def _with_a_remedy_in_the_problem(source: str) -> list[int]:
    """The lines that create an InputError whose problem also holds the remedy."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "InputError"
        for text in ast.walk(node.args[0])
        if isinstance(text, ast.Constant) and isinstance(text.value, str) and REMEDY.search(text.value)
    ]


def test_every_remedy_is_a_field_of_its_own() -> None:
    for sentence in ("{a}; do b", "{a}: give b"):
        assert _with_a_remedy_in_the_problem(f'raise InputError(f"{sentence}")') == [1]
    found = {
        file.name: lines
        for file in SOURCES.rglob("*.py")
        if (lines := _with_a_remedy_in_the_problem(file.read_text(encoding="utf-8")))
    }
    assert found == {}


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))])
@pytest.mark.parametrize("error", [TWO_PARTS, InputError("a is damaged; fetch it")], ids=["two", "one"])
def test_copies_and_pickles_keep_the_parts(
    error: InputError, again: Callable[[InputError], InputError]
) -> None:
    assert type(again(error)) is InputError
    assert parts(again(error)) == parts(error)


def test_the_error_can_be_sent_from_another_process(tmp_path: Path) -> None:
    file = tmp_path / "mine; not yours.toml"
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        error = pool.submit(read_config, file).exception()
    assert isinstance(error, InputError)
    assert parts(error)[:2] == (f"there is no config file {file}", "check the path")


def test_naming_the_flag_keeps_the_remedy() -> None:
    named = naming_flag(InputError("d_model must be 1; 2: or 3", "choose one"))
    assert parts(named)[:2] == ("--d-model must be 1; 2: or 3", "choose one")
    assert parts(naming_flag(ValueError("d_model must be 1; 2")))[:2] == ("--d-model must be 1; 2", "")
