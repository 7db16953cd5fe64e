"""The losses with negatives, computed row by row with the formulas of the papers."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def scores(
    hidden: Tensor, weight: Tensor, targets: Tensor, negatives: Tensor, n: int
) -> tuple[Tensor, list[Tensor], list[int]]:
    """The score of row n's target, the scores of its negatives, and the negatives.  The target is not one."""
    items = [int(k) for k in negatives if int(k) != int(targets[n])]
    return hidden[n] @ weight[targets[n]], [hidden[n] @ weight[k] for k in items], items


def mean_over_rows(rows: list[Tensor]) -> Tensor:
    return torch.stack(rows).mean()


def bpr(hidden: Tensor, weight: Tensor, targets: Tensor, negatives: Tensor) -> Tensor:
    rows = []
    for n in range(len(targets)):
        target, others, _ = scores(hidden, weight, targets, negatives, n)
        rows.append(sum((-torch.sigmoid(target - s).log() for s in others), 0 * target) / max(len(others), 1))
    return mean_over_rows(rows)


def gbce(
    hidden: Tensor, weight: Tensor, targets: Tensor, negatives: Tensor, beta: float, bias: float = 0.0
) -> Tensor:
    rows = []
    for n in range(len(targets)):
        target, others, _ = scores(hidden, weight, targets, negatives, n)
        log_likelihood = beta * torch.sigmoid(target + bias).log()
        log_likelihood = log_likelihood + sum(torch.sigmoid(-s - bias).log() for s in others)
        rows.append(-log_likelihood / (len(others) + 1))
    return mean_over_rows(rows)


def sampled_softmax(
    hidden: Tensor, weight: Tensor, targets: Tensor, negatives: Tensor, log_q: Tensor
) -> Tensor:
    rows = []
    for n in range(len(targets)):
        target, others, items = scores(hidden, weight, targets, negatives, n)
        weights = [1 / (len(negatives) * math.exp(log_q[k])) for k in items]
        normaliser = target.exp() + sum(w * s.exp() for w, s in zip(weights, others, strict=True))
        rows.append(normaliser.log() - target)
    return mean_over_rows(rows)
