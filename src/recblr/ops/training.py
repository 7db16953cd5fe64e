"""Operators inside of training: the reference in PyTorch, and what they return without computing.

``_linear_cross_entropy`` takes the loss of :func:`recblr.nn.losses.linear_cross_entropy`, in float64, and
where asked its gradients by hidden, weight and the bias of repeats (the first two are else empty).

``_dropout`` decides about each element by (seed, its number) alone: with p fixed it is linear, and its
derivative is itself.  It has no reference: random bits differ between devices in PyTorch too.
"""

import torch
from torch import Tensor

from recblr.ops.schemas import LIBRARY
from recblr.ops.seen import Seen

KERNEL_DTYPES = (torch.float32, torch.float64)
# Logits that the reference holds at a time, in rows enough to be worth their products' calls: on a CPU what a
# cache holds, elsewhere what keeps a GPU busy.
CHUNK_ELEMENTS = 2**19
GPU_CHUNK_ELEMENTS = 2**24
MIN_CHUNK_ROWS = 64


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


def linear_cross_entropy(
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


def _fake(
    hidden: Tensor, weight: Tensor, targets: Tensor, gradients: bool, *_: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    like = torch.empty_like if gradients else (lambda x: x.new_empty(0, 0))
    loss = hidden.new_empty((), dtype=torch.float64)
    return loss, like(hidden), like(weight), hidden.new_empty(())


def register() -> None:
    """Register reference and fakes."""
    LIBRARY.impl("_linear_cross_entropy", _reference, "CompositeExplicitAutograd")
    torch.library.register_fake("recblr::_linear_cross_entropy", _fake)
    torch.library.register_fake("recblr::_dropout", lambda x, *_: torch.empty_like(x))
