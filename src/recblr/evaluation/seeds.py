"""The reports of one model's seeds as one report, with means and spreads."""

from collections.abc import Mapping
from statistics import fmean
from typing import Any

from recblr.errors import InputError
from recblr.evaluation.report import DatasetFacts, build_report
from recblr.evaluation.schema import Figures, Report

_OF_A_SEED = ("seed", "epochs_done", "best_epoch", "learned_repeat_bias")  # of a report's training
_OF_A_RUN = ("seconds", "commit", "machine", "date", "curve")


def combine(reports: Mapping[int, Report], dataset: DatasetFacts, *, command: str) -> Report:
    """One report of {seed: the seed's own}, in which every leaf holds all seeds.

    All are runs on `dataset` with the same options, so that baselines, model and protocol are the first's.
    `seconds` are means, a seed; `commit` and `machine` are the first's, `date` is the last one. `training` is
    what the seeds share; `runs` holds by seed what is its own: the rest of `training`, the `curve`, and its
    seconds, commit, machine and date.

    command: what makes all of them. Raises InputError without any seed, ValueError where seeds do not have
    the same figures.
    """
    if not reports:
        raise InputError("there are no seeds to combine; evaluate at least one")
    first, *others = reports.values()
    shared = {
        key: value
        for key, value in first["training"].items()
        if key not in _OF_A_SEED and all(other["training"].get(key) == value for other in others)
    }
    combined = build_report(
        ours={seed: _figures(report["ours"]) for seed, report in reports.items()},
        baselines={name: _figures(root) for name, root in first["baselines"].items()},
        dataset=dataset,
        model=first["model"],
        training=shared,
        command=command,
        commit=first["commit"],
        seconds={
            part: round(fmean(report["seconds"][part] for report in reports.values()), 3)
            for part in first["seconds"]
        },
        protocol=first["protocol"],
        machine=first["machine"],
        date=max(report["date"] for report in reports.values()),
    )
    combined["runs"] = {
        str(seed): {
            "training": {key: value for key, value in report["training"].items() if key not in shared},
            **{part: report[part] for part in _OF_A_RUN},
        }
        for seed, report in reports.items()
    }
    return combined


def _figures(root: Mapping[str, Any]) -> Figures:
    return {
        split: {
            masking: {metric: leaf["mean"] for metric, leaf in metrics.items()}
            for masking, metrics in maskings.items()
        }
        for split, maskings in root.items()
    }
