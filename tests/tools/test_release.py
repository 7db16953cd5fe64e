"""Python versions, platforms and excluded libraries are written in several files, which must agree."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT, CIBUILDWHEEL = PYPROJECT["project"], PYPROJECT["tool"]["cibuildwheel"]
PYTHONS = [
    text.rpartition(" ")[2]
    for text in PROJECT["classifiers"]
    if re.fullmatch(r"Programming Language :: Python :: 3\.\d+", text)
]


def workflow(name: str) -> dict[str, Any]:
    file = ROOT / ".github" / "workflows" / f"{name}.yml"
    return yaml.safe_load(file.read_text(encoding="utf-8"))


def commands(job: dict[str, Any]) -> str:
    return "\n".join(step.get("run", "") for step in job["steps"])


def test_wheels_are_built_for_the_python_versions_of_the_classifiers() -> None:
    assert len(PYTHONS) > 1
    assert CIBUILDWHEEL["build"] == [f"cp{python.replace('.', '')}-manylinux_*" for python in PYTHONS]


def test_the_oldest_python_of_the_classifiers_is_the_oldest_that_pip_accepts() -> None:
    allowed = SpecifierSet(PROJECT["requires-python"])
    assert all(allowed.contains(python) for python in PYTHONS)
    oldest = int(PYTHONS[0].partition(".")[2])
    assert not allowed.contains(f"3.{oldest - 1}")


def test_the_linters_check_for_the_oldest_python() -> None:
    assert PYPROJECT["tool"]["mypy"]["python_version"] == PYTHONS[0]
    assert PYPROJECT["tool"]["ruff"]["target-version"] == f"py{PYTHONS[0].replace('.', '')}"


def test_ci_runs_the_oldest_and_the_newest_python_and_both_architectures() -> None:
    test = workflow("ci")["jobs"]["test"]
    rows = test["strategy"]["matrix"]["include"]
    assert {row["python"] for row in rows} == {PYTHONS[0], PYTHONS[-1]}
    assert {row["runner"].endswith("-arm") for row in rows} == {False, True}
    assert "bash .ci/run" in commands(test)


def test_wheels_are_built_natively_on_both_architectures() -> None:
    wheels = workflow("wheels")["jobs"]["wheels"]
    assert {runner.endswith("-arm") for runner in wheels["strategy"]["matrix"]["runner"]} == {False, True}
    assert CIBUILDWHEEL["archs"] == ["native"]
    assert "python -m cibuildwheel" in commands(wheels)
    for name in CIBUILDWHEEL["environment-pass"]:
        assert name in wheels["env"] or f"{name}=" in commands(wheels)


def test_published_wheels_are_repaired_checked_and_tested_like_local_ones() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    excluded = re.compile(r"auditwheel repair ((?:--exclude \S+ )+)")
    assert excluded.findall(makefile) == excluded.findall(CIBUILDWHEEL["repair-wheel-command"])
    for step, tool in (("audit-command", "tools/check_wheel.py"), ("test-command", "tools/try_wheel.py")):
        assert (ROOT / tool).exists()
        assert CIBUILDWHEEL[step] == f"python {{project}}/{tool} {{wheel}}"
        assert f"{tool} build/wheel/repaired/*.whl" in makefile
    needed = [
        line for line in PROJECT["optional-dependencies"]["dev"] if line in CIBUILDWHEEL["audit-requires"]
    ]
    assert needed == CIBUILDWHEEL["audit-requires"]


def test_only_a_tagged_commit_is_published_and_only_after_all_builds_passed() -> None:
    jobs = workflow("wheels")["jobs"]
    publish = jobs["publish"]
    assert publish["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert sorted(publish["needs"]) == sorted(set(jobs) - {"publish"})
    assert publish["permissions"] == {"id-token": "write"}
    assert all(
        "id-token" not in str(job.get("permissions")) for name, job in jobs.items() if name != "publish"
    )
    uploads = [
        step["with"]["name"]
        for job in jobs.values()
        for step in job["steps"]
        if step.get("uses", "").startswith("actions/upload-artifact")
    ]
    assert len(uploads) == len(publish["needs"])
    assert all(name.startswith("dist-") for name in uploads)


@pytest.mark.parametrize("name", ["ci", "wheels"])
def test_every_job_has_a_time_limit_and_only_read_permission(name: str) -> None:
    loaded = workflow(name)
    assert loaded["permissions"] == {"contents": "read"}
    assert all(0 < job["timeout-minutes"] <= 90 for job in loaded["jobs"].values())
