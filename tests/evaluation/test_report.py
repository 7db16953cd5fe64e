"""The report: its figures, writing and reading it, and the files that the reader refuses."""

import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from evaluation.reports import figures, report
from hypothesis import given
from hypothesis import strategies as st

from recblr.errors import InputError
from recblr.evaluation.report import build_report, summarise
from recblr.evaluation.report_file import read_report, write_report


def test_one_seed_has_no_deviation() -> None:
    assert summarise({7: {"hr@10": 0.25}}) == {"hr@10": {"mean": 0.25, "std": 0.0, "seeds": {"7": 0.25}}}


def test_std_is_the_sample_standard_deviation() -> None:
    leaf = summarise({0: {"hr@10": 0.1}, 1: {"hr@10": 0.2}, 2: {"hr@10": 0.6}})["hr@10"]
    assert leaf["mean"] == pytest.approx(0.3)
    assert leaf["std"] == pytest.approx(math.sqrt((0.04 + 0.01 + 0.09) / 2))
    assert leaf["seeds"] == {"0": 0.1, "1": 0.2, "2": 0.6}


@given(st.dictionaries(st.integers(0, 99), st.floats(0, 1), min_size=2, max_size=6))
def test_summaries_agree_with_numpy(values: dict[int, float]) -> None:
    leaf = summarise({seed: {"mrr@5": value} for seed, value in values.items()})["mrr@5"]
    assert leaf["mean"] == pytest.approx(np.mean(list(values.values())))
    assert leaf["std"] == pytest.approx(np.std(list(values.values()), ddof=1), abs=1e-12)


def test_no_seed_is_an_input_error() -> None:
    with pytest.raises(InputError, match="at least one seed"):
        summarise({})
    with pytest.raises(InputError, match="at least one seed"):
        report(ours={})


def test_seeds_with_different_metrics_are_not_averaged() -> None:
    with pytest.raises(ValueError, match="same metrics"):
        summarise({0: {"hr@10": 0.1}, 1: {"hr@20": 0.1}})


def test_seeds_with_different_splits_are_not_averaged() -> None:
    with pytest.raises(ValueError, match="seed 1"):
        report(ours={0: figures(), 1: {"test": figures()["test"]}})


def test_the_report_has_the_documented_entries() -> None:
    built = report(ours={0: figures(0.3), 1: figures(0.5)}, protocol={"k_core": 5})
    assert built["schema"] == 1
    leaf = built["ours"]["test"]["unmasked"]["hr@10"]
    assert leaf["mean"] == pytest.approx(0.4)
    assert leaf["seeds"] == {"0": 0.3, "1": 0.5}
    assert built["ours"]["valid"]["masked"]["ndcg@20"]["seeds"] == {"0": 0.3, "1": 0.5}
    assert built["baselines"]["popular"]["test"]["masked"]["mrr@1"] == {"mean": 0.01, "std": 0.0, "seeds": {}}
    assert built["dataset"] == {
        "name": "films",
        "users": 6040,
        "items": 3416,
        "interactions": 999611,
        "mean_length": 165.5,
        "fingerprint": "ab12",
    }
    assert built["protocol"]["split"] == "leave-one-out"
    assert built["protocol"]["candidates"] == "whole catalogue"
    assert built["protocol"]["ties"] == "pessimistic"
    assert built["protocol"]["k_core"] == 5
    assert built["machine"]["cores"] >= 1
    assert {"model", "training", "command", "commit", "seconds", "date"} <= built.keys()


def test_a_report_is_the_same_when_read_from_its_file(tmp_path: Path) -> None:
    built = report(
        training={"lr": np.float32(0.5), "betas": (0.9, 0.999), "out": tmp_path, "note": "é ☃"},
        model={"width": np.int64(64), "schedule": {1: "x"}},
    )
    write_report(built, tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == built
    assert built["training"]["betas"] == [0.9, 0.999]
    assert built["model"]["schedule"] == {"1": "x"}


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_json_cannot_hold_is_named(value: float) -> None:
    with pytest.raises(ValueError, match=r"report.training.lr\[1\] is"):
        report(training={"lr": [0.1, value]})


def test_an_object_that_json_cannot_hold_is_named() -> None:
    with pytest.raises(TypeError, match=r"report.model.layer is a object"):
        report(model={"layer": object()})


def test_writing_replaces_the_old_report_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(report(command="first"), path)
    write_report(report(command="second"), path)
    assert read_report(path)["command"] == "second"
    assert os.listdir(tmp_path) == ["report.json"]


def test_a_failed_write_keeps_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    write_report(report(command="first"), path)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError, match="No space left on device"):
        write_report(report(command="second"), path)
    assert read_report(path)["command"] == "first"
    assert os.listdir(tmp_path) == ["report.json"]


