"""The machine's description: plain values, and honest where nothing can be found out."""

import json
import os
import platform
from pathlib import Path

import pytest
import torch

import recblr
from recblr.system.machine import cpu_model, describe_machine, usable_cores


def test_the_description_is_plain_json_with_versions() -> None:
    machine = describe_machine()
    assert json.loads(json.dumps(machine)) == machine
    versions = machine["versions"]
    assert isinstance(versions, dict)
    assert versions["python"] == platform.python_version()
    assert versions["torch"] == torch.__version__
    assert versions["recblr"] == recblr.__version__
    assert machine["torch_threads"] == torch.get_num_threads()


def test_it_holds_nothing_that_names_the_host() -> None:
    assert describe_machine().keys() == {
        "platform",
        "cpu",
        "cores",
        "torch_threads",
        "accelerator",
        "versions",
    }


def test_the_processor_is_read_from_cpuinfo(tmp_path: Path) -> None:
    cpuinfo = tmp_path / "cpuinfo"
    cpuinfo.write_text(
        "processor\t: 0\nmodel name\t: Abacus 9000: Pro\nprocessor\t: 1\nmodel name\t: other\n"
    )
    assert cpu_model(cpuinfo) == "Abacus 9000: Pro"


def test_the_architecture_serves_where_cpuinfo_tells_nothing(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nCPU part\t: 0xd0c\n")
    expected = platform.processor() or platform.machine()
    assert cpu_model(tmp_path / "cpuinfo") == expected
    assert cpu_model(tmp_path / "missing") == expected


def test_cores_are_those_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 5, 6}, raising=False)
    assert usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores() == 1
