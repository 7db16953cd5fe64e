"""Reports for tests.  All metrics of a part have the same value, so a test can recognise the part."""

from types import SimpleNamespace
from typing import Any

from recblr.evaluation.ranking import KS
from recblr.evaluation.report import build_report


def figures(value: float = 0.25) -> dict[str, dict[str, dict[str, float]]]:
    metrics = {f"{metric}@{k}": value for k in KS for metric in ("hr", "ndcg", "mrr")}
    return {split: {"unmasked": dict(metrics), "masked": dict(metrics)} for split in ("valid", "test")}


def report(name: str = "films", **changes: Any) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "ours": {0: figures()},
        "baselines": {"popular": figures(0.01), "successor": figures(0.1)},
        "dataset": SimpleNamespace(
            name=name,
            num_users=6040,
            num_items=3416,
            num_interactions=999611,
            mean_length=165.5,
            fingerprint="ab12",
        ),
        "model": {"width": 64},
        "training": {"epochs": 25},
        "command": "recblr train films.csv --out run",
        "commit": "0123abc",
        "seconds": {"train": 60.0},
    }
    return build_report(**{**arguments, **changes})
