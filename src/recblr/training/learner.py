"""A model in training with its optimizer, the step of training, its loss, and its learning rate."""

import math
from collections.abc import Callable
from dataclasses import astuple, replace
from functools import partial
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from recblr.config import TrainingConfig
from recblr.data import Batch, Packed
from recblr.data.packed import TimeRange
from recblr.nn.base import NextItemModel
from recblr.nn.losses import (
    Proposal,
    bpr_loss,
    gbce_beta,
    gbce_bias,
    gbce_loss,
    linear_cross_entropy,
    sampled_softmax_loss,
)
from recblr.nn.model import build_model
from recblr.nn.repeats import Repeats
from recblr.ops.common.torch_internals import lerp_all_
from recblr.system.device import CPU, device_memory, generators, tensors_on

FINAL_LEARNING_RATE = 0.01
"""The learning rate at the end of the cosine, as a share of the highest."""

Objective = Callable[[Tensor, Tensor, Tensor, Repeats | None], Tensor]
"""hidden (N, D), item embeddings (V, D), targets (N,), repeats with their bias or None -> the mean loss."""


class Learner:
    """A model in training.  A step depends only on `model`, `optimizer` and `average`.

    model: the trained weights. average: their moving average, or None.
    objective: the loss.
    device: the device of the weights and of the arguments of the loss.
    repeat_bias: the first value of a repeat bias, which the model then learns. None: without such a bias.
    time_range: of the training; only a model that knows time needs it.
    """

    def __init__(
        self,
        num_items: int,
        config: TrainingConfig,
        objective: Objective,
        device: torch.device = CPU,
        repeat_bias: float | None = None,
        time_range: TimeRange | None = None,
    ) -> None:
        self._config, self._objective, self.device = config, objective, device
        self._generators = generators(device)
        # All weights are drawn on the CPU, so the first weights are the same on every device.  Here and in
        # `step`, torch.manual_seed would seed every kind of device and take a hundred times as long.
        torch.default_generator.manual_seed(config.seed)
        self.model = build_model(num_items, config.model).to(device)
        if repeat_bias is not None:
            self.model.learn_repeat_bias(repeat_bias)
        if self.model.time is not None:
            assert time_range is not None
            self.model.time.set_range(*astuple(time_range))
        self.optimizer = torch.optim.AdamW(
            decayed_and_other(self.model, config.weight_decay), lr=config.learning_rate, fused=True
        )
        self.average = MovingAverage(self.model, config.ema) if config.ema else None
        self._weights: list[Tensor] = list(self.model.parameters())

    @property
    def kept(self) -> NextItemModel:
        """The model that is validated and saved: the average, if there is one."""
        return self.model if self.average is None else cast(NextItemModel, self.average.module)

    def is_finite(self) -> bool:
        """Whether every weight is a finite number."""
        return all(bool(torch.isfinite(weights).all()) for weights in self.model.parameters())

    def step(self, batch: Batch, learning_rate: float, *seed: int) -> Tensor:
        """Do one step of the optimizer.  Its random numbers depend only on the seed of the run and on `seed`.

        Returns the mean loss of the batch, a scalar on the device.  A GPU may still be computing it.
        """
        number = int(np.random.SeedSequence([self._config.seed, *seed]).generate_state(1)[0])
        for generator in self._generators:
            generator.manual_seed(number)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        if not self.model.training:  # train() visits every module, which takes time in each step
            self.model.train()
        loss = self._loss(batch)
        for weights in self._weights:  # the same as optimizer.zero_grad, which takes 0.2 ms
            weights.grad = None
        loss.backward()
        if self._config.clip_norm:
            nn.utils.clip_grad_norm_(self.model.parameters(), self._config.clip_norm)
        self.optimizer.step()
        if self.average is not None:
            self.average.update(self._weights)
        return loss.detach()

    def _loss(self, batch: Batch) -> Tensor:
        bias, whole = self.model.repeat_bias, batch.whole
        named = [] if batch.rows is None else [batch.rows]
        # The model may see only the end of a history, but the repeats are those of the whole history, here
        # and in serving/scorer.py.
        history = []
        if bias is not None and whole is not None:
            history = [whole.histories.items, whole.histories.offsets, whole.rows]
        times = [getattr(batch, name) for name in self.model.time_arguments]
        items, offsets, targets, *others = tensors_on(
            self.device, batch.inputs, batch.offsets, batch.targets, *named, *history, *times
        )
        rows = others[0] if named else None
        when = dict(zip(self.model.time_arguments, others[len(others) - len(times) :], strict=True))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._config.precision == "bfloat16"):
            hidden = self.model(items, offsets=offsets, **when)
        if rows is not None:
            hidden = hidden[rows]
        repeats = None
        if bias is not None:
            seen = others[len(named) : len(named) + 3]
            repeats = Repeats(bias, *seen) if history else Repeats(bias, items, offsets, rows)
        # The loss is a small difference of large sums, so it is computed in float32 for every precision.
        return self._objective(hidden.float(), self.model.item_embedding.weight, targets, repeats)


