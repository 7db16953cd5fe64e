"""Registration of operators with torch, in the namespace recblr.

- `define` and `parameters`: the schemas.
- `register_autocast`, `upcast` and `downcast`: the rules for autocast.
- `register_derivatives`: derivatives in reverse and in forward mode, also under torch.func.
- `register_fused`: the reference, fake function and derivative of an operator with fused kernels.
- `raise_value_errors`: one type of error under every version of torch.

PyTorch accepts a schema only once.  The import of ``recblr.ops`` fails if the native library is required but
missing, and a program may repeat that import.  The modules that define schemas stay imported after such a
failure, so no schema is defined twice.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, get_type_hints

import torch
from torch import Tensor

from recblr.ops.common.derivatives import derivative_of, save_arguments, saved_arguments
from recblr.ops.common.torch_internals import (
    KernelBelowAutograd,
    OneLevelFunction,
    any_requires_grad,
    apply_at_one_level,
    derivatives_on,
    forward_mode_possible,
    functorch_active,
    primal_of,
    tangent_of,
    without_autocast,
)

P = ParamSpec("P")
R = TypeVar("R")

LIBRARY = torch.library.Library("recblr", "DEF")

SCHEMAS: list[str] = []
"""All schemas that :func:`define` has defined."""

_HALF = (torch.bfloat16, torch.float16)
_SCHEMA_TYPES: dict[Any, str] = {Tensor: "Tensor", Tensor | None: "Tensor?", bool: "bool"}


def define(*schemas: str) -> None:
    """Define schemas of operators in the namespace recblr."""
    for schema in schemas:
        LIBRARY.define(schema)
        SCHEMAS.append(schema)


def parameters(arguments: Any, *, defaults: bool = False) -> str:
    """The parameters of an operator's schema, made from the NamedTuple of the operator's arguments.

    defaults: write the NamedTuple's default values too.  This is only possible at the end of a schema: a
        parameter without a default may not follow one with a default.
    """
    values = arguments._field_defaults if defaults else {}
    return ", ".join(
        f"{_SCHEMA_TYPES[kind]} {name}" + (f"={values[name]}" if name in values else "")
        for name, kind in get_type_hints(arguments).items()
    )


def raise_value_errors(function: Callable[P, R]) -> Callable[P, R]:
    """Decorator: if a native kernel refuses an argument, raise a ValueError under every version of torch.

    A kernel refuses an argument with std::invalid_argument.  Up to version 2.14, torch turns it into a
    ValueError.  From version 2.15 on, torch turns it into a RuntimeError with the same text.  Other
    RuntimeErrors do not change.
    """

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            operators = (schema.partition("(")[0] for schema in SCHEMAS)
            if not str(error).startswith(tuple(f"{name}: " for name in (*operators, function.__name__))):
                raise
            raise ValueError(str(error)) from None

    return call


def upcast(x: Any) -> Any:
    """Convert a 16-bit tensor to float32.  Return all other values unchanged."""
    return x.float() if x is not None and x.dtype in _HALF else x


def downcast(x: Any, dtype: torch.dtype) -> Any:
    """Convert a float32 or 16-bit tensor to autocast's dtype.  Return all other values unchanged."""
    return x.to(dtype) if x is not None and x.dtype in (torch.float32, *_HALF) else x


def register_autocast(name: str, cast: Callable[..., tuple[Any, ...]]) -> None:
    """Register an operator's rule for autocast, on the CPU and on CUDA.

    The large inputs of bdlru and causal_conv1d are converted to autocast's dtype.  The scan runs in float32.
    Decay, weights, states and sums are always in float32, because bfloat16 rounds a factor of 0.9985 to 1.

    cast: takes autocast's dtype and the operator's arguments, and returns the converted arguments.  torch
        does not pass arguments that have their default value.
    """
    for device in ("cpu", "cuda"):

        def rule(*arguments: Any, device: str = device) -> Any:
            dtype = torch.get_autocast_dtype(device)
            with without_autocast():
                return getattr(torch.ops.recblr, name)(*cast(dtype, *arguments))

        LIBRARY.impl(name, rule, f"Autocast{device.upper()}")


