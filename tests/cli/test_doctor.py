"""`recblr doctor` shows the installed versions, which operators are native, and if not, why."""

from __future__ import annotations

import importlib.metadata

import pytest
from cli.command import succeeds

import recblr
from recblr.system import build


def test_it_says_which_versions_are_installed() -> None:
    out = succeeds("doctor")
    for package in ("torch", "numpy", "polars", "safetensors", "rich", "typer"):
        assert importlib.metadata.version(package) in next(
            line for line in out.splitlines() if line.split()[0] == package
        )
    assert out.startswith("recblr")
    assert recblr.__version__ in out.splitlines()[0]


def test_it_names_the_instruction_set_and_how_to_choose_another() -> None:
    info = recblr.build_info()
    line = next(line for line in succeeds("doctor").splitlines() if line.startswith("instruction set"))
    assert info["isa"] in line
    assert str(info["isa_available"]) in line
    assert "RECBLR_ISA" in line


def test_it_says_what_serves_the_operators_on_each_device() -> None:
    out = succeeds("doctor")
    for device, served in recblr.build_info()["ops"].items():
        line = next(line for line in out.splitlines() if line.startswith(f"operators on {device}"))
        assert line.split(device, 1)[1].strip() == served
    # If an operator uses the reference, the reason follows in brackets.
    assert all(
        "(" in served for served in recblr.build_info()["ops"].values() if served.startswith("reference")
    )


def test_a_missing_package_is_shown_with_its_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(package: str) -> str:
        if package == "typer":
            raise importlib.metadata.PackageNotFoundError(package)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert dict(build.findings())["typer"] == "not installed; pip install typer"


def test_doctor_reports_a_native_module_that_does_not_load(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> dict[str, object]:
        raise ImportError("libgomp.so.1 is missing [/usr/lib]")

    monkeypatch.setattr("recblr.system.build.build_info", broken)
    assert "not usable: libgomp.so.1 is missing [/usr/lib]" in succeeds("doctor")


def test_without_torch_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    info = {**recblr.build_info(), "ops": None}
    monkeypatch.setattr("recblr.system.build.build_info", lambda: info)
    assert "not registered: torch is not installed" in succeeds("doctor")
