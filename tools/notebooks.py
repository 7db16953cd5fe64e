"""Runs the notebooks in docs/notebooks, and keeps their outputs in them.  It needs no Jupyter.

    python tools/notebooks.py

A test runs them too, in a short form: every line `NAME = number` in capitals has its small number there.
"""

from __future__ import annotations

import ast
import contextlib
import io
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "docs" / "notebooks"


def notebooks() -> list[Path]:
    """All notebooks, in order."""
    return sorted(FOLDER.glob("*.ipynb"))


def read(path: Path) -> dict[str, Any]:
    """A notebook as JSON values."""
    notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return notebook


def write(path: Path, notebook: Mapping[str, Any]) -> None:
    """Write a notebook as Jupyter does."""
    path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def run(
    notebook: Mapping[str, Any], constants: Mapping[str, int] | None = None
) -> list[list[dict[str, Any]]]:
    """Run the code cells in the current folder, and return the outputs of each.  An exception is raised.

    constants: other values for lines such as `EPOCHS = 8`.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    outputs = []
    for number, cell in enumerate((c for c in notebook["cells"] if c["cell_type"] == "code"), 1):
        source = "".join(cell["source"])
        for name, value in (constants or {}).items():
            source = re.sub(rf"^{name} = \d+", f"{name} = {value}", source, flags=re.MULTILINE)
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            value = _run(source, names)
        found: list[dict[str, Any]] = []
        if printed.getvalue():
            found.append({"name": "stdout", "output_type": "stream", "text": _lines(printed.getvalue())})
        if value is not None:
            data = {"text/plain": _lines(repr(value))}
            if hasattr(value, "_repr_html_"):
                data = {"text/html": _lines(value._repr_html_()), "text/plain": _lines(str(value))}
            found.append(
                {"data": data, "execution_count": number, "metadata": {}, "output_type": "execute_result"}
            )
        outputs.append(found)
    return outputs


def _run(source: str, names: dict[str, Any]) -> Any:
    """Run a cell.  Its value is that of its last line, if this is an expression without a semicolon."""
    tree = ast.parse(source)
    last = tree.body[-1] if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    if last is None or source.rstrip().endswith(";"):
        exec(compile(tree, "cell", "exec"), names)
        return None
    exec(compile(ast.Module(tree.body[:-1], []), "cell", "exec"), names)
    return eval(compile(ast.Expression(last.value), "cell", "eval"), names)


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def main() -> None:
    for path in notebooks():
        notebook, before = read(path), Path.cwd()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                outputs = run(notebook)
            finally:
                os.chdir(before)
        code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
        for number, (cell, found) in enumerate(zip(code, outputs, strict=True), 1):
            cell["execution_count"], cell["outputs"] = number, found
        write(path, notebook)
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
