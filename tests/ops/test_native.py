"""The choice of the library for CUDA tensors, by torch's build, the driver and recblr's build."""

import warnings
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from recblr import _core
from recblr.ops.common import native
from recblr.system import build

Machine = Callable[..., None]
FAILS, NO_LIBRARY = -1, -2  # these replace the version of a driver


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A function that fakes a machine: its driver, torch's build and recblr's build.  It loads no library."""
    loaded: list[str] = []
    monkeypatch.setattr(native, "status", {})
    monkeypatch.delenv(native.REQUIRE, raising=False)

    def pretend(driver: int, torch_cuda: str | None, built: str, loads: str | None = None) -> None:
        def libcuda(name: str) -> Any:
            assert name == "libcuda.so.1"
            if driver == NO_LIBRARY:
                raise OSError("libcuda.so.1: cannot open shared object file")
            return SimpleNamespace(cuDriverGetVersion=driver_version)

        def driver_version(version: Any) -> int:
            version._obj.value = max(driver, 0)
            return 999 if driver == FAILS else 0

        def load(name: str, key: str) -> str | None:
            loaded.append(name)
            return loads if name == native.CUDA else None

        info = {**_core.build_info(), "cuda": built}
        monkeypatch.setattr(torch.version, "cuda", torch_cuda)
        monkeypatch.setattr(native.ctypes, "CDLL", libcuda)
        monkeypatch.setattr(_core, "build_info", lambda: info)
        monkeypatch.setattr(native, "_load", load)
        loaded.clear()

    pretend.loaded = loaded  # type: ignore[attr-defined]
    return pretend


def _load() -> list[str]:
    """Load the libraries and return the warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        native.load()
    return [str(w.message) for w in caught]


@pytest.mark.parametrize(
    ("built", "driver"), [("13.0", 13000), ("13.2", 13000), ("12.8", 13010), ("12.8", 12040)]
)
def test_kernels_load_if_the_driver_supports_their_major_version(
    machine: Machine, built: str, driver: int
) -> None:
    machine(driver, "12.8", built)
    assert _load() == []
    assert native.status == {"cpu": "native", "cuda": "native"}
    assert machine.loaded == [native.CPU, native.CUDA]  # type: ignore[attr-defined]


def test_for_an_old_driver_the_reason_names_the_needed_version(machine: Machine) -> None:
    machine(12040, "12.8", "13.0")
    (said,) = _load()
    needs = "the kernels are built with CUDA 13.0 and need an NVIDIA driver 580 or later"
    why = f"{needs}; this machine's driver supports CUDA up to 12.4"
    assert native.status["cuda"] == f"reference ({why})"
    assert why in said
    assert said.endswith("the slower PyTorch reference is used on GPUs.")
    assert native.CUDA not in machine.loaded  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("driver", "torch_cuda", "why"),
    [
        (13000, None, f"torch {torch.__version__} is built without CUDA"),
        (0, "12.8", "no NVIDIA driver is found"),
        (FAILS, "12.8", "no NVIDIA driver is found"),
        (NO_LIBRARY, "12.8", "no NVIDIA driver is found"),
    ],
)
def test_without_a_usable_gpu_nothing_is_loaded_and_nothing_warns(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, driver: int, torch_cuda: str | None, why: str
) -> None:
    machine(driver, torch_cuda, "13.0")
    monkeypatch.setenv(native.REQUIRE, "1")
    assert _load() == []
    assert native.status == {"cpu": "native", "cuda": f"reference ({why})"}
    assert machine.loaded == [native.CPU]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("built", "loads", "why"),
    [("", None, "this build has no CUDA kernels"), ("13.0", "it cannot be loaded", "it cannot be loaded")],
)
def test_with_a_driver_missing_kernels_are_a_warning_or_an_error_if_required(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, built: str, loads: str | None, why: str
) -> None:
    machine(13000, "13.0", built, loads)
    (said,) = _load()
    assert why in said
    assert native.status["cuda"].startswith(f"reference ({why}")
    monkeypatch.setenv(native.REQUIRE, "1")
    with pytest.raises(RuntimeError, match=f"RECBLR_REQUIRE_NATIVE=1, but {why}"):
        native.load()


def test_the_reason_names_a_missing_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(_core, "__file__", str(tmp_path / "_core.so"))
    assert str(native._load(native.CUDA, "CUDA")).startswith("librecblr_ops_cuda.so is not installed")


@pytest.mark.parametrize(
    ("architectures", "capability", "runs"),
    [
        ("90", (9, 0), True),
        ("90-real", (9, 0), True),
        ("90-real", (10, 0), False),
        ("90", (10, 0), True),
        ("80-real", (8, 6), True),
        ("86-real", (8, 0), False),
        ("90-virtual", (8, 9), False),
        ("90-virtual", (12, 0), True),
        ("75-real 80-real 86-real 89-real 90-real 100-real 120", (10, 3), True),
        ("75-real 80-real 86-real 89-real 90-real 100-real 120", (7, 0), False),
        ("75-real 80-real 86-real 89-real 90-real 100-real 120", (12, 1), True),
        ("native", (7, 5), True),
    ],
)
def test_the_doctor_knows_which_gpus_kernels_run_on(
    architectures: str, capability: tuple[int, int], runs: bool
) -> None:
    assert build.runs_on(architectures, capability) is runs
