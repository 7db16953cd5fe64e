"""The report of an evaluation: one schema for every result that recblr writes or compares."""

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
    """What a report says about a dataset; `recblr.data.dataset.Dataset` says it all."""

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

    std is the sample standard deviation, 0.0 for a single seed. Raises InputError without any seed,
    ValueError if the seeds do not have the same metrics.
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
    """The report of one model, over all its seeds, beside the baselines, as plain JSON values.

    `ours` is {seed: figures} and `baselines` {name: figures}, where figures are
    {split: {"unmasked": metrics, "masked": metrics}}. A baseline has no seed: its leaves have
    std 0.0 and no seeds. `protocol` is added to PROTOCOL; `machine` defaults to this one, `date` to
    now (UTC, ISO 8601).

    Raises InputError without any seed, ValueError if seeds do not have the same figures or a value is
    NaN or infinite, TypeError for a value that JSON cannot hold.
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


def _plain(value: object, where: str) -> Any:
    """The value as JSON would return it, so that a report equals what is read back from its file."""
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, which JSON cannot hold; give a finite number or None")
        return value
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(entry, f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry, f"{where}[{i}]") for i, entry in enumerate(value)]
    raise TypeError(f"{where} is a {type(value).__name__}, which JSON cannot hold")


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
        raise InputError("there are no seeds to combine", "evaluate at least one")
    first, *others = reports.values()
    shared = {
        key: value
        for key, value in first["training"].items()
        if key not in _OF_A_SEED and all(other["training"].get(key) == value for other in others)
    }
    combined = build_report(
        ours={seed: _means(report["ours"]) for seed, report in reports.items()},
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
            **{part: report[part] for part in _OF_A_RUN},
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
