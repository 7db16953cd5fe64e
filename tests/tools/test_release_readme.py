"""The README that a release carries: every link works away from the checkout."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from release_readme import absolute, dynamic_metadata

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)]+)\)")
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_no_relative_link_is_left() -> None:
    made = dynamic_metadata("readme", {}, {})
    targets = LINK.findall(made["text"])
    assert len(targets) == len(LINK.findall(README)) > 10
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    assert made["content-type"] == "text/markdown"


def test_every_relative_link_of_the_checkout_exists() -> None:
    targets = [target for target in LINK.findall(README) if not target.startswith(("https://", "#"))]
    assert targets
    for target in targets:
        assert (ROOT / target.partition("#")[0]).exists(), target


def test_pages_are_shown_and_pictures_are_raw() -> None:
    page = "![a](x/y.png) [b](z.md#c) [d](https://e.org) [f](#g)"
    assert absolute(page, "https://host/name/", "1.2") == (
        "![a](https://host/name/raw/v1.2/x/y.png) [b](https://host/name/blob/v1.2/z.md#c)"
        " [d](https://e.org) [f](#g)"
    )


def test_the_build_puts_it_into_the_metadata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = pytest.importorskip("scikit_build_core.build")
    monkeypatch.chdir(ROOT)
    folder = build.prepare_metadata_for_build_wheel(str(tmp_path), {})
    metadata = (tmp_path / folder / "METADATA").read_text(encoding="utf-8")
    assert dynamic_metadata("readme")["text"].strip() in metadata
