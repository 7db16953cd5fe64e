"""Bayesian personalised ranking: the target above each negative."""

import torch.nn.functional as F
from torch import Tensor

from recblr.nn.losses.pairs import paired_scores
from recblr.nn.repeats import Repeats


def bpr_loss(
    hidden: Tensor, weight: Tensor, targets: Tensor, negatives: Tensor, repeats: Repeats | None = None
) -> Tensor:
    """Mean over rows and their negatives of ``-log sigmoid(s_target - s_negative)``.

    BPR-Opt (Rendle et al., UAI 2009, sec. 4.1) without its prior, with K negatives a row in place of one. A
    negative that is the row's own target does not count; a row with no other counts 0.

    Arguments and errors as of :func:`recblr.nn.losses.pairs.paired_scores`; returns a scalar of hidden's
    dtype, 0 where N is 0.
    """
    positive, negative, hits = paired_scores(hidden, weight, targets, negatives, repeats)
    losses = F.softplus(negative - positive.unsqueeze(1)).masked_fill(hits, 0)
    counted = (~hits).sum(1).clamp(min=1)
    return (losses.sum(1) / counted).sum() / max(len(targets), 1)
