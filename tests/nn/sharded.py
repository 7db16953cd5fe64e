"""A program that trains models sharded by FSDP.  test_sharding.py starts it once for each of two ranks.

    python tests/nn/sharded.py RANK FOLDER

The ranks meet in FOLDER.  It prints a JSON object with what `CASES` returned.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from unittest.mock import patch

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from recblr.config import TrainingConfig
from recblr.config.model import GRU4RecConfig, SASRecConfig
from recblr.data import Batch
from recblr.nn import NextItemModel, RecBLR, RecBLRConfig
from recblr.nn.baselines import GRU4Rec
from recblr.nn.losses import linear_cross_entropy
from recblr.nn.model import build_model
from recblr.training.learner import Learner

RANKS, ITEMS, STEPS, RATE = 2, 31, 4, 0.01
CONFIG = TrainingConfig(model=RecBLRConfig(d_model=8, num_layers=2, dropout=0.0), ema=0.0, clip_norm=0.5)
SASREC = SASRecConfig(d_model=8, num_layers=2, num_heads=2, dropout=0.0, max_length=20)
GRU4REC = GRU4RecConfig(d_model=8, dropout=0.0)


def shard(model: NextItemModel) -> NextItemModel:
    """Shard each layer, and then the rest of the model."""
    if not isinstance(model, GRU4Rec):
        for layer in model.layers if isinstance(model, RecBLR) else model.encoder.blocks:
            fully_shard(layer)
    return fully_shard(model)


def batch(step: int, *ranks: int) -> Batch:
    """The batches of some ranks in a step, as one.  All ranks have as many targets, but other histories."""
    drawn = np.random.default_rng(step).integers(ITEMS, size=(RANKS, 2, 12))
    lengths = np.concatenate([[[5, 7], [2, 1, 9]][rank] for rank in ranks])
    offsets = np.concatenate([[0], lengths.cumsum()])
    return Batch(drawn[[*ranks], 0].reshape(-1), drawn[[*ranks], 1].reshape(-1), offsets)


def loss_of(model: NextItemModel, step: int, *ranks: int) -> Tensor:
    data = batch(step, *ranks)
    items, targets, offsets = map(torch.from_numpy, (data.inputs, data.targets, data.offsets))
    return linear_cross_entropy(model(items, offsets=offsets), model.item_embedding.weight, targets)


def over_ranks(loss: Tensor) -> float:
    """The mean over all ranks."""
    total = loss.detach().clone()
    dist.all_reduce(total)
    return total.item() / RANKS


def own_loop(whole: NextItemModel) -> dict[str, list[float]]:
    """A training loop of one's own: the losses of the whole model, and of the sharded one."""
    sharded = shard(copy.deepcopy(whole))
    losses: dict[str, list[float]] = {"whole": [], "sharded": []}
    for name, model, ranks in (("whole", whole, range(RANKS)), ("sharded", sharded, [dist.get_rank()])):
        optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
        for step in range(STEPS):
            loss = loss_of(model, step, *ranks)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses[name].append(over_ranks(loss))
    return losses


def a_loop_of_ones_own() -> dict[str, list[float]]:
    return own_loop(build_model(ITEMS, CONFIG.model))


def sasrec() -> dict[str, list[float]]:
    return own_loop(build_model(ITEMS, SASREC))


def gru4rec() -> dict[str, list[float]]:
    return own_loop(build_model(ITEMS, GRU4REC))


def the_step_of_recblr_train() -> dict[str, list[float]]:
    """The same with the step that `recblr train` does, which clips gradients too."""
    rank = dist.get_rank()
    whole = Learner(ITEMS, CONFIG, linear_cross_entropy)
    with patch("recblr.training.learner.build_model", lambda *arguments: shard(build_model(*arguments))):
        sharded = Learner(ITEMS, CONFIG, linear_cross_entropy)
    return {
        "whole": [whole.step(batch(step, *range(RANKS)), RATE, step).item() for step in range(STEPS)],
        "sharded": [over_ranks(sharded.step(batch(step, rank), RATE, step)) for step in range(STEPS)],
    }


def weights_are_whole_only_while_a_layer_runs() -> dict[str, list[bool]]:
    """Whether a layer's weights are sharded before, in and after its pass, and another layer's in it."""
    model = shard(build_model(ITEMS, CONFIG.model))
    found: dict[str, list[bool]] = {"before": [], "in": [], "other layer": [], "after": []}
    first, second = (layer.recurrent.output for layer in model.layers)

    def look(*_: object) -> None:
        found["in"].append(isinstance(first.weight, DTensor))
        found["other layer"].append(isinstance(second.weight, DTensor))

    first.register_forward_hook(look)
    items = torch.arange(6).reshape(2, 3)
    for run in (model, model.with_state, lambda items: model.step(items[:, 0])):
        found["before"].append(isinstance(first.weight, DTensor))
        run(items)
        found["after"].append(isinstance(first.weight, DTensor))
    return found


def inference() -> dict[str, bool]:
    """Whether states, steps and scores are those of the whole model."""
    whole = build_model(ITEMS, CONFIG.model).eval()
    sharded = shard(copy.deepcopy(whole))
    register_fsdp_forward_method(sharded, "scores")
    items = torch.arange(12).reshape(2, 6)

    def outputs(model: RecBLR) -> list[Tensor]:
        scored = model.scores(torch.ones(3, 8))  # before any forward pass
        hidden, state = model.with_state(items)
        stepped, state = model.step(items[:, 0], state)
        return [scored, hidden, stepped, model.scores(stepped), *state[1]]

    with torch.no_grad():
        return {"equal": all(map(torch.equal, outputs(whole), outputs(sharded)))}


CASES = (
    a_loop_of_ones_own,
    sasrec,
    gru4rec,
    the_step_of_recblr_train,
    weights_are_whole_only_while_a_layer_runs,
    inference,
)


def main(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    dist.device_mesh.init_device_mesh("cpu", (RANKS,))
    results = {}
    for case in CASES:
        torch.manual_seed(0)
        results[case.__name__] = case()
    print(json.dumps(results))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
    # Gloo's threads outlive destroy_process_group(), and now and then they abort the process while the
    # interpreter ends.  All is computed and printed by then, so the process ends at once.
    sys.stdout.flush()
    os._exit(0)
