"""The operator of :func:`recblr.nn.losses.linear_cross_entropy`.  It never holds all logits at once.

The operator ``_linear_cross_entropy`` returns the loss in float64, and the gradients of the loss with respect
to hidden, weight and the repeat bias.  Without ``gradients``, the first two gradients are empty.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from recblr.ops.common.layout import sequence_of
from recblr.ops.common.registration import LIBRARY, define
from recblr.ops.common.torch_internals import dual_level_active

define(
    "_linear_cross_entropy(Tensor hidden, Tensor weight, Tensor targets, bool gradients,"
    " Tensor? repeat_bias=None, Tensor? items=None, Tensor? offsets=None, Tensor? rows=None)"
    " -> (Tensor loss, Tensor d_hidden, Tensor d_weight, Tensor d_bias)",
)

# How many logits the reference holds at a time.  On a CPU, this many fit into a cache.  A GPU needs more to
# be busy.  A chunk has at least MIN_CHUNK_ROWS rows, so that a matrix product takes longer than its call.
CHUNK_ELEMENTS = 2**19
GPU_CHUNK_ELEMENTS = 2**24
MIN_CHUNK_ROWS = 64


def mean_cross_entropy(hidden: Tensor, weight: Tensor, targets: Tensor, *repeats: Tensor | None) -> Tensor:
    """The mean over rows of ``-log softmax(hidden @ weight.T)[target]``, in hidden's dtype.

    It can be differentiated once.  In a level of forward_ad and under torch.func, it is a composition of
    PyTorch operations that holds all logits.  The composition is differentiable to any order.

    repeats: bias, items, offsets and rows as in :class:`recblr.nn.Repeats`; all four are None without a bias.
    """
    if dual_level_active():
        return _composed(hidden, weight, targets, *repeats)
    loss: Tensor = _LinearCrossEntropy.apply(hidden, weight, targets, *repeats)
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    """Computes gradients in the forward pass, chunk by chunk, because each chunk's logits exist only then."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, *repeats: Tensor | None) -> Tensor:
        needs_grad = any(ctx.needs_input_grad)
        loss, *gradients = _kernel_for(hidden)(
            hidden.contiguous(), weight.contiguous(), targets, needs_grad, *repeats
        )
        ctx.save_for_backward(*gradients)
        rounded: Tensor = loss.to(hidden.dtype)
        return rounded

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        d_hidden, d_weight, d_bias = ctx.saved_tensors
        d_repeats = d_bias * grad if ctx.needs_input_grad[3] else None
        return d_hidden * grad, d_weight * grad, None, d_repeats, None, None, None


def _kernel_for(hidden: Tensor) -> Any:
    in_16_bits = hidden.dtype in (torch.bfloat16, torch.float16)  # these dtypes have no kernel
    return _reference if in_16_bits else torch.ops.recblr._linear_cross_entropy


def _composed(hidden: Tensor, weight: Tensor, targets: Tensor, *repeats: Tensor | None) -> Tensor:
    # This call checks the arguments.
    _kernel_for(hidden)(hidden.detach().contiguous(), weight.detach().contiguous(), targets, False, *repeats)
    logits = hidden @ weight.mT
    bias, items, offsets, rows = repeats
    if bias is not None and items is not None and offsets is not None:
        rows = torch.arange(hidden.shape[0], device=hidden.device) if rows is None else rows
        everything = torch.arange(weight.shape[0], device=hidden.device)
        logits = logits + bias * Seen(items, offsets).by(rows, everything)
    wanted = logits.log_softmax(1).gather(1, targets.unsqueeze(1))
    loss: Tensor = -wanted.sum() / max(hidden.shape[0], 1)
    return loss


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


class Seen:
    """The items that a user already has at each event.  Sorts the histories once; then `by` is fast.

    items: ``(M,)`` integers >= 0, packed histories.
    offsets: ``(S + 1,)``, see :func:`recblr.scan`.
    """

    def __init__(self, items: Tensor, offsets: Tensor) -> None:
        self._offsets = offsets
        events = torch.arange(len(items), device=items.device)
        # One number for each pair of history and item.  The sort is stable: among equal pairs, the earliest
        # event is first.
        self._radix = items.max() + 1 if len(items) else items.new_ones(())
        self._pairs, self._order = torch.sort(sequence_of(events, offsets) * self._radix + items, stable=True)

    def by(self, rows: Tensor, candidates: Tensor) -> Tensor:
        """For each row and candidate: whether the row's history holds the candidate.

        The history counts up to the row's event, and includes it.

        Args:
            rows: ``(N,)``, the event number of each row.
            candidates: items, ``(K,)`` for all rows, or ``(N, K)`` with other candidates for each row.

        Returns:
            ``(N, K)`` bool.
        """
        if not len(self._pairs):
            return torch.zeros(len(rows), candidates.shape[-1], dtype=torch.bool, device=rows.device)
        wanted = sequence_of(rows, self._offsets).unsqueeze(1) * self._radix + candidates
        place = torch.searchsorted(self._pairs, wanted).clamp(max=len(self._pairs) - 1)
        held = (self._pairs[place] == wanted) & (self._order[place] <= rows.unsqueeze(1))
        return held & (candidates < self._radix)  # a larger candidate would match an item of another history


LIBRARY.impl("_linear_cross_entropy", _reference, "CompositeExplicitAutograd")
torch.library.register_fake("recblr::_linear_cross_entropy", _fake)
