"""Where a model runs: what --device stands for on this machine, its name, and how arrays get there."""

import warnings

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recblr.config.run import check_device
from recblr.errors import InputError
from recblr.ops.common import native
from recblr.system.build import build_info, runs_on
from recblr.system.machine import machine_memory

CPU = torch.device("cpu")


def device_for(asked: str) -> torch.device:
    """The device that auto, cpu, cuda or cuda:N stands for; a GPU always with its index.

    auto is torch's current GPU where recblr's CUDA kernels serve it, else the CPU: the reference launches
    several kernels for every step of time, which takes longer than the CPU's kernels do.  Where a GPU is
    passed over for that reason, a warning says so.  An explicit cuda takes the reference too.

    Raises InputError where it is no device, or one that is not there or that nothing could run on.
    """
    check_device(asked)
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return CPU
    if not torch.cuda.is_available():
        without = torch.version.cuda is None
        lacks = f"torch {torch.__version__} is built without CUDA" if without else "torch finds none"
        raise InputError(
            f"--device {asked} needs a GPU, and {lacks}",
            "give --device cpu, or "
            + ("install a build of torch with CUDA" if without else "look at the driver"),
        )
    number, count = asked.partition(":")[2], torch.cuda.device_count()
    if number and int(number) >= count:
        raise InputError(
            f"--device {asked} is not there, torch finds {count} GPU(s) and numbers them from 0",
            f"give one up to cuda:{count - 1}",
        )
    device = torch.device("cuda", int(number) if number else torch.cuda.current_device())
    problem = _kernels_lack(device)
    if not problem:
        return device
    if asked == "auto":
        # From here, whoever called: the same sentence is then shown once.
        warnings.warn(
            f"the GPU is left alone, since recblr's CUDA kernels do not serve it ({problem}); "
            "--device cuda would take it all the same.",
            stacklevel=1,
        )
        return CPU
    if native.status["cuda"] == "native":  # which then goes before the reference, and would fail
        raise InputError(
            f"--device {asked} cannot be used: {problem}",
            "build recblr with RECBLR_CUDA_ARCHITECTURES=native, or give --device cpu",
        )
    return device


def _kernels_lack(device: torch.device) -> str:
    """Why the CUDA kernels do not run on this GPU; empty where they do."""
    status = native.status["cuda"]
    if status != "native":
        return status.removeprefix("reference (").removesuffix(")")
    built, (major, minor) = build_info()["cuda_architectures"], torch.cuda.get_device_capability(device)
    if runs_on(built, (major, minor)):
        return ""
    return f"they are built for {built}, and {device_name(device)} is of architecture {major}{minor}"


def device_name(device: torch.device) -> str:
    """What a report calls it: cpu, or the GPU's name."""
    return "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)


def device_memory(device: torch.device) -> float:
    """Bytes of memory that the device has in all; infinity where the system does not tell."""
    return machine_memory() if device.type == "cpu" else float(torch.cuda.mem_get_info(device)[1])


def generators(device: torch.device) -> list[torch.Generator]:
    """The generators that a model's random numbers come from: the CPU's, and a GPU's own."""
    if device.type == "cpu":
        return [torch.default_generator]
    torch.cuda.init()  # before which there are none
    return [torch.default_generator, torch.cuda.default_generators[device.index]]


def tensors_on(device: torch.device, *arrays: npt.NDArray[np.int64]) -> tuple[Tensor, ...]:
    """Each array, ``(n,)`` int64, as a tensor on the device.

    On the CPU they share the arrays' memory.  Elsewhere all go in one copy, which the host does not wait
    for: of a step that takes a millisecond, a copy each would be a noticeable part.
    """
    if device.type == "cpu":
        return tuple(torch.from_numpy(array) for array in arrays)
    joined = torch.from_numpy(np.concatenate(arrays))
    if device.type == "cuda":
        joined = joined.pin_memory()  # or else the copy would not be left to the device
    return torch.split(joined.to(device, non_blocking=True), [array.size for array in arrays])
