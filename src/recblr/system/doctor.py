"""What `recblr doctor` says: versions, instruction set, and what serves the operators, and why."""

import importlib.metadata
import platform

from recblr import __version__
from recblr.errors import InputError
from recblr.system.build import runs_on

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
        from recblr.system.build import build_info

        info = build_info()
    except (ImportError, RuntimeError, InputError) as error:
        return [("native module", f"not usable: {error}")]
    rows = [
        ("built from", f"commit {info['commit'] or 'unknown'} with {info['compiler']}"),
        ("instruction set", f"{info['isa']}; this machine has {info['isa_available']} (RECBLR_ISA chooses)"),
        ("torch ABI", f"any torch from {info['torch_abi']} on"),
        ("CUDA kernels", _cuda_kernels(info["cuda"], info["cuda_architectures"])),
    ]
    if info["ops"] is None:
        return [*rows, ("operators", "not registered: torch is not installed")]
    rows += [(f"operators on {device}", served) for device, served in info["ops"].items()]
    return rows + _gpus(info["cuda_architectures"])


def _cuda_kernels(version: str, architectures: str) -> str:
    if not version:
        return "not built; building with RECBLR_CUDA=ON tells what they lack"
    return f"built by CUDA {version} for architectures {architectures}"


def _gpus(architectures: str) -> list[tuple[str, str]]:
    import torch

    rows = []
    for index in range(torch.cuda.device_count()):
        name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
        misses = architectures and not runs_on(architectures, capability)
        lacks = "; no kernels are built for it: RECBLR_CUDA_ARCHITECTURES chooses" if misses else ""
        rows.append((f"GPU {index}", f"{name}, architecture {capability[0]}{capability[1]}{lacks}"))
    return rows
