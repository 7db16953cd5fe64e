"""What the documents show is what the code does."""

import importlib.util
import re
from pathlib import Path

import pytest

from recblr.evaluation import read_report

ROOT = Path(__file__).parents[1]
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
REPORTS = sorted((ROOT / "docs" / "results").glob("*.json"))


@pytest.mark.parametrize("block", BLOCKS, ids=[block.splitlines()[-1][:40] for block in BLOCKS])
def test_the_readmes_python_runs(block):
    exec(compile(block, "README.md", "exec"), {})


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


def test_every_link_in_the_documents_leads_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize("file", REPORTS, ids=lambda file: file.stem)
def test_the_results_page_shows_its_reports(file):
    pytest.importorskip("matplotlib")
    results = _program(ROOT / "benchmarks" / "results.py")
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert results.table(read_report(file)) in page
