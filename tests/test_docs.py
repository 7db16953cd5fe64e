"""The examples and results in the documents match the code."""

import importlib.util
import json
import re
from pathlib import Path

import pytest
from docs.shell import type_in
from training.tiny_runs import one_thread

from recblr.evaluation import read_report

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Those that come from a test are run there.
BLOCKS = re.findall(r"(?<!-->\n)```python\n(.*?)```", README, re.DOTALL)
REPORTS = sorted((ROOT / "docs" / "results").glob("*.json"))


@pytest.mark.parametrize("block", BLOCKS, ids=[block.splitlines()[-1][:40] for block in BLOCKS])
def test_the_python_in_the_readme_runs(block):
    exec(compile(block, "README.md", "exec"), {})


def test_the_commands_in_the_readme_run(tmp_path):
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
def test_each_example_is_the_code_that_its_test_runs(page):
    text = page.read_text(encoding="utf-8")
    rendered, found = SNIPPETS.rendered(text)
    assert found == text.count("<!-- snippet:"), "a marker must stand right above a fenced block"
    assert rendered == text, "run python tools/snippets.py"


@pytest.mark.parametrize("file", [f for f in REPORTS if "." not in f.stem], ids=lambda file: file.stem)
def test_the_pages_of_results_show_their_reports(file):
    pytest.importorskip("matplotlib")
    results = _program(ROOT / "benchmarks" / "results.py")
    pages, report = results.read_pages(), read_report(file)
    assert (
        results.table(report, results.beside(file.stem, report)) in pages[results.page_with(file.stem, pages)]
    )


def test_the_figures_in_the_readme_are_those_of_the_reports():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = {
        "**RecBLR, here**": ("ours", "ml-1m", "beauty"),
        "RecBLR, the paper": ("paper", "ml-1m", "beauty"),
        "SASRec, same trainer": ("ours", "ml-1m.sasrec", "beauty.sasrec"),
        "GRU4Rec, same trainer (12 epochs on MovieLens-1M)": ("ours", "ml-1m.gru4rec-12", "beauty.gru4rec"),
    }
    for label, (root, *names) in rows.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {label} |"))
        shown = [cell.strip(" *") for cell in line.split("|")[2:4]]
        reports = [read_report(ROOT / "docs" / "results" / f"{name}.json")[root]["test"] for name in names]
        wanted = [
            " / ".join(f"{r['unmasked'][m]['mean']:.4f}" for m in ("hr@10", "ndcg@10")) for r in reports
        ]
        assert shown == wanted


def test_the_speed_in_the_readme_is_that_of_the_benchmark():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    benchmark = json.loads((ROOT / "docs" / "benchmarks" / "peers.json").read_text(encoding="utf-8"))
    wanted = {}
    for result in benchmark["results"]:
        (best,) = (figure for figure in result["figures"] if figure["beside"] == "best peer")
        wanted.setdefault(result["case"]["shape"], []).append(f"{best['value']['median']:.1f}")
    assert len(wanted) == 5
    for shape, figures in wanted.items():
        (line,) = (line for line in text.splitlines() if line.startswith(f"| {shape} "))
        assert [cell.strip() for cell in line.split("|")[2:-1]] == figures
