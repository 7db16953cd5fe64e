"""How operators are made known to torch: schemas, kernels' stand-ins, rules for autocast, and errors.

The import of ``recblr.ops`` fails where the native library is required and missing, and may be tried again.
PyTorch accepts a schema only once, so schemas are defined by modules that stay imported.
"""

import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, get_type_hints

import torch
from torch import Tensor

from recblr.ops.common.derivatives import register_derivative_of, save_arguments, saved_arguments
from recblr.ops.common.torch_internals import without_autocast

P = ParamSpec("P")
R = TypeVar("R")

LIBRARY = torch.library.Library("recblr", "DEF")

SCHEMAS: list[str] = []
"""Every schema that has been defined."""

_HALF = (torch.bfloat16, torch.float16)
_SCHEMA_TYPES: dict[Any, str] = {Tensor: "Tensor", Tensor | None: "Tensor?", bool: "bool"}


def define(*schemas: str) -> None:
    """Define schemas in the namespace recblr."""
    for schema in schemas:
        LIBRARY.define(schema)
        SCHEMAS.append(schema)


def parameters(arguments: Any, *, defaults: bool = False) -> str:
    """The parameters of a schema, made from a NamedTuple of an operator's arguments.

    defaults: whether they have the NamedTuple's defaults; a schema allows none before other parameters.
    """
    values = arguments._field_defaults if defaults else {}
    return ", ".join(
        f"{_SCHEMA_TYPES[kind]} {name}" + (f"={values[name]}" if name in values else "")
        for name, kind in get_type_hints(arguments).items()
    )


def value_errors(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, which raises a ValueError for what a native kernel refuses, on every torch.

    Kernels throw std::invalid_argument.  torch makes a ValueError of it up to 2.14, and from 2.15 on a
    RuntimeError with the same text.  Other RuntimeErrors stay what they are.
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


def wide(x: Any) -> Any:
    """16-bit tensors as float32; others as they are."""
    return x.float() if x is not None and x.dtype in _HALF else x


def narrow(x: Any, dtype: torch.dtype) -> Any:
    """float32 and 16-bit tensors in autocast's dtype; others as they are."""
    return x.to(dtype) if x is not None and x.dtype in (torch.float32, *_HALF) else x


def register_autocast(name: str, cast: Callable[..., tuple[Any, ...]]) -> None:
    """Register what an operator does under autocast, on every device that is served.

    Large inputs of bdlru and causal_conv1d are cast to autocast's dtype.  The scan stays in float32, and so
    do decay, weights, states and sums everywhere: bfloat16 turns a factor of 0.9985 into 1.

    cast: from autocast's dtype and the operator's arguments to those that it is called with.  torch leaves
        out arguments that have their default.
    """
    for device in ("cpu", "cuda"):

        def rule(*arguments: Any, device: str = device) -> Any:
            dtype = torch.get_autocast_dtype(device)
            with without_autocast():
                return getattr(torch.ops.recblr, name)(*cast(dtype, *arguments))

        LIBRARY.impl(name, rule, f"Autocast{device.upper()}")


def register_fused(
    name: str,
    arguments: Any,
    *,
    call: Callable[..., Any],
    cast: Callable[..., tuple[Any, ...]],
    reference: Callable[..., Any],
    fake: Callable[..., Any],
    reference_backward: Callable[..., Any],
    fake_backward: Callable[..., Any],
    composed_backward: Callable[..., Any],
) -> None:
    """Register an operator `name` that has one kernel forward, `_name`, and one backward, `_name_backward`.

    The backward kernel takes the gradients of y and of the final state, the forward kernel's arguments and
    its further outputs.  It returns a gradient for each tensor among the arguments but offsets, in order.

    Args:
        name: the public operator's.
        arguments: the NamedTuple of its arguments.
        call: what the public operator does: it checks, and calls the kernel, or with ``kernel=False`` the
            composition of PyTorch operations.
        cast: see :func:`register_autocast`.
        reference, reference_backward: what serves where a device has no kernel.
        fake, fake_backward: outputs without values, for tracing.
        composed_backward: the backward kernel as differentiable PyTorch operations.
    """
    kernel, backward = f"_{name}", f"_{name}_backward"
    differentiated = [
        field for field, kind in get_type_hints(arguments).items() if kind is not bool and field != "offsets"
    ]

    def save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        save_arguments(ctx, (*inputs, *output[2:]))

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
    # Without a rule of its own, vmap loops over the calls.
    LIBRARY.impl(name, functools.partial(call, kernel=False), "FuncTorchBatchedDecomposition")
    LIBRARY.impl(backward, composed_backward, "FuncTorchBatchedDecomposition")
    register_autocast(name, cast)
    LIBRARY.impl(kernel, reference, "CompositeExplicitAutograd")
    LIBRARY.impl(backward, reference_backward, "CompositeExplicitAutograd")
    torch.library.register_fake(f"recblr::{kernel}", fake)
    torch.library.register_fake(f"recblr::{backward}", fake_backward)
    torch.library.register_autograd(f"recblr::{kernel}", gradient, setup_context=save)
    register_derivative_of(f"recblr::{backward}", composed_backward)
