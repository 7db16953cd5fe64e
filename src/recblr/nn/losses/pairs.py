"""Scores of targets beside those of negatives, which a batch shares."""

import torch
from torch import Tensor

from recblr.nn.repeats import Repeats


def paired_scores(
    hidden: Tensor, weight: Tensor, targets: Tensor, negatives: Tensor, repeats: Repeats | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of each row's target and of all negatives, and which negatives are the row's own target.

    The negatives are shared by all rows: their scores are one small matrix product, where negatives of
    each row's own would gather N * K embeddings and scatter as many gradients (for N = 1024, K = 256 and
    D = 64 that is 64 MiB each way, and took 25 times as long on a CPU).

    Args:
        hidden: ``(N, D)``.
        weight: ``(V, D)``, an embedding a catalogue item.
        targets: ``(N,)`` int64, ``0 <= target < V``.
        negatives: ``(K,)`` int64, likewise; an item may come more than once.
        repeats: a bias of the scores of items that a row's user already has.

    Returns:
        ``(N,)``, ``(N, K)``, and ``(N, K)`` bool.

    Raises:
        ValueError: targets or negatives is of another shape.
    """
    if hidden.dim() != 2 or targets.shape != hidden.shape[:1]:
        raise ValueError(
            f"targets must be (N,), one a row of hidden (N, D), but they are {tuple(targets.shape)}"
            f" and {tuple(hidden.shape)}"
        )
    if negatives.dim() != 1 or not negatives.numel():
        raise ValueError(f"negatives must be (K,) with K >= 1, but is {tuple(negatives.shape)}")
    positive = torch.linalg.vecdot(hidden, weight[targets])
    negative = hidden @ weight[negatives].mT
    if repeats is not None:
        compared = torch.cat([targets.unsqueeze(1), negatives.expand(len(targets), -1)], 1)
        added = repeats.of(compared)
        positive, negative = positive + added[:, 0], negative + added[:, 1:]
    return positive, negative, targets.unsqueeze(1) == negatives
