"""The loss that a run asks for, as a function of what the model gives."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from recblr.config import TrainingConfig
from recblr.data import Packed
from recblr.nn.losses import (
    Proposal,
    bpr_loss,
    gbce_beta,
    gbce_bias,
    gbce_loss,
    linear_cross_entropy,
    sampled_softmax_loss,
)
from recblr.nn.repeats import Repeats
from recblr.system.device import CPU

Objective = Callable[[Tensor, Tensor, Tensor, Repeats | None], Tensor]
"""hidden (N, D), item embeddings (V, D), targets (N,), a bias of repeats or None -> the mean loss."""


def objective(config: TrainingConfig, train: Packed, num_items: int, device: torch.device = CPU) -> Objective:
    """The loss of `config.loss`.  Negatives are drawn from torch's own generator, anew at each call.

    train: the histories that are trained on, whose items make popularity.
    device: where what it is given will lie.
    """
    if config.loss == "cross-entropy":
        return partial(linear_cross_entropy, label_smoothing=config.label_smoothing)
    if config.proposal == "uniform":
        proposal = Proposal.uniform(num_items)
    else:
        proposal = Proposal.popularity(torch.from_numpy(train.items), num_items)
    proposal.to(device)  # made on the CPU, whose sums have the same bits everywhere
    beta = gbce_beta(config.negatives, num_items, config.gbce_t)
    bias = gbce_bias(beta, config.negatives)

    def loss(hidden: Tensor, weight: Tensor, targets: Tensor, repeats: Repeats | None = None) -> Tensor:
        negatives = proposal.draw(config.negatives)
        if config.loss == "bpr":
            return bpr_loss(hidden, weight, targets, negatives, repeats)
        if config.loss == "gbce":
            return gbce_loss(hidden, weight, targets, negatives, beta, bias, repeats)
        return sampled_softmax_loss(hidden, weight, targets, negatives, proposal.log_q, repeats)

    return loss
