"""The example in the plug-in's docstring, read from the source, because an import would need RecBole."""

from __future__ import annotations

import ast
import textwrap
from pathlib import Path

import recblr.integrations

SOURCE = Path(recblr.integrations.__file__).with_name("recbole.py")


def recbole_example() -> str:
    """The program after "Example::", up to the first line that is not indented."""
    text = ast.get_docstring(ast.parse(SOURCE.read_text(encoding="utf-8"))) or ""
    (_, after) = text.split("Example::\n", 1)
    lines = after.splitlines()
    end = next(i for i, line in enumerate(lines) if line and not line.startswith(" "))
    return textwrap.dedent("\n".join(lines[:end])).strip() + "\n"
