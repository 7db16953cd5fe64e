"""Losses of the next item: over the whole catalogue, or against a few items drawn at random."""

from recblr.nn.losses.cross_entropy import linear_cross_entropy
from recblr.nn.losses.sampled import Proposal, bpr_loss, gbce_beta, gbce_bias, gbce_loss, sampled_softmax_loss

__all__ = [
    "Proposal",
    "bpr_loss",
    "gbce_beta",
    "gbce_bias",
    "gbce_loss",
    "linear_cross_entropy",
    "sampled_softmax_loss",
]
