"""The evaluation of a run: its figures are those of the model, and the same at each evaluation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from training.tiny_runs import contents, tiny_config, tiny_dataset, trained_to

from recblr.data import leave_one_out
from recblr.evaluation import KS, popular, rank_targets, read_report, successor, write_report
from recblr.evaluation.beyond_accuracy import Popularity, beyond_accuracy
from recblr.evaluation.report_file import Report
from recblr.serving.scorer import model_scorer
from recblr.training import DataConfig, Run, train
from recblr.training.evaluate import evaluate_run

FACTS = {"command": "recblr train d.inter --out run"}
DATA = DataConfig(paths=("d.inter",), k_core=5, min_item_events=3)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tmp_path_factory.mktemp("evaluated") / "run")
    train(tiny_dataset(), run, tiny_config(epochs=2, seed=5), data=DATA, facts=FACTS)
    return run


@pytest.fixture(scope="module")
def report(run: Run) -> Report:
    return evaluate_run(run)


@pytest.mark.parametrize("masking", ["unmasked", "masked"])
def test_every_metric_has_mean_deviation_and_seeds(report: Report, masking: str) -> None:
    for split in ("test", "valid"):
        leaves = report["ours"][split][masking]
        assert leaves.keys() == {f"{name}@{k}" for k in KS for name in ("hr", "ndcg", "mrr")}
        for leaf in leaves.values():
            assert leaf == {"mean": leaf["seeds"]["5"], "std": 0.0, "seeds": {"5": leaf["mean"]}}
    for baseline in ("popular", "successor"):
        assert report["baselines"][baseline]["test"][masking].keys() == leaves.keys()


def test_figures_equal_the_ranking_of_the_model_and_the_simple_models(run: Run, report: Report) -> None:
    dataset, split = tiny_dataset(), leave_one_out(tiny_dataset())
    items = dataset.num_items
    for scorer, found in (
        (model_scorer(run.model()), report["ours"]),
        (popular(split.train, items), report["baselines"]["popular"]),
        (successor(split.train, items), report["baselines"]["successor"]),
    ):
        expected = rank_targets(scorer, split.test, items).metrics()
        for masking, metrics in expected.items():
            means = {name: leaf["mean"] for name, leaf in found["test"][masking].items()}
            assert means == pytest.approx(metrics)


def test_the_report_says_how_varied_and_how_sure_the_lists_are(run: Run, report: Report) -> None:
    dataset, split = tiny_dataset(), leave_one_out(tiny_dataset())
    items, shown = dataset.num_items, report["ours"]["test"]["lists"]
    (unmasked, masked) = (report["intervals"]["test"][masking]["hr@10"] for masking in ("unmasked", "masked"))
    assert unmasked["low"] < report["ours"]["test"]["unmasked"]["hr@10"]["mean"] < unmasked["high"]
    assert masked["low"] < report["ours"]["test"]["masked"]["hr@10"]["mean"] < masked["high"]
    ranks = {
        "popular": rank_targets(popular(split.train, items), split.test, items, lists=10),
        "successor": rank_targets(successor(split.train, items), split.test, items, lists=10),
        "ours": rank_targets(model_scorer(run.model()), split.test, items, lists=10),
    }
    of_simple = {name: report["baselines"][name]["test"]["lists"] for name in ("popular", "successor")}
    for name, figures in {"ours": shown, **of_simple}.items():
        expected = beyond_accuracy(ranks[name].lists, Popularity.of(split.train, items))
        assert expected.items() <= {metric: leaf["mean"] for metric, leaf in figures.items()}.items()
    right = {name: (found.lists == split.test.targets[:, None]).any(1) for name, found in ranks.items()}
    simple = right["popular"] | right["successor"]
    assert shown["simple@10"]["mean"] == simple.mean()
    assert shown["beyond-simple@10"]["mean"] == (right["ours"] & ~simple).mean()
    assert "lists" not in report["ours"]["valid"]


def test_the_report_names_its_command_data_and_options(run: Run, report: Report) -> None:
    assert report["command"] == FACTS["command"]
    minimum = [report["protocol"][name] for name in ("k_core", "min_user_events", "min_item_events")]
    assert minimum == [5, None, 3]
    assert report["dataset"]["fingerprint"] == tiny_dataset().fingerprint
    assert report["model"]["d_model"] == 16
    assert report["model"]["parameters"] == sum(p.numel() for p in run.model().parameters())
    assert report["training"]["learned_repeat_bias"] == run.model().repeat_bias.item()
    assert report["training"]["epochs"] == report["training"]["epochs_done"] == 2
    assert report["training"]["best_epoch"] == run.log()[-1].best_epoch
    assert report["seconds"].keys() == {"train", "validate", "evaluate"}
    assert all(seconds > 0 for seconds in report["seconds"].values())


def test_the_curve_has_a_point_for_each_epoch(run: Run, report: Report) -> None:
    log = run.log()
    assert [point["epoch"] for point in report["curve"]] == [1, 2]
    assert [point["loss"] for point in report["curve"]] == [record.loss for record in log]
    assert [point["masked"] for point in report["curve"]] == [record.valid["masked"] for record in log]


def test_the_report_is_the_same_when_read_from_its_file(report: Report, tmp_path: Path) -> None:
    write_report(report, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report


def test_evaluating_again_gives_the_same_figures_and_writes_nothing(run: Run, report: Report) -> None:
    before = contents(run.folder)
    again = evaluate_run(run)
    assert (again["ours"], again["baselines"]) == (report["ours"], report["baselines"])
    assert contents(run.folder) == before


def test_progress_counts_every_user_for_every_scorer(run: Run) -> None:
    told: list[tuple[str, int, int]] = []
    evaluate_run(run, lambda name, done, users: told.append((name, done, users)))
    assert {name for name, _, _ in told} == {"RecBLR", "popular", "successor"}
    assert {users for _, _, users in told} == {60}
    for name in ("popular", "successor"):
        assert [done for who, done, _ in told if who == name][-1] == 60


def test_a_stopped_run_can_be_evaluated(tmp_path: Path) -> None:
    run = trained_to(tmp_path / "run", 1, tiny_dataset(), tiny_config())
    report = evaluate_run(run)
    assert report["training"]["epochs"] == 4
    assert report["training"]["epochs_done"] == 1


def test_a_dataset_in_memory_has_no_k_core_in_the_report(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    train(tiny_dataset(), run, tiny_config(epochs=1), facts={"data": "a shop's log"})
    assert json.loads(run.facts_file.read_text())["data"] == "a shop's log"
    assert run.data() is None
    assert evaluate_run(run)["protocol"]["k_core"] is None
