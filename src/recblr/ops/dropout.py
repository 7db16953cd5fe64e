"""Dropout that decides about each element from the seed and the element's number alone.

For a fixed seed and p, it is linear and diagonal, so its derivative applies the same dropout to the gradient.
It has no PyTorch reference, because in PyTorch too, random bits differ between devices.
"""

from typing import Any

import torch
from torch import Tensor

from recblr.ops.common import native
from recblr.ops.common.derivatives import transform_active
from recblr.ops.common.registration import define, register_derivatives
from recblr.ops.common.torch_internals import dispatch_modes_active

define("_dropout(Tensor x, int seed, float p) -> Tensor")

KERNEL_DTYPES = (torch.float32, torch.float64)


def seeded_dropout(x: Tensor, seed: int, p: float) -> Tensor:
    """Set each element of x to zero with probability p, and divide the others by 1 - p.

    Only call this if `has_kernel_for(x)`.
    """
    y: Tensor = torch.ops.recblr._dropout.default(x.contiguous(), seed, p)
    return y


def has_kernel_for(x: Tensor) -> bool:
    """Whether the kernel supports x's device and dtype, and no transform and no tracing is active."""
    return (
        not torch.compiler.is_compiling()
        and not transform_active()
        and not dispatch_modes_active()
        and type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype in KERNEL_DTYPES
        and native.status["cpu"] == "native"
    )


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.seed, ctx.p = inputs


def _gradient(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return seeded_dropout(grad, ctx.seed, ctx.p), None, None


def _tangent(ctx: Any, _: Any, t_x: Tensor, *__: None) -> Tensor:
    return seeded_dropout(t_x, ctx.seed, ctx.p)


register_derivatives("_dropout", save=_save, gradient=_gradient, tangent=_tangent)
torch.library.register_fake("recblr::_dropout", lambda x, *_: torch.empty_like(x))