def objective(config: TrainingConfig, train: Packed, num_items: int, device: torch.device = CPU) -> Objective:
    """The loss that `config.loss` names.  Each call draws new negatives from torch's default generator.

    train: the histories that are trained on.  The popularity of items is counted in them.
    device: the device of the arguments of the loss.
    """
    if config.loss == "cross-entropy":
        return partial(linear_cross_entropy, label_smoothing=config.label_smoothing)
    if config.proposal == "uniform":
        proposal = Proposal.uniform(num_items)
    else:
        proposal = Proposal.popularity(torch.from_numpy(train.items), num_items)
    proposal.to(device)  # it was computed on the CPU, to have the same bits for every device
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


def fits_memory(num_items: int, config: TrainingConfig, device: torch.device = CPU) -> bool:
    """Whether the device has enough memory for the weights, their gradients, and the state of the optimizer.

    Call this before the model is made.  A system may promise memory that it does not have, and kill the
    process that uses it.
    """
    try:
        with torch.device("meta"):
            one, two = (build_model(num_items, replace(config.model, num_layers=layers)) for layers in (1, 2))
    except RuntimeError:  # a size beyond 2**63
        return False
    without, with_another = (sum(weights.numel() for weights in model.parameters()) for model in (one, two))
    weights = without + (config.model.num_layers - 1) * (with_another - without)
    copies = 4 + bool(config.ema)  # the weights, their gradients, Adam's two moments, the average
    return 4 * copies * weights <= device_memory(device)


def learning_rate(config: TrainingConfig, before: float, after: float) -> float:
    """The learning rate of a step.

    before, after: the share of the whole run, from 0 to 1, that is done before and after the step.

    The rate rises linearly to ``config.learning_rate`` during the first share ``config.warmup`` of the run.
    Then it is constant, or falls along half a cosine to FINAL_LEARNING_RATE times the highest rate.
    """
    if after < config.warmup:
        return config.learning_rate * after / config.warmup
    if config.schedule == "constant":
        return config.learning_rate
    progress = max(0.0, (before - config.warmup) / (1 - config.warmup))
    falling = (1 + math.cos(math.pi * progress)) / 2
    return config.learning_rate * (FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * falling)


def decayed_and_other(model: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """Two groups of parameters: with weight decay and without.  Only matrices decay, except embeddings.

    With decay, the embedding of a rare item would shrink between two of its gradients.  Norms, biases and
    Lambda are not matrices and do not grow without limit, so they need no decay.
    """
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    decayed = [p for p in model.parameters() if p.dim() >= 2 and id(p) not in embeddings]
    others = [p for p in model.parameters() if p.dim() < 2 or id(p) in embeddings]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


class MovingAverage(AveragedModel):
    """A moving average of the model's weights: ``average += (1 - d) * (weights - average)`` after each step.

    After n steps, d is min(decay, (1 + n) / (10 + n)).  So the first weights soon have little effect.
    """

    def __init__(self, model: NextItemModel, decay: float) -> None:
        super().__init__(model)
        self._decay = decay
        self._averages: list[Tensor] = list(self.module.parameters())

    @torch.no_grad()
    def update(self, weights: list[Tensor]) -> None:
        """Update the average after a step.  weights: those of the model, in the order of its parameters.

        `AveragedModel.update_parameters` would copy the step count to the device of the weights, and wait.
        """
        n = int(self.n_averaged)  # always on the CPU
        # The weights after the first step replace those from before the training.
        share = 1 - min(self._decay, (1 + n) / (10 + n)) if n else 1.0
        lerp_all_(self._averages, weights, share)
        self.n_averaged += 1
