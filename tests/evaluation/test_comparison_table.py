"""The table beside the paper: the paper's figures, ours, their difference, and the source of ours."""

import io
from typing import Any

from evaluation.test_seeds import combined, of_seed
from rich.console import Console

from recblr.evaluation import print_comparison
from recblr.experiments import RECIPES

MACHINE = {
    "cpu": "Abacus 9",
    "cores": 4,
    "torch_threads": 2,
    "accelerator": None,
    "versions": {"recblr": "0.1.0", "torch": "2.10.0"},
}


def beside_paper(*seeds: int, differs: dict[str, Any] | None = None) -> dict[str, Any]:
    made = combined(*(of_seed(seed, machine=MACHINE) for seed in seeds))
    made["paper"] = RECIPES["ml-1m"].paper()
    made["recipe"] = {"name": "ml-1m", "differs": differs or {}}
    return made


def lines(report: dict[str, Any]) -> list[str]:
    console = Console(width=80, record=True, file=io.StringIO())
    print_comparison(report, console)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_each_metric_has_a_row_with_both_figures_and_their_difference() -> None:
    rows = [line.split() for line in lines(beside_paper(0)) if "@" in line]
    assert [row[0] for row in rows] == ["HR@10", "NDCG@10", "MRR@10", "HR@20", "NDCG@20", "MRR@20"]
    assert rows[0] == ["HR@10", "0.3285", "0.1000", "-0.2285", "0.1000"]
    assert rows[5] == ["MRR@20", "0.1547", "0.1000", "-0.0547", "0.1000"]


def test_unseen_items_have_a_column_of_their_own() -> None:
    report = beside_paper(0)
    report["ours"]["test"]["masked"]["hr@10"]["mean"] = 0.5
    (row,) = (line.split() for line in lines(report) if line.strip().startswith("HR@10"))
    assert row == ["HR@10", "0.3285", "0.1000", "-0.2285", "0.5000"]


def test_several_seeds_show_their_deviation_and_a_difference_shows_its_sign() -> None:
    shown = lines(beside_paper(0, 1, 2))
    (row,) = (line for line in shown if line.strip().startswith("NDCG@10"))
    assert " ".join(row.split()) == "NDCG@10 0.1901 0.2000 ± 0.1000 +0.0099 0.2000 ± 0.1000"
    assert "seeds     0, 1, 2: mean ± sample standard deviation" in shown
    assert "seconds   101 training, 20 validation, 3 evaluation, per seed" in shown
    assert "±" not in "\n".join(lines(beside_paper(0)))


def test_the_source_of_the_figures_is_printed() -> None:
    shown = "\n".join(lines(beside_paper(0)))
    assert "arXiv 2406.12580v2" in shown
    assert "machine   Abacus 9, cores 4, torch threads 2, recblr 0.1.0, torch 2.10.0\n" in shown
    assert "6,040 users, 3,416 items, 999,611 interactions, fingerprint ab12" in shown
    assert "leave-one-out, whole catalogue, pessimistic ties" in shown
    assert "recipe    ml-1m" in shown.splitlines()


def test_both_machines_of_two_seeds_are_named() -> None:
    report = beside_paper(0, 1)
    report["runs"]["1"]["machine"] = {**MACHINE, "device": "Loom 3"}
    machines = [line for line in lines(report) if line.startswith("machine")]
    assert [", Loom 3, " in line for line in machines] == [False, True]


def test_options_that_differ_from_the_recipe_are_printed() -> None:
    differs = {"epochs": {"recipe": 36, "here": 2}, "loss": {"recipe": "cross-entropy", "here": "bpr"}}
    said = "recipe    ml-1m, but --epochs 2 in place of 36; --loss bpr in place of cross-entropy"
    assert said in lines(beside_paper(0, differs=differs))
