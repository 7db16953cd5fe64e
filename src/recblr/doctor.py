"""What `recblr doctor` says: versions, instruction set, and what serves the operators, and why."""

import importlib.metadata
import platform

from rich.table import Table

from recblr import __version__
from recblr.errors import InputError

_PACKAGES = ("torch", "numpy", "polars", "safetensors", "rich", "typer")


def findings() -> list[tuple[str, str]]:
    """(what, finding) pairs, in the order in which to read them."""
    rows = [("recblr", __version__), ("Python", f"{platform.python_version()} on {platform.platform()}")]
    for package in _PACKAGES:
        try:
            rows.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            rows.append((package, f"not installed; pip install {package}"))
    return rows + _native()


def _native() -> list[tuple[str, str]]:
    try:
        from recblr.info import build_info

        info = build_info()
    except (ImportError, RuntimeError, InputError) as error:
        return [("native module", f"not usable: {error}")]
    rows = [
        ("built from", f"commit {info['commit'] or 'unknown'} with {info['compiler']}"),
        ("instruction set", f"{info['isa']}; this machine has {info['isa_available']} (RECBLR_ISA chooses)"),
        ("torch ABI", f"any torch from {info['torch_abi']} on"),
    ]
    if info["ops"] is None:
        return [*rows, ("operators", "not registered: torch is not installed")]
    return rows + [(f"operators on {device}", served) for device, served in info["ops"].items()]


def table() -> Table:
    """The findings as a table."""
    result = Table(show_header=False, box=None, pad_edge=False)
    result.add_column(style="bold", no_wrap=True)
    result.add_column(overflow="fold")
    for what, finding in findings():
        result.add_row(what, finding)
    return result
