"""Operators inside of training: the reference in PyTorch, and what they return without computing.

``_softmax_gradient_`` turns rows of logits ``(N, V)`` in place into the gradient of their cross entropies,
``softmax - onehot(target)``, and returns these, ``(N,)``, in logits' dtype.

``_dropout`` decides about each element by (seed, its number) alone: with p fixed it is linear, and its
derivative is itself.  It has no reference: random bits differ between devices in PyTorch too.
"""

import torch
from torch import Tensor

from recblr.ops.schemas import LIBRARY

KERNEL_DTYPES = (torch.float32, torch.float64)


def _softmax_gradient_(logits: Tensor, targets: Tensor) -> Tensor:
    columns = targets.unsqueeze(1)
    logits.sub_(logits.amax(1, keepdim=True))
    wanted = logits.gather(1, columns)
    total = logits.exp_().sum(1, keepdim=True)
    logits.div_(total).scatter_add_(1, columns, logits.new_full((), -1.0).expand_as(columns))
    return (total.log() - wanted).squeeze(1)


def softmax_gradient_(logits: Tensor, targets: Tensor) -> Tensor:
    """The operator, or on 16-bit logits, for which there is no kernel, the reference."""
    function = torch.ops.recblr._softmax_gradient_ if logits.dtype in KERNEL_DTYPES else _softmax_gradient_
    losses: Tensor = function(logits, targets)
    return losses


def register() -> None:
    """Register reference and fakes."""
    LIBRARY.impl("_softmax_gradient_", _softmax_gradient_, "CompositeExplicitAutograd")
    torch.library.register_fake(
        "recblr::_softmax_gradient_", lambda logits, _: logits.new_empty(logits.shape[0])
    )
    torch.library.register_fake("recblr::_dropout", lambda x, *_: torch.empty_like(x))
