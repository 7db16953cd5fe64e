"""Losses of the next item: over the whole catalogue, or against a few items drawn at random."""

from recblr.nn.losses.bpr import bpr_loss
from recblr.nn.losses.cross_entropy import linear_cross_entropy
from recblr.nn.losses.gbce import gbce_beta, gbce_bias, gbce_loss
from recblr.nn.losses.proposal import Proposal
from recblr.nn.losses.sampled_softmax import sampled_softmax_loss

__all__ = [
    "Proposal",
    "bpr_loss",
    "gbce_beta",
    "gbce_bias",
    "gbce_loss",
    "linear_cross_entropy",
    "sampled_softmax_loss",
]
