"""Dropout as torch.nn.Dropout, with masks that all threads draw."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recblr.ops import native
from recblr.ops.autograd import transformed
from recblr.ops.training import KERNEL_DTYPES


class Dropout(nn.Dropout):
    """torch.nn.Dropout, faster where a native kernel serves.

    torch draws masks one number after another; here (seed, place) decides about each element, so that
    threads share the work, the bits do not depend on their number, and no mask is kept for backward.
    The seed comes from torch's generator: ``torch.manual_seed`` makes it repeatable.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not 0 < self.p < 1 or self.inplace or not _served(input):
            return F.dropout(input, self.p, self.training, self.inplace)
        seed = int(torch.empty((), dtype=torch.int64, device="cpu").random_())
        y: Tensor = _SeededDropout.apply(input, seed, self.p)
        return y


def _served(x: Tensor) -> bool:
    """Whether the kernel has x's device and dtype, and the call is neither transformed nor traced."""
    return (
        not torch.compiler.is_compiling()
        and not transformed()
        and not torch._C._len_torch_dispatch_stack()
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
