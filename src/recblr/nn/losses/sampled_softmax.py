"""Sampled softmax: the cross entropy over the whole catalogue, estimated from a few items."""

import math

import torch
from torch import Tensor

from recblr.nn.losses.pairs import paired_scores
from recblr.nn.repeats import Repeats


def sampled_softmax_loss(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    negatives: Tensor,
    log_q: Tensor,
    repeats: Repeats | None = None,
) -> Tensor:
    """Mean over rows of ``log(exp(s_target) + sum_k exp(s_k - log(K q_k))) - s_target``.

    The sum is an unbiased estimate of the softmax's normaliser: an item other than the target is drawn
    K q times in the mean, and weighs 1 / (K q) each time (importance sampling: Bengio & Senecal, IEEE
    Trans. Neural Networks 19(4), 2008; the logQ correction of Yi et al., RecSys 2019). The target
    is in the sum for certain and once, so its score is not corrected (cf. arXiv 2507.09331), and where it
    is drawn as well it does not count. Value and gradient go to those of the full cross entropy as K
    grows, whatever the proposal; for small K the loss is low in the mean, the logarithm being concave.

    Args:
        hidden, weight, targets, negatives, repeats: as of
            :func:`recblr.nn.losses.pairs.paired_scores`; negatives are drawn one by one, with replacement.
        log_q: ``(V,)``, the log-probability with which each item is drawn.

    Returns:
        A scalar of hidden's dtype; 0 where N is 0.

    Raises:
        ValueError: targets, negatives or log_q is of another shape.
    """
    if log_q.shape != weight.shape[:1]:
        raise ValueError(f"log_q must be ({weight.shape[0]},), one an item, but is {tuple(log_q.shape)}")
    positive, negative, hits = paired_scores(hidden, weight, targets, negatives, repeats)
    corrected = negative - (log_q.to(negative.dtype)[negatives] + math.log(len(negatives)))
    scores = torch.cat([positive.unsqueeze(1), corrected.masked_fill(hits, -math.inf)], 1)
    return (scores.logsumexp(1) - positive).sum() / max(len(targets), 1)
