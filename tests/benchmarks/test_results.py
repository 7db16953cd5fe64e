"""The tables that docs/results shows for reports of one run, and of several seeds beside the paper."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.harness import load
from evaluation.reports import report
from evaluation.test_picture import CURVE
from evaluation.test_seeds import combined, of_seed

from recblr.errors import InputError
from recblr.evaluation import write_report

pytest.importorskip("matplotlib", reason="pictures need matplotlib, which is in the extra `plot`")
results = load("results")


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A page with a place for a table, in a folder that stands for docs."""
    monkeypatch.setattr(results, "DOCS", tmp_path)
    monkeypatch.setattr(results, "RESULTS", tmp_path / "results")
    path = tmp_path / "results.md"
    path.write_text("before\n<!-- table:ml-1m -->\nold\n<!-- end -->\nafter\n")
    return path


def test_variants_of_time_are_sorted_by_their_last_epoch(tmp_path: Path) -> None:
    def line(variant: str, *ndcg: float) -> str:
        valid = [{"hr@10": 0.5, "ndcg@10": value} for value in ndcg]
        return json.dumps({"variant": variant, "valid": valid, "seconds": 7.6})

    table = results.variants_table([line("none", 0.3, 0.2), line("past+next", 0.1, 0.25)]).splitlines()
    assert table[2:] == ["| past + next | 0.5000 | 0.2500 | 8 |", "| none | 0.5000 | 0.2000 | 8 |"]


def test_an_ablation_of_time_has_a_row_for_each_kind_of_gaps() -> None:
    figures = {"hr@10": 0.4, "ndcg@10": 0.25, "mrr@10": 0.2}
    table = results.ablation_table({"test": {"true": figures, "days": figures}}).splitlines()
    assert table[0] == "| gaps to the request | HR@10 | NDCG@10 | MRR@10 |"
    assert table[2:] == [f"| {way} | 0.4000 | 0.2500 | 0.2000 |" for way in ("true", "days")]


def run_of(model: str, epochs: int, **others: Any) -> dict[str, Any]:
    """A report of one seed; others: further options of the model."""
    return {
        **report(),
        "curve": CURVE,
        "model": {"name": model, "model": model.lower(), "dropout": 0.2, **others},
        "training": {"epochs": epochs},
        "machine": {"torch_threads": 2},
        "seconds": {"train": 600.0, "validate": 60.0},
    }


def row(text: str, name: str) -> list[str]:
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {name} |"))
    return [cell.strip() for cell in line.split("|")[2:-1]]


def test_seeds_have_means_and_spreads_beside_the_paper(page: Path, tmp_path: Path) -> None:
    made = combined(*(of_seed(seed, curve=CURVE) for seed in range(3)))
    write_report(made, tmp_path / "report.json")
    results.take(tmp_path / "report.json", "ml-1m")
    results.refresh()
    text = page.read_text()
    *figures, cost = row(text, "**RecBLR**, all items")
    assert figures == ["0.2000 ± 0.1000"] * 5
    assert cost == results.cost(made)
    assert row(text, "RecBLR, the paper, all items")[:2] == ["0.3285", "0.1901"]
    assert row(text, "popular, unseen items") == [*["0.0100"] * 5, ""]
    assert text.startswith("before\n")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "old" not in text
    assert (tmp_path / "results" / "ml-1m.png").exists()


def test_a_table_goes_to_the_page_that_has_its_mark(page: Path, tmp_path: Path) -> None:
    other = tmp_path / "results-time.md"
    other.write_text("<!-- table:ml-1m-request -->\n<!-- end -->\n")
    write_report(run_of("RecBLR", epochs=36), tmp_path / "report.json")
    results.take(tmp_path / "report.json", "ml-1m-request")
    before = page.read_text()
    results.refresh()
    assert row(other.read_text(), "**RecBLR**, all items")[:5] == ["0.2500"] * 5
    assert page.read_text() == before


def test_a_single_run_has_no_spread(page: Path, tmp_path: Path) -> None:
    write_report(run_of("RecBLR", epochs=36), tmp_path / "report.json")
    results.take(tmp_path / "report.json", "ml-1m")
    results.refresh()
    assert row(page.read_text(), "**RecBLR**, unseen items") == [*["0.2500"] * 5, "11 min, 2 threads"]


def test_a_model_that_knows_time_is_not_beside_the_paper(page: Path, tmp_path: Path) -> None:
    timed = run_of("RecBLR", epochs=36)
    timed["protocol"] = timed["protocol"] | {"time": "request"}
    timed["paper"] = {"test": {}}
    write_report(timed, tmp_path / "report.json")
    results.take(tmp_path / "report.json", "ml-1m")
    results.refresh()
    text = page.read_text()
    assert "time known: request" in text
    assert "the paper" not in text
    assert not (tmp_path / "results" / "ml-1m.png").exists()


def test_other_models_and_other_options_are_rows_of_the_same_table(page: Path, tmp_path: Path) -> None:
    runs = {
        "ml-1m": run_of("RecBLR", epochs=36, history_average=True),
        "ml-1m.sasrec": run_of("SASRec", epochs=36),
        "ml-1m.short": run_of("RecBLR", epochs=12, history_average=True),
        "ml-1m.plain": run_of("RecBLR", epochs=36, history_average=False),
        "ml-1m.old": run_of("RecBLR", epochs=24),
        "ml-1m.wide": run_of("RecBLR", epochs=12, history_average=True, d_model=128),
        "ml-1m.quick": run_of("RecBLR", epochs=6, history_average=True, dropout=0.1),
    }
    shared = run_of("RecBLR", epochs=36, history_average=True)
    runs["ml-1m.share"] = {**shared, "training": {"epochs": 36, "valid_share": 0.1}}
    for name, made in runs.items():
        write_report(made, tmp_path / "report.json")
        results.take(tmp_path / "report.json", name)
    results.refresh()
    for label in (
        "**RecBLR**",
        "SASRec",
        "RecBLR of 12 epochs",
        "RecBLR of 12 epochs of width 128",
        "RecBLR without average",
        "RecBLR of 24 epochs without average",
        "RecBLR of 6 epochs with dropout 0.1",
        "RecBLR validated on 10 % of users",
    ):
        assert row(page.read_text(), f"{label}, all items")[:5] == ["0.2500"] * 5
    assert [file.name for file in (tmp_path / "results").glob("*.png")] == ["ml-1m.png"]
    results.take(tmp_path / "results" / "ml-1m.plain.json", "ml-1m.twice")
    with pytest.raises(InputError, match="both give the row 'RecBLR without average' of ml-1m"):
        results.refresh()


def test_a_report_for_which_the_page_has_no_table_is_refused_and_not_kept(page: Path, tmp_path: Path) -> None:
    write_report(run_of("RecBLR", epochs=36), tmp_path / "report.json")
    for name in ("ml-100k", "ml-100k.sasrec"):
        with pytest.raises(
            InputError, match="no page has a place for the table of ml-100k; write <!-- table:ml-100k"
        ):
            results.take(tmp_path / "report.json", name)
    assert not (tmp_path / "results").exists()


def test_the_picture_shows_ours_and_other_models_and_no_other_run_of_ours() -> None:
    main = run_of("RecBLR", epochs=36, history_average=True)
    others = {
        "RecBLR of 12 epochs": run_of("RecBLR", epochs=12, history_average=True),
        "SASRec": run_of("SASRec", epochs=36),
        "GRU4Rec of 12 epochs": run_of("GRU4Rec", epochs=12),
    }
    assert list(results.pictured(main, others)) == ["RecBLR", "SASRec", "GRU4Rec of 12 epochs"]
