"""Next-item cross entropy over the whole catalogue, without the logits ever existing in full."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recblr.ops.refusals import value_errors
from recblr.ops.training_rows import softmax_gradient_

# Logits held at a time; few enough to stay in cache while they are turned into gradients, in rows enough that
# adding up weight's gradient costs less than computing it.
CHUNK_ELEMENTS = 2**19
MIN_CHUNK_ROWS = 64


class _LinearCrossEntropy(torch.autograd.Function):
    """Gradients are taken in the forward pass, chunk by chunk, while a chunk's logits are at hand."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
        rows, catalogue = hidden.shape[0], weight.shape[0]
        chunk = max(MIN_CHUNK_ROWS, CHUNK_ELEMENTS // max(catalogue, 1))
        needs_grad = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        d_hidden = torch.empty_like(hidden) if needs_grad else None
        d_weight = torch.zeros_like(weight) if needs_grad else None
        loss = hidden.new_zeros((), dtype=torch.float64)
        for start in range(0, rows, chunk):
            h, wanted = hidden[start : start + chunk], targets[start : start + chunk]
            logits = h @ weight.mT
            loss += softmax_gradient_(logits, wanted).sum(dtype=torch.float64)
            if d_hidden is not None and d_weight is not None:
                torch.mm(logits, weight, out=d_hidden[start : start + chunk])
                d_weight.addmm_(logits.mT, h)
        if d_hidden is not None and d_weight is not None:
            ctx.save_for_backward(d_hidden.div_(max(rows, 1)), d_weight.div_(max(rows, 1)))
        return (loss / max(rows, 1)).to(hidden.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight = ctx.saved_tensors
        return d_hidden * grad, d_weight * grad, None


@value_errors
def linear_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Mean over rows of ``-log softmax(hidden @ weight.T)[target]``, in memory bounded by a chunk.

    Ours rather than torch's chunked ``linear_cross_entropy`` (from 2.13): the same result on every
    torch, and faster on CPU (benchmarks/loss.py).  Not twice differentiable.

    Args:
        hidden: ``(N, D)``.
        weight: ``(V, D)``, an embedding a catalogue item.
        targets: ``(N,)`` int64, ``0 <= target < V``.

    Returns:
        A scalar of hidden's dtype; 0 where N is 0.

    Raises:
        ValueError: a target outside the catalogue (elsewhere than on a CPU, RuntimeError in torch's words).
        RuntimeError: shapes that do not fit each other, in torch's words.
    """
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets)
    return loss
