"""Every target of the Makefile is run by a workflow, and is described at the Makefile's head."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
WORKFLOWS = ROOT / ".github" / "workflows"

# What changes or removes files of the developer's own and proves nothing, and a server that does not end.
BY_HAND = {"format", "clean", "serve-demo"}


def targets() -> set[str]:
    (names,) = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    return set(names.split())


def parts_of_test() -> set[str]:
    (recipe,) = re.findall(r"^test:.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    return set(recipe.split()) & targets()


def weekly() -> set[str]:
    jobs = yaml.safe_load((WORKFLOWS / "weekly.yml").read_text(encoding="utf-8"))["jobs"]
    return set(jobs["target"]["strategy"]["matrix"]["target"])


def test_every_target_is_run_by_a_workflow() -> None:
    ci = "".join(file.read_text(encoding="utf-8") for file in (WORKFLOWS / "ci.yml", ROOT / ".ci" / "run"))
    every_change = set(re.findall(r"make ([\w-]+)", ci))
    if "test" in every_change:
        every_change |= parts_of_test()
    assert every_change | weekly() | BY_HAND == targets()
    assert not every_change & weekly()


def test_the_head_of_the_makefile_names_what_is_called_by_hand() -> None:
    head = MAKEFILE.partition("\n\n")[0]
    described = set(re.findall(r"^# make ([\w-]+)", head, re.MULTILINE))
    assert described >= targets() - parts_of_test()
    assert described <= targets()