def test_unwritable_values_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_report({**report(), "extra": math.nan}, tmp_path / "report.json")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_does_not_exist_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere/report.json: No such file.*choose a folder"):
        write_report(report(), tmp_path / "nowhere" / "report.json")


def test_a_missing_report_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no report .*report.json; evaluate"):
        read_report(tmp_path / "report.json")


def test_a_folder_in_place_of_a_report_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read the report"):
        read_report(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged"),
        (b'{"schema": 1, "ours": {', "damaged"),
        (b"[" * 100_000, "damaged"),
        (b"\xff\xfe\x00", "not UTF-8"),
        (b"[1, 2]", "not a recblr report"),
        (b'{"loss": 3}', "not a recblr report"),
        (b'{"schema": 2}', "schema 2, but this recblr reads schema 1"),
        (b'{"schema": 1}', '"dataset" is missing'),
    ],
)
def test_damaged_and_foreign_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        read_report(path)
    assert str(path) in str(caught.value)


def without(*keys: str) -> Callable[[dict[str, Any]], None]:
    def damage(value: dict[str, Any]) -> None:
        for key in keys[:-1]:
            value = value[key]
        del value[keys[-1]]

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("dataset", "users"), "dataset.users"),
        (without("protocol"), '"protocol" is missing'),
        (without("baselines"), '"baselines" is missing'),
        (without("ours"), '"ours" is missing'),
        (without("ours", "test", "masked", "hr@10", "mean"), "ours.test.masked.hr@10"),
        (without("baselines", "popular", "test", "masked", "hr@1", "seeds"), "baselines.popular.test.masked"),
        (lambda value: value["ours"]["test"].update(unmasked={}), "ours.test.unmasked"),
        (
            lambda value: value["ours"]["test"]["masked"]["hr@1"].update(mean=math.nan),
            "ours.test.masked.hr@1",
        ),
    ],
)
def test_the_missing_part_of_a_report_is_named(
    tmp_path: Path, damage: Callable[[dict[str, Any]], None], message: str
) -> None:
    value = report()
    damage(value)
    path = tmp_path / "report.json"
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match=message):
        read_report(path)


def test_any_prefix_of_a_report_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    write_report(report(), path)
    content = path.read_bytes().rstrip()
    for size in range(0, len(content), 997):
        path.write_bytes(content[:size])
        with pytest.raises(InputError, match="damaged"):
            read_report(path)


def test_any_object_with_the_facts_can_be_the_dataset() -> None:
    @dataclass(frozen=True)
    class Shop:
        name: str = "shop"
        num_users: int = 2
        num_items: int = 3
        num_interactions: int = 9
        mean_length: float = 4.5
        fingerprint: str = "cd"

    built = build_report(
        ours={0: figures()},
        baselines={},
        dataset=Shop(),
        model={},
        training={},
        command="recblr evaluate run",
        commit=None,
        seconds={"evaluate": 1.5},
    )
    assert built["dataset"]["interactions"] == 9
    assert built["commit"] is None


@pytest.mark.parametrize(
    ("intervals", "named"),
    [
        ([], "intervals"),
        ({"test": 3}, "intervals.test"),
        ({"test": {"masked": {"hr@10": [0.1, 0.2]}}}, "intervals.test.masked.hr@10"),
        ({"test": {"masked": {"hr@10": {"low": 0.1}}}}, "intervals.test.masked.hr@10"),
        ({"test": {"masked": {"hr@10": {"low": "0", "high": 1}}}}, "intervals.test.masked.hr@10"),
    ],
)
def test_a_damaged_interval_is_named(intervals: object, named: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps({**report(), "intervals": intervals}))
    with pytest.raises(InputError, match=f'not a complete recblr report: "{named}" '):
        read_report(tmp_path / "report.json")
