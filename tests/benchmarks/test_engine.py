"""The benchmark of the engine: tiny runs, its tables, and that it notices wrong answers.

test_programs.py runs all of it.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from benchmarks.harness import load, measuring

engine, measures, table, inside = map(load, ("engine", "engine_measures", "serving_tables", "engine_inside"))
PARTS = (
    "by the event",
    "many events at once",
    "ten best of a large table",
    "survivors of the bound",
    "memory of users",
    "start",
    "the machine",
)


def shown(case: dict) -> list:
    """The figures of a tiny run of a case, in this process."""
    return engine.figures(measuring.Result(case, [measures.measure(case, quick=True)]))


def test_every_part_is_a_case() -> None:
    assert {case["measured"] for case in engine.cases(quick=False)} == set(PARTS)


@pytest.mark.skipif(not inside.PROGRAM.exists(), reason=inside.NOT_BUILT)
def test_every_target_has_a_figure() -> None:
    event = shown({"measured": "by the event", "model": measures.RANDOM, "threads": 1})
    targets = {(figure.ours, figure.bar) for figure in event if figure.value and figure.value_unit == "µs"}
    assert targets >= set(engine.TO_REACH.items())
    table = shown({"measured": "ten best of a large table", "batch": 1, "threads": 1})
    assert {(figure.ours, figure.bar) for figure in table} >= {("int8 table", 3.5), ("int8 table", 3)}


def test_without_the_program_the_rest_is_measured(tmp_path: Path) -> None:
    """In this process, for the case that takes the shortest."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (engine, measures):
            patch.setattr(module, "PROGRAM", tmp_path / "missing")
        measures.inside.cache_clear()
        case = {"measured": "many events at once", "model": measures.RANDOM, "threads": 1}
        python, missing = shown(case)
        measures.inside.cache_clear()
    assert python.value.median > 0
    assert missing.value is None
    assert missing.note == inside.NOT_BUILT


def test_a_wrong_answer_stops_the_search() -> None:
    rows = np.random.default_rng(0).standard_normal((100, 8)).astype(np.float32)
    best = np.argsort(-(rows @ rows[3]))[:10]
    measures._check(rows, rows[3], best)
    with pytest.raises(AssertionError):
        measures._check(rows, rows[3], best[::-1])


def test_a_model_that_is_missing_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "none.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["engine.py", "--quick", "--model", str(file)])
        with pytest.raises(SystemExit, match=f"--model {file} is no file"):
            engine.arguments()


def test_own_options_are_taken_out_of_the_command_line(tmp_path: Path) -> None:
    files = [tmp_path / f"{name}.safetensors" for name in ("films", "books")]
    for file in files:
        file.touch()
    given = [word for file in files for word in ("--model", str(file))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "environ", {})
        patch.setattr(sys, "argv", ["engine.py", "--quick", *given, "--million"])
        engine.arguments()
        assert sys.argv == ["engine.py", "--quick"]
        assert os.environ[measures.USERS] == "1000000"
        assert measures.trained_models() == {"films": files[0], "books": files[1]}
        patch.setattr(sys, "argv", ["engine.py", "--measure-in-this-process"])
        engine.arguments()  # in the processes of this run
        assert measures.trained_models() == {"films": files[0], "books": files[1]}


def test_two_models_of_one_name_are_refused(tmp_path: Path) -> None:
    given = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.safetensors").touch()
        given += ["--model", str(tmp_path / folder / "model.safetensors")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["engine.py", *given])
        with pytest.raises(SystemExit, match="have the same name: rename one"):
            engine.arguments()


def test_the_page_has_the_figures_of_the_results() -> None:
    pages = [page.read_text(encoding="utf-8") for page in table.PAGES]
    for page in pages:
        assert table.rendered(page) == page, "run python benchmarks/engine.py --docs"
    assert [part for _, _, part, _ in table.MARK.findall(pages[0])] == list(PARTS)
    assert len(table.MARK.findall(pages[1])) == 5


def test_a_table_shows_misses_and_what_did_not_run() -> None:
    value = {"median": 20.0, "low": 19.0, "high": 21.5}
    row = {"value": value, "bar": 16, "bar_is": "at most", "reached": False, "note": "", "unit": "µs"}
    results = [
        {
            "case": {"measured": "start", "threads": 1},
            "took": {"ours": {"median": 2e-5}, "floor": {"median": 5e-6}},
            "figures": [
                {"ours": "ours", "beside": "floor", **row},
                {"ours": "ours", "beside": "peer", **row, "value": None, "note": "not installed: peer"},
            ],
        }
    ]
    page = "<!-- table:engine:start -->\nold\n<!-- end -->\n"
    assert table.rendered(page, lambda name: results).splitlines()[2:-2] == [
        "|  | figure | from … to | to reach | beside it |",
        "| --- | --- | --- | --- | --- |",
        "| ours | **20 µs** | 19 … 21.5 | ≤ 16 | floor: 25% of it |",
        "| ours |  |  |  | peer not installed: peer |",
    ]
