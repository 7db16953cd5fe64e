"""All private names of torch that recblr uses, and what recblr does if a version of torch lacks one."""

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


# Within this context, a call skips autograd's Python code.  Without it, a call only takes longer.
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
    """A context in which autocast is off.

    An operator's rule for autocast calls the operator itself.  In this context, that call does not call the
    rule again.
    """
    guard: AbstractContextManager[Any] = _EXCLUDED(_AUTOCAST)
    return guard


def functorch_active() -> bool:
    """Whether a transform of torch.func is active."""
    try:
        return torch._C._are_functorch_transforms_active()
    except AttributeError:
        raise _missing("torch._C._are_functorch_transforms_active") from None


def dispatch_modes_active() -> bool:
    """Whether a dispatch mode is active, for example fake tensors.  True if torch cannot tell."""
    count = getattr(torch._C, "_len_torch_dispatch_stack", None)
    return count is None or bool(count())


def has_kernel(operator: str, key: str) -> bool:
    """Whether an operator has a kernel for this dispatch key."""
    try:
        return torch._C._dispatch_has_kernel_for_dispatch_key(operator, key)
    except AttributeError:
        raise _missing("torch._C._dispatch_has_kernel_for_dispatch_key") from None


def lerp_all_(tensors: Sequence[Tensor], ends: Sequence[Tensor], share: float) -> None:
    """Compute ``tensor += share * (end - tensor)`` for each pair, in few kernels if torch can do so."""
    together = getattr(torch, "_foreach_lerp_", None)
    if together is not None:
        together(tensors, ends, share)
        return
    for tensor, end in zip(tensors, ends, strict=True):
        tensor.lerp_(end, share)


def rebuild_tensor(*arguments: Any) -> Tensor:
    """Build a tensor from its storage and the other arguments that torch.save wrote."""
    try:
        tensor: Tensor = torch._utils._rebuild_tensor_v2(*arguments)
    except AttributeError:
        raise _missing("torch._utils._rebuild_tensor_v2") from None
    return tensor
