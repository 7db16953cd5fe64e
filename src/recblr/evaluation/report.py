"""The report of an evaluation.  Every result that recblr writes or compares has the same schema."""

import math
import os
import statistics
from collections.abc import Mapping
from datetime import UTC, datetime
from statistics import fmean
from typing import Any, Protocol

import numpy as np

from recblr.errors import InputError
from recblr.evaluation.report_file import SCHEMA, Figures, Report, check_report
from recblr.system.machine import describe_machine

PROTOCOL: Mapping[str, object] = {
    "split": "leave-one-out",
    "candidates": "whole catalogue",
    "ties": "pessimistic",
    "unmasked": "every item is a candidate",
    "masked": "items of the user's own history are no candidates, except the target",
}


class DatasetFacts(Protocol):
    """The facts about a dataset that a report holds.  `recblr.data.dataset.Dataset` has all of them."""

    @property
    def name(self) -> str: ...
    @property
    def num_users(self) -> int: ...
    @property
    def num_items(self) -> int: ...
    @property
    def num_interactions(self) -> int: ...
    @property
    def mean_length(self) -> float: ...
    @property
    def fingerprint(self) -> str: ...


def summarise(per_seed: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """{metric: {"mean", "std", "seeds": {"<seed>": value}}} from {seed: {metric: value}}.

    std is the sample standard deviation, and 0.0 for a single seed.

    Raises InputError if there is no seed, and ValueError if the seeds do not have the same metrics.
    """
    if not per_seed:
        raise InputError("there are no results to summarise", "evaluate at least one seed")
    first, *others = per_seed.values()
    if any(metrics.keys() != first.keys() for metrics in others):
        raise ValueError("every seed must have the same metrics, or their means cannot be compared")
    return {
        metric: _leaf({str(seed): float(metrics[metric]) for seed, metrics in per_seed.items()})
        for metric in first
    }


def build_report(
    *,
    ours: Mapping[int, Figures],
    baselines: Mapping[str, Figures],
    dataset: DatasetFacts,
    model: Mapping[str, object],
    training: Mapping[str, object],
    command: str,
    commit: str | None,
    seconds: Mapping[str, float],
    protocol: Mapping[str, object] | None = None,
    machine: Mapping[str, object] | None = None,
    date: str | None = None,
) -> Report:
    """The report of one model with all its seeds, and of the simple models, as plain JSON values.

    ours: {seed: figures}, where figures are {split: {"unmasked": metrics, "masked": metrics}}.  A split may
        also have "lists", the metrics of `beyond_accuracy`.
    baselines: {name: figures} of the simple models.  They have no seeds, so their std is 0.0.
    protocol: entries to add to PROTOCOL.  machine: by default, this machine.
    date: by default, now (UTC, ISO 8601).

    Raises InputError if there is no seed, ValueError if the seeds do not have the same figures or a value is
    NaN or infinite, and TypeError for a value that JSON cannot hold.
    """
    if not ours:
        raise InputError("there are no results to report", "evaluate at least one seed")
    report = {
        "schema": SCHEMA,
        "ours": _over_seeds(ours),
        "baselines": {name: _without_seeds(figures) for name, figures in baselines.items()},
        "dataset": {
            "name": dataset.name,
            "users": dataset.num_users,
            "items": dataset.num_items,
            "interactions": dataset.num_interactions,
            "mean_length": dataset.mean_length,
            "fingerprint": dataset.fingerprint,
        },
        "protocol": {**PROTOCOL, **(protocol or {})},
        "model": model,
        "training": training,
        "command": command,
        "commit": commit,
        "machine": describe_machine() if machine is None else machine,
        "seconds": seconds,
        "date": datetime.now(UTC).isoformat(timespec="seconds") if date is None else date,
    }
    return check_report(_plain(report, "report"), "the report")


def _over_seeds(ours: Mapping[int, Figures]) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    shapes = {seed: {split: set(parts) for split, parts in figures.items()} for seed, figures in ours.items()}
    shape = next(iter(shapes.values()))
    for seed, other in shapes.items():
        if other != shape:
            raise ValueError(f"every seed must have figures for the same splits, but seed {seed} has {other}")
    first = next(iter(ours.values()))
    return {
        split: {
            masking: summarise({seed: figures[split][masking] for seed, figures in ours.items()})
            for masking in parts
        }
        for split, parts in first.items()
    }


def _without_seeds(figures: Figures) -> dict[str, dict[str, dict[str, dict[str, Any]]]]:
    return {
        split: {
            masking: {
                metric: {"mean": float(value), "std": 0.0, "seeds": {}} for metric, value in metrics.items()
            }
            for masking, metrics in parts.items()
        }
        for split, parts in figures.items()
    }


def _leaf(seeds: dict[str, float]) -> dict[str, Any]:
    values = list(seeds.values())
    std = statistics.stdev(values) if len(values) > 1 else 0.0
    return {"mean": statistics.fmean(values), "std": std, "seeds": seeds}


def _plain(value: object, name: str) -> Any:
    """The value as JSON would return it.  So a report is equal to the one that is read from its file."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}, which JSON cannot hold; give a finite number or None")
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, f"{name}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, f"{name}[{i}]") for i, entry in enumerate(value)]
    raise TypeError(f"{name} is a {type(value).__name__}, which JSON cannot hold")


_TRAINING_OF_A_SEED = ("seed", "epochs_done", "best_epoch", "learned_repeat_bias")
_PARTS_OF_A_SEED = ("seconds", "commit", "machine", "date", "curve", "intervals")


def combine(reports: Mapping[int, Report], dataset: DatasetFacts, *, command: str) -> Report:
    """One report from the reports of several seeds, {seed: report}.  Each figure has the values of all seeds.

    The seeds must be runs on `dataset` with the same options.  `baselines`, `model`, `protocol`, `commit` and
    `machine` are those of the first seed.  `seconds` are means over the seeds, and `date` is the latest date.
    Figures that only some seeds have, because an earlier version evaluated the others, are left out.
    `training` holds the entries that all seeds share.  `runs` holds the rest for each seed: its other entries
    of `training`, its `curve`, and its seconds, commit, machine and date.

    command: the command that makes all of them.

    Raises InputError if there is no seed, and ValueError if the seeds do not have the same figures.
    """
    if not reports:
        raise InputError("there are no seeds to combine", "evaluate at least one")
    first, *others = reports.values()
    shared = {
        key: value
        for key, value in first["training"].items()
        if key not in _TRAINING_OF_A_SEED and all(other["training"].get(key) == value for other in others)
    }
    ours = {seed: _means(report["ours"]) for seed, report in reports.items()}
    if any("lists" not in figures.get("test", {}) for figures in ours.values()):
        ours = {seed: _without_lists(figures) for seed, figures in ours.items()}
    combined = build_report(
        ours=ours,
        baselines={name: _means(root) for name, root in first["baselines"].items()},
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
            **{part: report[part] for part in _PARTS_OF_A_SEED if part in report},
        }
        for seed, report in reports.items()
    }
    return combined


def _means(root: Mapping[str, Any]) -> Figures:
    return {
        split: {
            masking: {metric: leaf["mean"] for metric, leaf in metrics.items()}
            for masking, metrics in maskings.items()
        }
        for split, maskings in root.items()
    }


def _without_lists(figures: Figures) -> Figures:
    return {
        split: {part: metrics for part, metrics in parts.items() if part != "lists"}
        for split, parts in figures.items()
    }
