"""Dropout in which (seed, the element's number) alone decides about each element.

With p fixed it is linear, so it is its own derivative.  It has no reference: random bits differ between
devices in PyTorch too.
"""

from typing import Any

import torch
from torch import Tensor

from recblr.ops.common import native
from recblr.ops.common.derivatives import transformed
from recblr.ops.common.library import define
from recblr.ops.common.torch_internals import dispatch_modes_active

define("_dropout(Tensor x, int seed, float p) -> Tensor")

KERNEL_DTYPES = (torch.float32, torch.float64)


def seeded_dropout(x: Tensor, seed: int, p: float) -> Tensor:
    """x with each element dropped with probability p, and the others divided by 1 - p; needs `serves(x)`."""
    y: Tensor = _SeededDropout.apply(x, seed, p)
    return y


def serves(x: Tensor) -> bool:
    """Whether the kernel has x's device and dtype, and the call is neither transformed nor traced."""
    return (
        not torch.compiler.is_compiling()
        and not transformed()
        and not dispatch_modes_active()
        and type(x) is Tensor
        and x.device.type == "cpu"
        and x.dtype in KERNEL_DTYPES
        and native.status["cpu"] == "native"
    )


class _SeededDropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, seed: int, p: float) -> Tensor:
        ctx.seed, ctx.p = seed, p
        y: Tensor = torch.ops.recblr._dropout(x.contiguous(), seed, p)
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return _SeededDropout.apply(grad, ctx.seed, ctx.p), None, None


torch.library.register_fake("recblr::_dropout", lambda x, *_: torch.empty_like(x))
