"""All private names of torch that recblr uses, and what serves where a torch lacks one."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor


def _missing(name: str) -> RuntimeError:
    return RuntimeError(
        f"this recblr needs {name}, which torch {torch.__version__} does not have; install another torch, "
        "or a newer recblr"
    )


# Leaves autograd's part of a call, in Python, out; without it a call only takes longer.
below_autograd: Callable[[], AbstractContextManager[Any]] = getattr(
    torch._C, "_AutoDispatchBelowAutograd", nullcontext
)

try:
    _AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU).add(
        torch._C.DispatchKey.AutocastCUDA
    )
    _EXCLUDED = torch._C._ExcludeDispatchKeyGuard
except AttributeError:
    raise _missing("torch._C._ExcludeDispatchKeyGuard") from None


def without_autocast() -> AbstractContextManager[Any]:
    """Within it, an operator's own call inside its rule for autocast does not meet the rule again."""
    guard: AbstractContextManager[Any] = _EXCLUDED(_AUTOCAST)
    return guard


def functorch_active() -> bool:
    """Whether a transformation of torch.func is active."""
    try:
        return torch._C._are_functorch_transforms_active()
    except AttributeError:
        raise _missing("torch._C._are_functorch_transforms_active") from None


def dispatch_modes_active() -> bool:
    """Whether a mode sees every operator's call: fake tensors, say; True where torch does not tell."""
    count = getattr(torch._C, "_len_torch_dispatch_stack", None)
    return count is None or bool(count())


def has_kernel(operator: str, key: str) -> bool:
    """Whether an operator has a kernel of its own for a dispatch key."""
    try:
        return torch._C._dispatch_has_kernel_for_dispatch_key(operator, key)
    except AttributeError:
        raise _missing("torch._C._dispatch_has_kernel_for_dispatch_key") from None


def lerp_all_(tensors: Sequence[Tensor], ends: Sequence[Tensor], share: float) -> None:
    """Move each tensor by a share of its way to its end, in place; in few kernels where torch can."""
    together = getattr(torch, "_foreach_lerp_", None)
    if together is not None:
        together(tensors, ends, share)
        return
    for tensor, end in zip(tensors, ends, strict=True):
        tensor.lerp_(end, share)


def rebuild_tensor(*arguments: Any) -> Tensor:
    """A tensor of a storage, as torch.save has it."""
    try:
        tensor: Tensor = torch._utils._rebuild_tensor_v2(*arguments)
    except AttributeError:
        raise _missing("torch._utils._rebuild_tensor_v2") from None
    return tensor
