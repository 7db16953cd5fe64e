"""docs/options.md equals the output of tools/options_page.py."""

from __future__ import annotations

from pathlib import Path

from options_page import page, row

from recblr.config import OPTIONS

ROOT = Path(__file__).parents[2]


def test_the_page_equals_the_output_of_the_tool() -> None:
    text = (ROOT / "docs" / "options.md").read_text(encoding="utf-8")
    assert text == page(), "run python tools/options_page.py > docs/options.md"


def test_every_option_of_a_run_has_one_row() -> None:
    lines = page().splitlines()
    for key, option in OPTIONS.items():
        name = key if option.type is tuple else f"--{key}"
        rows = [line for line in lines if line.startswith((f"| `{name}`", f"| `{name} "))]
        run_rows = [line for line in rows if option.help in line]
        assert run_rows, f"{key} has no row"


def test_a_bar_in_a_text_does_not_end_its_cell() -> None:
    assert row("a|b", "c") == "| a\\|b | c |"
