"""--device: the meaning of auto, cpu and cuda with and without a GPU, and the errors for wrong words."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch

from recblr.errors import InputError
from recblr.nn import RecBLRConfig
from recblr.ops.common import native
from recblr.system import device as module
from recblr.system.device import device_for, device_name
from recblr.system.machine import explain_out_of_memory
from recblr.training import TrainingConfig
from recblr.training.learner import fits_memory

NO_LIBRARY = "reference (this build has no CUDA kernels)"


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch report two GPUs of architecture 90, of which the second is current."""
    machine: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 2,
        "current_device": lambda: 1,
        "get_device_capability": lambda _: (9, 0),
        "get_device_name": lambda _: "NVIDIA Abacus",
        "mem_get_info": lambda _: (2**20, 2**30),
    }
    for name, function in machine.items():
        monkeypatch.setattr(torch.cuda, name, function)
    monkeypatch.setitem(native.status, "cuda", "native")
    monkeypatch.setattr(module, "build_info", lambda: {"cuda_architectures": "80-real 90"})


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def refused(asked: str) -> str:
    with pytest.raises(InputError) as raised:
        device_for(asked)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.usefixtures("gpus")
def test_auto_and_cuda_are_the_current_gpu_if_it_has_kernels() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert device_for("auto") == device_for("cuda") == device_for("cuda:1") == torch.device("cuda", 1)
        assert device_for("cuda:0") == torch.device("cuda", 0)
        assert device_for("cpu") == torch.device("cpu")


@pytest.mark.usefixtures("gpus")
def test_auto_does_not_use_a_gpu_without_kernels_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(native.status, "cuda", NO_LIBRARY)
    says = r"not used, .* \(this build has no CUDA kernels\); --device cuda would use it anyway"
    with pytest.warns(UserWarning, match=says):
        assert device_for("auto") == torch.device("cpu")
    assert device_for("cuda") == torch.device("cuda", 1)


@pytest.mark.usefixtures("gpus")
def test_a_gpu_of_another_architecture_is_not_used_or_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    with pytest.warns(UserWarning, match="built for 80-real 90, and NVIDIA Abacus is of architecture 75"):
        assert device_for("auto") == torch.device("cpu")
    message = refused("cuda")
    assert "they are built for 80-real 90, and NVIDIA Abacus is of architecture 75" in message
    assert "RECBLR_CUDA_ARCHITECTURES=native, or give --device cpu" in message


@pytest.mark.usefixtures("gpus")
def test_a_gpu_that_does_not_exist_is_refused() -> None:
    message = refused("cuda:2")
    assert message.startswith("there is no --device cuda:2: ")
    assert message.endswith("give one up to cuda:1")
    assert "there is no --device cuda:99999999999999999999: " in refused("cuda:99999999999999999999")


@pytest.mark.usefixtures("no_gpu")
@pytest.mark.parametrize(
    ("build", "lacks", "remedy"),
    [
        (None, "is built without CUDA", "or install a build of torch with CUDA"),
        ("13.0", "torch finds none", "or check the driver of the GPU"),
    ],
)
def test_without_a_gpu_auto_is_the_cpu_and_cuda_is_refused(
    monkeypatch: pytest.MonkeyPatch, build: str | None, lacks: str, remedy: str
) -> None:
    monkeypatch.setattr(torch.version, "cuda", build)
    assert device_for("auto") == torch.device("cpu")
    message = refused("cuda:0")
    assert message.startswith("--device cuda:0 needs a GPU")
    assert lacks in message
    assert message.endswith(f"give --device cpu, {remedy}")


@pytest.mark.parametrize(
    "word", ["gpu", "CUDA", "cuda:", "cuda:-1", "cuda:1.5", "cuda:١", "cpu:0", "", "cpu\n"]
)
def test_a_word_that_is_no_device_is_refused(word: str) -> None:
    says = f"--device must be auto, cpu, cuda or cuda:N, but is {word!r}"
    assert refused(word) == says
    with pytest.raises(InputError) as raised:
        TrainingConfig(device=word)
    assert str(raised.value) == says


@pytest.mark.usefixtures("gpus")
def test_a_gpu_has_its_name_and_its_own_memory() -> None:
    gpu = torch.device("cuda", 0)
    assert device_name(gpu) == "NVIDIA Abacus"
    assert device_name(torch.device("cpu")) == "cpu"
    # Weights, gradients and two moments: 16 bytes each.
    config = TrainingConfig(ema=0.0, model=RecBLRConfig(d_model=64))
    assert fits_memory(900_000, config, gpu)
    assert not fits_memory(1_100_000, config, gpu)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        RuntimeError("CUDA could not run _bdlru: out of memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
)
def test_out_of_memory_raises_the_given_explanation(error: RuntimeError) -> None:
    told = InputError("it is too large", "make it smaller")
    with pytest.raises(InputError) as raised, explain_out_of_memory(told):
        raise error
    assert raised.value is told


def test_other_errors_are_not_changed() -> None:
    with pytest.raises(RuntimeError, match="misaligned"), explain_out_of_memory(InputError("large")):
        raise RuntimeError("misaligned address")
