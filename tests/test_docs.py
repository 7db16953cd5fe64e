"""What the documents show is what the code does."""

import importlib.util
import re
from pathlib import Path

import pytest
from docs.shell import type_in
from training.tiny_runs import one_thread

from recblr.evaluation import read_report

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
REPORTS = sorted((ROOT / "docs" / "results").glob("*.json"))


@pytest.mark.parametrize("block", BLOCKS, ids=[block.splitlines()[-1][:40] for block in BLOCKS])
def test_the_readmes_python_runs(block):
    exec(compile(block, "README.md", "exec"), {})


def test_the_readmes_command_lines_run(tmp_path):
    shell = re.findall(r"```bash\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (lines,) = (block for block in shell if "recblr synth" in block)
    with one_thread():
        type_in(tmp_path, lines, {"synth": ["--users", "150"], "train": ["--epochs", "1"]})


def _program(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SNIPPETS = _program(ROOT / "tools" / "snippets.py")


@pytest.mark.parametrize("page", SNIPPETS.pages(), ids=lambda page: page.stem)
def test_examples_are_what_their_tests_run(page):
    text = page.read_text(encoding="utf-8")
    rendered, found = SNIPPETS.rendered(text)
    assert found == text.count("<!-- snippet:"), "a marker must stand right above a fenced block"
    assert rendered == text, "run python tools/snippets.py"


@pytest.mark.parametrize("file", [f for f in REPORTS if "." not in f.stem], ids=lambda file: file.stem)
def test_the_results_page_shows_its_reports(file):
    pytest.importorskip("matplotlib")
    results = _program(ROOT / "benchmarks" / "results.py")
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    report = read_report(file)
    assert results.table(report, results.beside(file.stem, report)) in page
