"""The device that a model runs on: what --device means, the name of a device, and copies of arrays to it."""

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
    """The device for auto, cpu, cuda or cuda:N.  A GPU always has its index.

    auto is torch's current GPU if recblr has CUDA kernels for it, else the CPU.  Without these kernels, the
    reference launches several kernels for every time step, which is slower than the kernels of the CPU.  A
    warning then says that the GPU is not used.  An explicit cuda uses the GPU with the reference, too.

    Raises InputError if the word is no device, or if the device does not exist or cannot be used.
    """
    check_device(asked)
    if asked == "cpu" or (asked == "auto" and not torch.cuda.is_available()):
        return CPU
    if not torch.cuda.is_available():
        no_cuda = torch.version.cuda is None
        reason = f"torch {torch.__version__} is built without CUDA" if no_cuda else "torch finds none"
        raise InputError(
            f"--device {asked} needs a GPU, and {reason}",
            "give --device cpu, or "
            + ("install a build of torch with CUDA" if no_cuda else "check the driver of the GPU"),
        )
    number, count = asked.partition(":")[2], torch.cuda.device_count()
    if number and int(number) >= count:
        raise InputError(
            f"there is no --device {asked}: torch finds {count} GPU(s), numbered from 0",
            f"give one up to cuda:{count - 1}",
        )
    device = torch.device("cuda", int(number) if number else torch.cuda.current_device())
    problem = _kernels_problem(device)
    if not problem:
        return device
    if asked == "auto":
        # stacklevel=1 names this line for every caller, so Python shows the same warning only once.
        warnings.warn(
            f"the GPU is not used, because recblr has no CUDA kernels for it ({problem}); "
            "--device cuda would use it anyway.",
            stacklevel=1,
        )
        return CPU
    if native.status["cuda"] == "native":  # torch would call these kernels, which would fail
        raise InputError(
            f"--device {asked} cannot be used: {problem}",
            "build recblr with RECBLR_CUDA_ARCHITECTURES=native, or give --device cpu",
        )
    return device


def _kernels_problem(device: torch.device) -> str:
    """Why the CUDA kernels do not run on this GPU; empty if they do."""
    status = native.status["cuda"]
    if status != "native":
        return status.removeprefix("reference (").removesuffix(")")
    built, (major, minor) = build_info()["cuda_architectures"], torch.cuda.get_device_capability(device)
    if runs_on(built, (major, minor)):
        return ""
    return f"they are built for {built}, and {device_name(device)} is of architecture {major}{minor}"


def device_name(device: torch.device) -> str:
    """The name of a device in reports: cpu, or the name of the GPU."""
    return "cpu" if device.type == "cpu" else torch.cuda.get_device_name(device)


def device_memory(device: torch.device) -> float:
    """Total bytes of memory of the device; infinity if the system does not report them."""
    return machine_memory() if device.type == "cpu" else float(torch.cuda.mem_get_info(device)[1])


def generators(device: torch.device) -> list[torch.Generator]:
    """The random generators that a model on this device uses: that of the CPU, and that of the GPU."""
    if device.type == "cpu":
        return [torch.default_generator]
    torch.cuda.init()  # before this call, there are no generators for GPUs
    return [torch.default_generator, torch.cuda.default_generators[device.index]]


def tensors_on(device: torch.device, *arrays: npt.NDArray[np.int64 | np.float64]) -> tuple[Tensor, ...]:
    """Each array, ``(n,)`` int64 or float64, as a tensor of its dtype on the device.

    On the CPU, a tensor shares the memory of its array.  To another device, all arrays go in one copy, and
    the CPU does not wait for it.  A step can take a millisecond, so one copy for each array would be slow.
    """
    if device.type == "cpu":
        return tuple(torch.from_numpy(array) for array in arrays)
    joined = torch.from_numpy(np.concatenate([array.view(np.int64) for array in arrays]))
    if device.type == "cuda":
        joined = joined.pin_memory()  # else the CPU would wait for the copy
    parts = torch.split(joined.to(device, non_blocking=True), [array.size for array in arrays])
    return tuple(
        part.view(torch.float64) if array.dtype == np.float64 else part
        for part, array in zip(parts, arrays, strict=True)
    )
