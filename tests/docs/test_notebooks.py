"""The notebooks run from top to bottom, in a short form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import notebooks
import pytest
from cli.command import at
from training.tiny_runs import one_thread

SHORT = {"USERS": 150, "EPOCHS": 1, "STEPS": 2}
ALL = notebooks.notebooks()

of_each = pytest.mark.parametrize("path", ALL, ids=lambda path: path.stem)


def test_there_are_three() -> None:
    assert len(ALL) == 3


@of_each
def test_a_notebook_runs(path: Path, tmp_path: Path) -> None:
    with at(tmp_path), one_thread():
        outputs = notebooks.run(notebooks.read(path), SHORT)
    assert any(outputs)
    shown = [value for found in outputs for output in found if (value := answer(output)) is not None]
    assert "False" not in shown  # each comparison holds


def answer(output: dict[str, Any]) -> str | None:
    return "".join(output["data"]["text/plain"]) if "data" in output else None


@of_each
def test_a_notebook_is_complete_and_small(path: Path) -> None:
    notebook = notebooks.read(path)
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert path.stat().st_size < 50_000
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == [*range(1, len(code) + 1)]
    assert any(cell["outputs"] for cell in code)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    text = path.read_text(encoding="utf-8")
    assert "/tmp/" not in text
    assert "/root/" not in text


def test_the_value_of_a_cell_is_its_last_line() -> None:
    def cell(source: str) -> dict[str, Any]:
        return {"cells": [{"cell_type": "code", "source": [source]}]}

    assert notebooks.run(cell("x = 1")) == [[]]
    assert notebooks.run(cell("print(3);")) == [
        [{"name": "stdout", "output_type": "stream", "text": ["3\n"]}]
    ]
    assert notebooks.run(cell("A = 5\nA + 1"), {"A": 2})[0][0]["data"] == {"text/plain": ["3"]}