def register_derivatives(
    name: str,
    *,
    save: Callable[..., None],
    gradient: Callable[..., tuple[Tensor | None, ...]],
    tangent: Callable[..., Any] | None = None,
    composed: Callable[..., Any] | None = None,
    arguments: Callable[..., tuple[Any, ...]] | None = None,
) -> None:
    """Register autograd's kernel of an operator.

    The kernel that torch.library.register_autograd makes is not used.  It drops tangents in silence, and it
    fails under torch.func (pytorch #168393).

    Args:
        name: the operator's name.
        save, gradient: `setup_context` and `backward` of a torch.autograd.Function.
        tangent: takes the `ctx` that `save` wrote, the tensors that `save` saved for the forward mode, and
            the tangents of the arguments.  It returns the tangents of the outputs.
        composed: computes the same as the operator, from differentiable PyTorch operations.  It is called
            instead of the operator if an argument has a tangent, and under torch.func.  An operator needs
            either `tangent` or `composed`.
        arguments: makes the complete arguments.  torch does not pass those that have their default value.
    """
    operator = getattr(torch.ops.recblr, name).default

    class Function(OneLevelFunction):
        @staticmethod
        def forward(ctx: Any, below: Callable[..., Any], *given: Any) -> Any:
            output = below(*given)
            save(ctx, given, output)
            return output

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            return None, *gradient(ctx, *grads)

        @staticmethod
        def jvp(ctx: Any, _: None, *tangents: Any) -> Any:
            assert tangent is not None  # an operator without it is composed if there is a tangent
            with derivatives_on(torch.is_grad_enabled(), True):  # outer levels may need them
                return tangent(ctx, [primal_of(x) for x in ctx.saved_tensors], *tangents)

    def kernel(keyset: Any, *given: Any) -> Any:
        forward_mode = forward_mode_possible()
        if forward_mode and composed is not None:
            if functorch_active() or any(tangent_of(x) is not None for x in given):
                return composed(*given)
            forward_mode = False
        below = KernelBelowAutograd(operator, keyset)
        if forward_mode or (torch.is_grad_enabled() and any_requires_grad(*given)):
            return apply_at_one_level(Function, below, *(arguments(*given) if arguments else given))
        return below(*given)

    LIBRARY.impl(name, kernel, "Autograd", with_keyset=True)


def register_fused(
    name: str,
    arguments: Any,
    *,
    call: Callable[..., Any],
    cast: Callable[..., tuple[Any, ...]],
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    composed: Callable[..., Any],
    reference_backward: Callable[..., Any],
    fake_backward: Callable[..., Any],
    composed_backward: Callable[..., Any],
) -> None:
    """Register the operator `name` with its forward kernel `_name` and its backward kernel `_name_backward`.

    The backward kernel takes the gradients of y and of the final state, then the arguments of the forward
    kernel, then the forward kernel's outputs after the first two.  It returns one gradient for each tensor
    argument except offsets, in the order of the arguments.

    Args:
        name: the name of the public operator.
        arguments: the NamedTuple of its arguments.
        call: the public operator.  It checks the arguments and calls the kernel.
        cast: see :func:`register_autocast`.
        reference, reference_backward: used on a device that has no kernel.
        fake, fake_backward: return outputs without values, for tracing.
        composed, composed_backward: compute the same as the kernels, from differentiable PyTorch operations.
    """
    kernel, backward = f"_{name}", f"_{name}_backward"
    differentiated = [
        field for field, kind in get_type_hints(arguments).items() if kind is not bool and field != "offsets"
    ]

    def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        save_arguments(ctx, (*inputs, *output[2:]))

    def save_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        save_arguments(ctx, inputs)

    def gradient(
        ctx: Any, grad: Tensor | None, grad_final: Tensor | None, *_: Any
    ) -> tuple[Tensor | None, ...]:
        if grad is None and grad_final is None:
            return (None,) * len(arguments._fields)
        inputs = saved_arguments(ctx)
        gradients = getattr(torch.ops.recblr, backward)(grad, grad_final, *inputs)
        of = dict(zip(differentiated, gradients, strict=True))
        return tuple(
            None if value is None else of.get(field)
            for field, value in zip(arguments._fields, inputs, strict=False)
        )

    LIBRARY.impl(name, call, "CompositeImplicitAutograd")
    # The rules for vmap.  Without a rule, vmap would loop over the calls.
    LIBRARY.impl(name, call, "FuncTorchBatchedDecomposition")
    LIBRARY.impl(kernel, composed, "FuncTorchBatchedDecomposition")
    LIBRARY.impl(backward, composed_backward, "FuncTorchBatchedDecomposition")
    register_autocast(name, cast)
    LIBRARY.impl(kernel, reference, "CompositeExplicitAutograd")
    LIBRARY.impl(backward, reference_backward, "CompositeExplicitAutograd")
    torch.library.register_fake(f"recblr::{kernel}", fake)
    torch.library.register_fake(f"recblr::{backward}", fake_backward)
    register_derivatives(kernel, save=save, gradient=gradient, composed=composed)
    register_derivatives(
        backward, save=save_backward, gradient=derivative_of(composed_backward), composed=composed_backward
    )
