"""Which room may import which: read from the sources, so that nothing need be imported."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src/recblr"

IMPORT_TRAINING = ("training", "cli", "experiments", "recommender")
WITHOUT_TORCH = ("config", "data", "errors", "io")
TORCH_PRIVATES = "recblr.ops.common.torch_internals"


@dataclass(frozen=True)
class Import:
    """An import: of what, by which module, and whether only a type checker sees it."""

    by: str
    of: str
    for_types: bool


def modules(folder: Path) -> dict[str, ast.Module]:
    """Every module of the package in a folder, by its dotted name."""
    found = {}
    for file in sorted(folder.rglob("*.py")):
        parts = [folder.name, *file.relative_to(folder).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(file.read_text(encoding="utf-8"))
    return found


def imports(found: dict[str, ast.Module]) -> list[Import]:
    """All imports, those in functions too; ``from package import module`` is one of the module."""
    return [
        Import(by, of, for_types)
        for by, tree in found.items()
        for node, for_types in _nodes(tree)
        for of in _imported(node, found)
    ]


def _nodes(tree: ast.AST, for_types: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for part in node.body:
                yield part, True
                yield from _nodes(part, True)
            for part in node.orelse:
                yield part, for_types
                yield from _nodes(part, for_types)
            continue
        yield node, for_types
        yield from _nodes(node, for_types)


def _imported(node: ast.AST, found: dict[str, ast.Module]) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0, f"line {node.lineno}: imports name the whole module"
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            # A package may offer a function by the name of its module: that is no import of the module.
            package = str(node.module)
            yield name if name in found and not _binds(found[package], alias.name) else package


def _binds(package: ast.Module, name: str) -> bool:
    """Whether a package offers a thing by this name, imported from one of its modules."""
    return any(
        isinstance(node, ast.ImportFrom)
        and str(node.module).endswith(f".{name}")
        and any(alias.name == name for alias in node.names)
        for node in package.body
    )


def room(module: str) -> str:
    """The room of the package that a module is in, or its own name at the top."""
    return [*module.split("."), ""][1]


def is_of(module: str, package: str) -> bool:
    """Whether a module is the package or in it."""
    return module == package or module.startswith(f"{package}.")


def circles(all_imports: list[Import]) -> list[str]:
    """Modules that import each other in a circle; what only a type checker sees does not count."""
    edges: dict[str, set[str]] = {}
    for entry in all_imports:
        if not entry.for_types:
            edges.setdefault(entry.by, set()).add(entry.of)
    done: set[str] = set()
    path: list[str] = []
    found = []

    def walk(module: str) -> None:
        if module in path:
            found.append(" -> ".join([*path[path.index(module) :], module]))
        elif module not in done:
            path.append(module)
            for other in sorted(edges.get(module, ())):
                walk(other)
            path.pop()
            done.add(module)

    for module in sorted(edges):
        walk(module)
    return found


def wrong(folder: Path) -> list[str]:
    """Every import in a package that breaks a rule, in words."""
    found, package = modules(folder), folder.name
    said = []
    all_imports = imports(found)
    for entry in all_imports:
        here, ours = room(entry.by), is_of(entry.of, package)
        there = room(entry.of) if ours else ""
        if here == "io" and ours and there not in ("io", "errors"):
            said.append(f"{entry.by} imports {entry.of}: io imports nothing of ours but errors")
        if here == "errors" and ours:
            said.append(f"{entry.by} imports {entry.of}: errors imports nothing of ours")
        if here in WITHOUT_TORCH and is_of(entry.of, "torch"):
            said.append(f"{entry.by} imports {entry.of}: {here} does without torch")
        if there == "training" and here == "serving":
            said.append(f"{entry.by} imports {entry.of}: serving never imports training")
        elif there == "training" and here not in IMPORT_TRAINING:
            said.append(
                f"{entry.by} imports {entry.of}: only {', '.join(IMPORT_TRAINING[1:])} import training"
            )
    for name, tree in found.items():
        if name != TORCH_PRIVATES:
            said += [
                f"{name}, line {line} names {what}: only {TORCH_PRIVATES} does"
                for what, line in privates(tree)
            ]
    reached = without_torch(all_imports, package)
    said += [f"{chain}: {room(chain.split(' ')[0])} does without torch" for chain in reached]
    return said + [f"{circle}: a circle" for circle in circles(all_imports)]


def privates(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Private names of torch, and where."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
            if node.attr.startswith("_") and not node.attr.startswith("__"):
                yield f"torch.{node.attr}", node.lineno
        elif isinstance(node, ast.Import):
            yield from ((a.name, node.lineno) for a in node.names if a.name.startswith("torch._"))
        elif isinstance(node, ast.ImportFrom) and node.module and is_of(node.module, "torch"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((name, node.lineno) for name in names if name.startswith("torch._"))


def without_torch(all_imports: list[Import], package: str) -> list[str]:
    """Ways from a room that does without torch to torch, through other rooms of ours."""
    edges: dict[str, set[str]] = {}
    for entry in all_imports:
        if not entry.for_types:
            edges.setdefault(entry.by, set()).add(entry.of)
    found = []
    for start in sorted(module for module in edges if room(module) in WITHOUT_TORCH):
        ways = {start: start}
        waiting = [start]
        while waiting:
            module = waiting.pop()
            for other in sorted(edges.get(module, ())):
                if is_of(other, "torch") and module != start:
                    found.append(f"{ways[module]} -> {other}")
                elif is_of(other, package) and other not in ways:
                    ways[other] = f"{ways[module]} -> {other}"
                    waiting.append(other)
    return found


def test_every_import_keeps_to_the_rules() -> None:
    assert len(modules(SOURCES)) > 50
    assert wrong(SOURCES) == []


FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "

BROKEN = {
    "io with another room": (
        {"io/atomic.py": "from recblr.data import Packed", "data/__init__.py": ""},
        "io imports nothing of ours but errors",
    ),
    "errors with another room": (
        {"errors.py": "import recblr.io", "io/__init__.py": ""},
        "errors imports nothing of ours",
    ),
    "data with torch": ({"data/packed.py": "from torch import Tensor"}, "data does without torch"),
    "config with torch in a function": (
        {"config/run.py": "def f():\n    import torch.nn"},
        "config does without torch",
    ),
    "io with torch for types": ({"io/a.py": f"{FOR_TYPES}import torch"}, "io does without torch"),
    "data with torch through another room": (
        {"data/packed.py": "from recblr.nn import base", "nn/base.py": "import torch"},
        "recblr.nn.base -> torch: data does without torch",
    ),
    "serving with training": (
        {"serving/scorer.py": "def f():\n    from recblr.training import Run", "training/__init__.py": ""},
        "serving never imports training",
    ),
    "evaluation with training": (
        {"evaluation/report.py": "import recblr.training.trainer", "training/trainer.py": ""},
        "only cli, experiments, recommender import training",
    ),
    "torch's private names": ({"nn/a.py": "import torch\ntorch._C.anything()"}, "names torch._C"),
    "torch's private names by import": ({"nn/a.py": "from torch._C import x"}, "names torch._C.x"),
    "a circle": (
        {"nn/a.py": "from recblr.nn import b", "nn/b.py": "def f():\n    import recblr.nn.a"},
        "a circle",
    ),
}


def _package(folder: Path, files: dict[str, str]) -> Path:
    for name, text in {"__init__.py": "", "nn/__init__.py": "", **files}.items():
        file = folder / "recblr" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder / "recblr"


@pytest.mark.parametrize(("files", "sentence"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_seen(files: dict[str, str], sentence: str, tmp_path: Path) -> None:
    said = wrong(_package(tmp_path, files))
    assert any(sentence in line for line in said), said


def test_what_only_a_type_checker_sees_makes_no_circle(tmp_path: Path) -> None:
    files = {
        "nn/a.py": "from recblr.nn import b",
        "nn/b.py": f"{FOR_TYPES}from recblr.nn import a",
    }
    assert wrong(_package(tmp_path, files)) == []
