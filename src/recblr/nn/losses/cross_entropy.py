"""Next-item cross entropy over the whole catalogue, without the logits ever existing in full."""

import torch
import torch.nn.functional as F
from torch import Tensor

from recblr.nn.repeats import Repeats
from recblr.ops.common.library import value_errors
from recblr.ops.cross_entropy import mean_cross_entropy


@value_errors
def linear_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    repeats: Repeats | None = None,
    label_smoothing: float = 0.0,
) -> Tensor:
    """Mean over rows of ``-log softmax(hidden @ weight.T)[target]``, in memory bounded by a chunk.

    Ours rather than torch's chunked ``linear_cross_entropy`` (from 2.13): the same result on every
    torch, faster on CPU (benchmarks/loss.py), and with a bias of repeats.  Not twice differentiable.

    Args:
        hidden: ``(N, D)``.
        weight: ``(V, D)``, an embedding a catalogue item.
        targets: ``(N,)`` int64, ``0 <= target < V``.
        repeats: a bias, of hidden's dtype, of the logits of items that a row's user already has.
        label_smoothing: share in [0, 1] of each target that all items get alike (Szegedy et al., CVPR
            2016, sec. 7), which leaves the bias of repeats out: how often items recur is known well enough.

    Returns:
        A scalar of hidden's dtype; 0 where N is 0.

    Raises:
        ValueError: a target outside the catalogue, a label_smoothing outside [0, 1], or a shape or dtype
            that does not fit (in 16 bits and elsewhere than on a CPU, RuntimeError in torch's words).
        TypeError: an argument is no tensor.
    """
    for name, value in (("hidden", hidden), ("weight", weight), ("targets", targets)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name} must be a tensor, but is of the type {type(value).__name__}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in [0, 1], but is {label_smoothing}")
    histories = (repeats.bias, repeats.items, repeats.offsets, repeats.rows) if repeats else (None,) * 4
    loss = mean_cross_entropy(hidden, weight, targets, *histories)
    if label_smoothing and len(targets):
        # Shares move between scores under one normaliser, so what they change is linear in the scores.
        wanted = torch.linalg.vecdot(hidden, F.embedding(targets, weight)).mean()
        loss = loss + label_smoothing * (wanted - hidden.mean(0) @ weight.mean(0))
    return loss
