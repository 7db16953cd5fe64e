"""The loss of :func:`recblr.nn.losses.linear_cross_entropy`, without the logits ever existing in full.

``_linear_cross_entropy`` gives it in float64, and where asked its gradients by hidden, weight and the bias of
repeats (the first two are else empty).
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recblr.ops.common.library import LIBRARY, define
from recblr.ops.common.seen import Seen

define(
    "_linear_cross_entropy(Tensor hidden, Tensor weight, Tensor targets, bool gradients,"
    " Tensor? repeat_bias=None, Tensor? items=None, Tensor? offsets=None, Tensor? rows=None)"
    " -> (Tensor loss, Tensor d_hidden, Tensor d_weight, Tensor d_bias)",
)

# Logits that the reference holds at a time, in rows enough to be worth their products' calls: on a CPU what a
# cache holds, elsewhere what keeps a GPU busy.
CHUNK_ELEMENTS = 2**19
GPU_CHUNK_ELEMENTS = 2**24
MIN_CHUNK_ROWS = 64


def mean_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    repeat_bias: Tensor | None = None,
    items: Tensor | None = None,
    offsets: Tensor | None = None,
    rows: Tensor | None = None,
) -> Tensor:
    """The mean over rows of ``-log softmax(hidden @ weight.T)[target]``, in hidden's dtype.

    It can be differentiated once.

    repeat_bias, items, offsets, rows: see :class:`recblr.nn.Repeats`; None for none.
    """
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, repeat_bias, items, offsets, rows)
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    """Gradients are taken in the forward pass, chunk by chunk, while a chunk's logits are at hand."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        targets: Tensor,
        bias: Tensor | None,
        *histories: Tensor | None,
    ) -> Tensor:
        needs_grad = any(ctx.needs_input_grad)
        loss, *gradients = _loss_and_gradients(hidden, weight, targets, needs_grad, bias, *histories)
        ctx.save_for_backward(*gradients)
        return loss.to(hidden.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        d_repeats = d_bias * grad if ctx.needs_input_grad[3] else None
        return d_hidden * grad, d_weight * grad, None, d_repeats, None, None, None


def _loss_and_gradients(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    gradients: bool,
    *repeats: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The operator, or in 16 bits, for which there is no kernel, the reference."""
    in_16_bits = hidden.dtype in (torch.bfloat16, torch.float16)
    function = _reference if in_16_bits else torch.ops.recblr._linear_cross_entropy
    loss, d_hidden, d_weight, d_bias = function(
        hidden.contiguous(), weight.contiguous(), targets, gradients, *repeats
    )
    return loss, d_hidden, d_weight, d_bias


def _reference(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    gradients: bool,
    repeat_bias: Tensor | None = None,
    items: Tensor | None = None,
    offsets: Tensor | None = None,
    rows: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count, catalogue = hidden.shape[0], weight.shape[0]
    elements = CHUNK_ELEMENTS if hidden.device.type == "cpu" else GPU_CHUNK_ELEMENTS
    chunk = max(MIN_CHUNK_ROWS, elements // max(catalogue, 1))
    loss = hidden.new_zeros((), dtype=torch.float64)
    d_hidden = torch.empty_like(hidden) if gradients else hidden.new_empty(0, 0)
    d_weight = torch.zeros_like(weight) if gradients else weight.new_empty(0, 0)
    d_bias = hidden.new_zeros(())
    everything = torch.arange(catalogue, device=hidden.device)
    if repeat_bias is not None:
        if items is None or offsets is None:
            raise ValueError("linear_cross_entropy: repeat_bias must come with items and offsets")
        seen = Seen(items, offsets)
    if rows is None:
        rows = torch.arange(count, device=hidden.device)
    for start in range(0, count, chunk):
        part = slice(start, start + chunk)
        h, columns = hidden[part], targets[part].unsqueeze(1)
        logits = h @ weight.mT
        if repeat_bias is not None:
            repeats = seen.by(rows[part], everything)
            logits += repeats * repeat_bias
        logits.sub_(logits.amax(1, keepdim=True))
        wanted = logits.gather(1, columns)
        total = logits.exp_().sum(1, keepdim=True)
        loss += (total.log() - wanted).sum(dtype=torch.float64)
        if gradients:
            logits.div_(total).scatter_add_(1, columns, logits.new_full((), -1.0).expand_as(columns))
            torch.mm(logits, weight, out=d_hidden[part])
            d_weight.addmm_(logits.mT, h)
            if repeat_bias is not None:
                d_bias += (logits * repeats).sum()
    for total in (loss, d_hidden, d_weight, d_bias):
        total.div_(max(count, 1))
    return loss, d_hidden, d_weight, d_bias


def _fake(
    hidden: Tensor, weight: Tensor, targets: Tensor, gradients: bool, *_: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    like = torch.empty_like if gradients else (lambda x: x.new_empty(0, 0))
    loss = hidden.new_empty((), dtype=torch.float64)
    return loss, like(hidden), like(weight), hidden.new_empty(())


LIBRARY.impl("_linear_cross_entropy", _reference, "CompositeExplicitAutograd")
torch.library.register_fake("recblr::_linear_cross_entropy", _fake)
