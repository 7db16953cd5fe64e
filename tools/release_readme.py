"""Makes the README for a package index: its links and pictures get the address of the repository.

In a checkout the links are relative, so they work on every branch. An index shows the page without the other
files. The build calls `dynamic_metadata` (see [tool.scikit-build.metadata.readme] in pyproject.toml). The
address is in [project.urls].
"""

import re
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"(?P<picture>!?)\[(?P<text>[^\]]*)\]\((?!https?:|mailto:|#)(?P<target>[^)]+)\)")


def absolute(page: str, repository: str, version: str) -> str:
    """The page, in which every relative link becomes that of the file in the repository, for one version."""

    def link(found: re.Match[str]) -> str:
        kind = "raw" if found["picture"] else "blob"
        address = f"{repository.rstrip('/')}/{kind}/v{version}/{found['target']}"
        return f"{found['picture']}[{found['text']}]({address})"

    return _LINK.sub(link, page)


def dynamic_metadata(field: str, *_: Any) -> dict[str, str]:
    """Called by scikit-build-core; returns the README as text."""
    if field != "readme":
        raise ValueError(f"only the readme is made here, not {field}")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    text = absolute(page, project["urls"]["Repository"], project["version"])
    return {"content-type": "text/markdown", "text": text}
