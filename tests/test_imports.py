"""Which part of the package may import which.  The test parses the sources and imports nothing."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[1] / "src/recblr"

IMPORT_TRAINING = ("training", "cli", "experiments", "recommender")
WITHOUT_TORCH = ("config", "data", "errors", "io")
ENGINE = (
    *("run.model_content", "run.model_items", "run.model_tensors"),
    *("serving.approximate", "serving.bulk", "serving.engine", "serving.service", "serving.http.run"),
    "io.titles",
    *(
        f"serving.stores.{name}"
        for name in ("address", "lmdb", "lmdb_folder", "log", "memory", "redis", "store")
    ),
)
NOT_IN_THE_ENGINE = ("torch", "polars")
TORCH_PRIVATES = "recblr.ops.common.torch_internals"


@dataclass(frozen=True)
class Import:
    """One import: the importing module, the imported name, and whether only a type checker sees it."""

    by: str
    of: str
    for_types: bool


def modules(folder: Path) -> dict[str, ast.Module]:
    """The parsed modules of the package in a folder, by dotted name."""
    found = {}
    for file in sorted(folder.rglob("*.py")):
        parts = [folder.name, *file.relative_to(folder).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(file.read_text(encoding="utf-8"))
    return found


def imports(found: dict[str, ast.Module]) -> list[Import]:
    """All imports, also those in functions; ``from package import module`` imports the module."""
    return [
        Import(by, of, for_types)
        for by, tree in found.items()
        for node, for_types in _nodes(tree)
        for of in _imported(node, found)
    ]


def _nodes(tree: ast.AST, for_types: bool = False) -> Iterator[tuple[ast.AST, bool]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield child, True
                yield from _nodes(child, True)
            for child in node.orelse:
                yield child, for_types
                yield from _nodes(child, for_types)
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
            # A package may export a function with the name of its module: that does not import the module.
            package = str(node.module)
            yield name if name in found and not _binds(found[package], alias.name) else package


def _binds(package: ast.Module, name: str) -> bool:
    """Whether a package exports an object with this name, imported from one of its modules."""
    return any(
        isinstance(node, ast.ImportFrom)
        and str(node.module).endswith(f".{name}")
        and any(alias.name == name for alias in node.names)
        for node in package.body
    )


def part_of(module: str) -> str:
    """The part of the package that a module belongs to: its folder, or its own name at the top level."""
    return [*module.split("."), ""][1]


def is_of(module: str, package: str) -> bool:
    """Whether a module is the package or in it."""
    return module == package or module.startswith(f"{package}.")


def circles(all_imports: list[Import]) -> list[str]:
    """Modules that import each other in a circle; imports that only a type checker sees do not count."""
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
    """Every import in a package that breaks a rule, as a sentence."""
    found, package = modules(folder), folder.name
    said = []
    all_imports = imports(found)
    for entry in all_imports:
        here, ours = part_of(entry.by), is_of(entry.of, package)
        there = part_of(entry.of) if ours else ""
        if here == "io" and ours and there not in ("io", "errors"):
            said.append(f"{entry.by} imports {entry.of}: io imports only errors from this package")
        if here == "errors" and ours:
            said.append(f"{entry.by} imports {entry.of}: errors imports nothing from this package")
        if here in WITHOUT_TORCH and is_of(entry.of, "torch"):
            said.append(f"{entry.by} imports {entry.of}: {here} must not import torch")
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
    edges = executed(all_imports, found)
    starts = [name for name in found if part_of(name) in WITHOUT_TORCH]
    reached = [chain for chain in chains(edges, package, starts, ("torch",)) if chain.count(" -> ") > 1]
    said += [f"{chain}: {part_of(chain.split(' ')[0])} must not import torch" for chain in reached]
    engine = [f"{package}.{name}" for name in ENGINE if f"{package}.{name}" in found]
    said += [
        f"{chain}: the engine works without {' and '.join(NOT_IN_THE_ENGINE)}"
        for chain in chains(edges, package, engine, NOT_IN_THE_ENGINE)
    ]
    return said + [f"{circle}: a circle" for circle in circles(all_imports)]


def privates(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """The private names of torch in a module, with their lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "torch":
            if node.attr.startswith("_") and not node.attr.startswith("__"):
                yield f"torch.{node.attr}", node.lineno
        elif isinstance(node, ast.Import):
            yield from ((a.name, node.lineno) for a in node.names if a.name.startswith("torch._"))
        elif isinstance(node, ast.ImportFrom) and node.module and is_of(node.module, "torch"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from ((name, node.lineno) for name in names if name.startswith("torch._"))


def executed(all_imports: list[Import], found: dict[str, ast.Module]) -> dict[str, set[str]]:
    """The modules that run when a module is imported: those that it imports, and the packages it lies in."""
    edges = {name: {name.rsplit(".", 1)[0]} & found.keys() - {name} for name in found}
    for entry in all_imports:
        if not entry.for_types:
            edges[entry.by].add(entry.of)
    return edges


def chains(
    edges: dict[str, set[str]], package: str, starts: list[str], avoided: tuple[str, ...]
) -> list[str]:
    """Chains of imports that lead from a module to something that it must not import."""
    found = []
    for start in starts:
        reached = {start: start}
        waiting = [start]
        while waiting:
            module = waiting.pop()
            for other in sorted(edges.get(module, ())):
                chain = f"{reached[module]} -> {other}"
                if any(is_of(other, name) for name in avoided):
                    found.append(chain)
                elif is_of(other, package) and other not in reached:
                    reached[other] = chain
                    waiting.append(other)
    return found


def test_every_import_keeps_to_the_rules() -> None:
    assert len(modules(SOURCES)) > 50
    assert f"recblr.{ENGINE[0]}" in modules(SOURCES)
    assert wrong(SOURCES) == []


FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    "

BROKEN = {
    "io with another part": (
        {"io/atomic.py": "from recblr.data import Packed", "data/__init__.py": ""},
        "io imports only errors from this package",
    ),
    "errors with another part": (
        {"errors.py": "import recblr.io", "io/__init__.py": ""},
        "errors imports nothing from this package",
    ),
    "data with torch": ({"data/packed.py": "from torch import Tensor"}, "data must not import torch"),
    "config with torch in a function": (
        {"config/run.py": "def f():\n    import torch.nn"},
        "config must not import torch",
    ),
    "io with torch for types": ({"io/a.py": f"{FOR_TYPES}import torch"}, "io must not import torch"),
    "data with torch through another part": (
        {"data/packed.py": "from recblr.nn import base", "nn/base.py": "import torch"},
        "recblr.nn.base -> torch: data must not import torch",
    ),
    "the engine with torch": (
        {"serving/engine.py": "import torch", "serving/__init__.py": ""},
        "recblr.serving.engine -> torch: the engine works without torch and polars",
    ),
    "the engine with polars through another part": (
        {
            "serving/engine.py": "from recblr.data.packed import Packed",
            "serving/__init__.py": "",
            "data/__init__.py": "import polars",
            "data/packed.py": "",
        },
        "recblr.serving.engine -> recblr.data.packed -> recblr.data -> polars: the engine works without",
    ),
    "the engine with torch in the package that it lies in": (
        {
            "serving/engine.py": "",
            "serving/__init__.py": "from recblr.nn import a",
            "nn/a.py": "import torch",
        },
        "recblr.serving.engine -> recblr.serving -> recblr.nn.a -> torch: the engine works without",
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
def test_a_broken_rule_is_found(files: dict[str, str], sentence: str, tmp_path: Path) -> None:
    said = wrong(_package(tmp_path, files))
    assert any(sentence in line for line in said), said


def test_an_import_for_a_type_checker_makes_no_circle(tmp_path: Path) -> None:
    files = {
        "nn/a.py": "from recblr.nn import b",
        "nn/b.py": f"{FOR_TYPES}from recblr.nn import a",
    }
    assert wrong(_package(tmp_path, files)) == []
