"""All private names of torch that recblr uses, and what recblr does if a version of torch lacks one."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def _missing(name: str) -> RuntimeError:
    return RuntimeError(
        f"this recblr needs {name}, which torch {torch.__version__} does not have; install another torch, "
        "or a newer recblr"
    )


try:
    # Within this context, a call skips autograd.
    below_autograd: Callable[[], AbstractContextManager[Any]] = torch._C._AutoDispatchBelowAutograd
    _AFTER_AUTOGRAD = torch._C._after_autograd_keyset
    any_requires_grad: Callable[..., bool] = torch._C._any_requires_grad
    forward_ad_enabled: Callable[[], bool] = torch._C._is_fwd_grad_enabled
    set_forward_ad_enabled: Callable[[bool], None] = torch._C._set_fwd_grad_enabled
    _single_level_allowed = torch._C._functorch.get_single_level_autograd_function_allowed
    _allow_single_level = torch._C._functorch.set_single_level_autograd_function_allowed
    # The base of torch.autograd.Function: it has forward, backward and jvp, but ignores torch.func.
    OneLevelFunction = torch.autograd.function._SingleLevelFunction
except AttributeError as error:
    raise _missing(f"{getattr(error.obj, '__name__', 'torch')}.{error.name}") from None

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


def dual_level_active() -> bool:
    """Whether a level of forward_ad or a transform of torch.func is active."""
    return getattr(forward_ad, "_current_level", 0) >= 0 or functorch_active()


def forward_mode_possible() -> bool:
    """Whether tensors may have tangents.

    The graphs that torch.compile traces start a level without forward_ad.  But while a graph is traced, a
    dispatch mode is active.
    """
    return dual_level_active() or dispatch_modes_active()


def tangent_of(x: Any) -> Tensor | None:
    """The tangent of a tensor, or None.  PyTorch has one level of dual numbers, level 0."""
    if not isinstance(x, Tensor) or not (x.is_floating_point() or x.is_complex()):
        return None
    tangent: Tensor | None = forward_ad.unpack_dual(x, level=0).tangent
    return tangent


def primal_of(x: Any) -> Any:
    """A tensor without its tangent.  All other values are returned unchanged."""
    return forward_ad.unpack_dual(x, level=0).primal if isinstance(x, Tensor) else x


@contextmanager
def derivatives_on(reverse: bool, forward: bool) -> Iterator[None]:
    """A context with or without derivatives in each mode.  torch.autograd.Function turns both modes off."""
    before = forward_ad_enabled()
    set_forward_ad_enabled(forward)
    try:
        with torch.set_grad_enabled(reverse):
            yield
    finally:
        set_forward_ad_enabled(before)


class KernelBelowAutograd:
    """Calls the kernel which an operator has below autograd.

    Under torch.func, this kernel is the operator under the next outer transform.  So its derivatives must be
    on or off as they are when this object is made.

    keyset: what torch gives to autograd's kernel.
    """

    def __init__(self, operator: Any, keyset: Any) -> None:
        self._operator, self._keys = operator, keyset & _AFTER_AUTOGRAD
        self._modes = (torch.is_grad_enabled(), forward_ad_enabled()) if functorch_active() else None

    def __call__(self, *arguments: Any) -> Any:
        with below_autograd():
            if self._modes is None:
                return self._operator.redispatch(self._keys, *arguments)
            with derivatives_on(*self._modes):
                return self._operator.redispatch(self._keys, *arguments)


def apply_at_one_level(function: Any, *arguments: Any) -> Any:
    """Apply a :class:`OneLevelFunction`.  Under torch.func, this is for the innermost transform only.

    A torch.autograd.Function would go through all transforms.  But it cannot do so inside autograd's kernel
    of an operator, because there torch is already at one of the transforms (pytorch #168393).
    """
    if not functorch_active():
        return function.apply(*arguments)
    before = _single_level_allowed()
    _allow_single_level(True)
    try:
        return function.apply(*arguments)
    finally:
        _allow_single_level(before)


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
