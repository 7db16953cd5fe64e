"""Combining the reports of seeds: it keeps every figure of every seed, and what only one seed has."""

from types import SimpleNamespace
from typing import Any

import pytest
from evaluation.reports import figures, report

from recblr.errors import InputError
from recblr.evaluation import combine, summarise
from recblr.evaluation.report_file import check_report

DATASET = SimpleNamespace(
    name="ml-1m",
    num_users=6040,
    num_items=3416,
    num_interactions=999_611,
    mean_length=165.5,
    fingerprint="ab12",
)

OWN = {"learned_repeat_bias": -11.0}  # belongs to a seed, even if all seeds have the same value by chance


def of_seed(seed: int, **changes: Any) -> dict[str, Any]:
    made = report(
        ours={seed: figures((1 + seed) / 10)},
        training={
            "epochs": 36,
            "seed": seed,
            "epochs_done": 30 + seed,
            "best_epoch": 20 + seed,
            **OWN,
        },
        seconds={"train": 100.0 + seed, "validate": 20.0, "evaluate": 3.0},
        date=f"2026-01-0{seed + 1}T00:00:00+00:00",
    )
    return {**made, "curve": [{"epoch": 1, "loss": float(seed)}], **changes}


def combined(*reports: dict[str, Any]) -> dict[str, Any]:
    return combine(dict(enumerate(reports)), DATASET, command="recblr reproduce ml-1m")


def test_every_leaf_holds_every_seed() -> None:
    made = combined(*map(of_seed, range(3)))
    check_report(made, "it")
    values = summarise({seed: {"x": (1 + seed) / 10} for seed in range(3)})["x"]
    for split in ("test", "valid"):
        for masking in ("unmasked", "masked"):
            assert all(leaf == values for leaf in made["ours"][split][masking].values())


def test_shared_entries_are_written_once_and_others_for_each_seed() -> None:
    made = combined(*map(of_seed, range(2)))
    assert made["training"] == {"epochs": 36}
    assert made["seconds"] == {"train": 100.5, "validate": 20.0, "evaluate": 3.0}
    assert made["date"] == "2026-01-02T00:00:00+00:00"
    assert made["command"] == "recblr reproduce ml-1m"
    assert made["baselines"] == of_seed(0)["baselines"]
    assert list(made["runs"]) == ["0", "1"]
    second = made["runs"]["1"]
    assert second["training"] == OWN | {"seed": 1, "epochs_done": 31, "best_epoch": 21}
    assert second["seconds"]["train"] == 101.0
    assert second["curve"] == [{"epoch": 1, "loss": 1.0}]
    assert {"commit", "machine", "date"} <= second.keys()


def test_one_seed_has_the_same_entries() -> None:
    made = combined(of_seed(0))
    assert made["training"] == {"epochs": 36}
    assert made["runs"]["0"]["training"] == OWN | {"seed": 0, "epochs_done": 30, "best_epoch": 20}
    assert made["ours"]["test"]["masked"]["hr@10"] == {"mean": 0.1, "std": 0.0, "seeds": {"0": 0.1}}


def with_lists(seed: int, novelty: float) -> dict[str, Any]:
    made = of_seed(seed, intervals={"test": {"unmasked": {"hr@10": {"low": 0.1, "high": 0.2}}}})
    leaf = {"mean": novelty, "std": 0.0, "seeds": {str(seed): novelty}}
    made["ours"]["test"]["lists"] = {"novelty@10": leaf}
    return made


def test_figures_of_lists_are_combined_and_intervals_stay_with_their_seed() -> None:
    made = combined(with_lists(0, 2.0), with_lists(1, 4.0))
    assert made["ours"]["test"]["lists"]["novelty@10"]["mean"] == 3.0
    assert "intervals" not in made
    assert made["runs"]["1"]["intervals"]["test"]["unmasked"]["hr@10"] == {"low": 0.1, "high": 0.2}


def test_a_seed_that_an_earlier_version_evaluated_leaves_the_figures_that_all_have() -> None:
    made = combined(with_lists(0, 2.0), of_seed(1))
    check_report(made, "it")
    assert made["ours"]["test"].keys() == {"unmasked", "masked"}
    assert made["ours"]["test"]["masked"]["hr@10"]["seeds"] == {"0": 0.1, "1": 0.2}
    assert "intervals" not in made["runs"]["1"]


def test_combining_is_deterministic() -> None:
    assert combined(of_seed(0), of_seed(1)) == combined(of_seed(0), of_seed(1))


def test_combining_no_seeds_is_refused() -> None:
    with pytest.raises(InputError, match="no seeds to combine"):
        combined()
