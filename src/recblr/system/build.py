"""This installation: its versions, its instruction set, and the kernels that run on each device."""

import importlib.metadata
import platform
from typing import Any

from recblr import __version__
from recblr.errors import InputError

_PACKAGES = ("torch", "numpy", "polars", "safetensors", "rich", "typer")


def commit() -> str | None:
    """The commit that the native module was built from; None if it is unknown."""
    try:
        from recblr import _core
    except ImportError:
        return None
    return _core.build_info()["commit"] or None


def build_info() -> dict[str, Any]:
    """Facts about this build, as plain values.

    The keys are ``version``, ``commit``, ``compiler``, ``torch_abi`` (the oldest torch that works), ``cuda``
    (the CUDA version of the kernels, or empty), ``cuda_architectures``, ``isa`` and ``isa_available`` (see
    RECBLR_ISA), and ``ops``: "native" or "reference (reason)" for each device.  ``ops`` is None if torch is
    not installed.
    """
    from recblr import _core

    info: dict[str, Any] = dict(_core.build_info())
    try:
        from recblr.ops.common import native
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        info["ops"] = None
    else:
        info["ops"] = dict(native.status)
    return info


def runs_on(architectures: str, capability: tuple[int, int]) -> bool:
    """Whether kernels for these CUDA architectures run on a GPU of this compute capability.

    architectures: as CMake writes them, such as "80-real 90".
    """
    for built in architectures.split():
        digits, _, kind = built.partition("-")
        if not digits.isdecimal():  # "native" or "all": the build chose the architectures
            return True
        major, minor = divmod(int(digits), 10)
        if kind != "virtual" and major == capability[0] and minor <= capability[1]:
            return True
        if kind != "real" and (major, minor) <= capability:  # the driver compiles the PTX
            return True
    return False


def findings() -> list[tuple[str, str]]:
    """The rows that `recblr doctor` prints: (name, finding)."""
    rows = [("recblr", __version__), ("Python", f"{platform.python_version()} on {platform.platform()}")]
    for package in _PACKAGES:
        try:
            rows.append((package, importlib.metadata.version(package)))
        except importlib.metadata.PackageNotFoundError:
            rows.append((package, f"not installed; pip install {package}"))
    return rows + _native()


def _native() -> list[tuple[str, str]]:
    try:
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
    rows += [(f"operators on {device}", status) for device, status in info["ops"].items()]
    return rows + _gpus(info["cuda_architectures"])


def _cuda_kernels(version: str, architectures: str) -> str:
    if not version:
        return "not built; a build with RECBLR_CUDA=ON says what is missing"
    return f"built by CUDA {version} for architectures {architectures}"


def _gpus(architectures: str) -> list[tuple[str, str]]:
    import torch

    rows = []
    for index in range(torch.cuda.device_count()):
        name, capability = torch.cuda.get_device_name(index), torch.cuda.get_device_capability(index)
        finding = f"{name}, architecture {capability[0]}{capability[1]}"
        if architectures and not runs_on(architectures, capability):
            finding += "; no kernels are built for it: set RECBLR_CUDA_ARCHITECTURES and build again"
        rows.append((f"GPU {index}", finding))
    return rows
