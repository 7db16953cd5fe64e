"""Reports as files: their schema, a reader that checks everything, and a writer that writes all or nothing.

A report that passes `check_report` can be printed without further checks.
"""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recblr.errors import InputError
from recblr.io.atomic import atomic_path

SCHEMA = 1

Report = dict[str, Any]
"""A report as plain JSON values, from `build_report` or `read_report`."""

Figures = Mapping[str, Mapping[str, Mapping[str, float]]]
"""The figures of one run: figures[split][masking][metric], such as figures["test"]["masked"]["ndcg@10"]."""

_DATASET: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "users": int,
    "items": int,
    "interactions": int,
    "mean_length": (int, float),
    "fingerprint": str,
}


def check_report(report: object, source: str) -> Report:
    """The report, if it follows the schema.  Otherwise, raises InputError with `source` and the problem."""
    remedy = "evaluate the run again to write a new one"
    if not isinstance(report, dict) or "schema" not in report:
        raise InputError(f'{source} is not a recblr report: it has no "schema" entry', remedy)
    if report["schema"] != SCHEMA:
        raise InputError(
            f"{source} has report schema {report['schema']!r}, but this recblr reads schema {SCHEMA}",
            f"use the recblr that wrote it, or {remedy}",
        )
    problem = _problem(report)
    if problem is not None:
        raise InputError(f"{source} is not a complete recblr report: {problem}", remedy)
    return report


def _problem(report: Report) -> str | None:
    dataset = report.get("dataset")
    if not isinstance(dataset, dict):
        return '"dataset" is missing'
    for key, kind in _DATASET.items():
        if not isinstance(dataset.get(key), kind):
            return f'"dataset.{key}" is missing or has the wrong type'
    if not isinstance(report.get("protocol"), dict):
        return '"protocol" is missing'
    baselines = report.get("baselines")
    if not isinstance(baselines, dict):
        return '"baselines" is missing'
    if not report.get("ours"):
        return '"ours" is missing'
    roots = {"ours": report["ours"], **{f"baselines.{name}": root for name, root in baselines.items()}}
    for name, root in roots.items():
        problem = _figures_problem(root, name)
        if problem is not None:
            return problem
    return _intervals_problem(report.get("intervals", {}))


def _intervals_problem(node: object, name: str = "intervals", levels: int = 3) -> str | None:
    """The problem in the intervals, which reports of older versions lack, or None."""
    if not isinstance(node, dict):
        return f'"{name}" holds no intervals'
    if levels == 0:
        return None if _is_number(node.get("low")) and _is_number(node.get("high")) else f'"{name}" is none'
    problems = (_intervals_problem(child, f"{name}.{key}", levels - 1) for key, child in node.items())
    return next((problem for problem in problems if problem is not None), None)


def _figures_problem(node: object, name: str, levels: int = 3) -> str | None:
    """The problem in `node`, or None.

    name: the name of the node.  levels: the names below it (split, masking, metric) that lead to a figure.
    """
    if levels == 0:
        return None if _is_leaf(node) else f'"{name}" is not a mean with its spread and seeds'
    if not isinstance(node, dict) or not node:
        return f'"{name}" holds no figures'
    problems = (_figures_problem(child, f"{name}.{key}", levels - 1) for key, child in node.items())
    return next((problem for problem in problems if problem is not None), None)


def _is_leaf(node: object) -> bool:
    return (
        isinstance(node, dict)
        and _is_number(node.get("mean"))
        and _is_number(node.get("std"))
        and isinstance(node.get("seeds"), dict)
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def write_report(report: Report, path: str | os.PathLike[str]) -> None:
    """Write the report as UTF-8 JSON, atomically: `path` always holds the whole old or the whole new file.

    Raises InputError if the file cannot be written.  Raises ValueError or TypeError, before it writes
    anything, if the report is not plain JSON with finite numbers.
    """
    path = Path(path)
    text = json.dumps(report, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    with atomic_path(path) as draft:
        draft.write_text(text, encoding="utf-8")


def read_report(path: str | os.PathLike[str]) -> Report:
    """The report in `path`.  Raises InputError if the file is missing, unreadable, damaged or no report."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise InputError(f"there is no report {path}", "evaluate the run to write one") from error
    except OSError as error:
        raise InputError(
            f"cannot read the report {path}: {error.strerror}", "give the path of a readable report.json"
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not a recblr report: it is not UTF-8 text", "give the path of a report.json"
        ) from error
    try:
        report = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"the report {path} is damaged: it is not valid JSON", "evaluate the run again to write a new one"
        ) from error
    return check_report(report, str(path))
