"""On a GPU, all tensors of a step are on the GPU.  These tests need no GPU: they use torch's meta device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from evaluation.histories import pack
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from training.tiny_runs import tiny_config, tiny_dataset

from recblr.data import Batch, leave_one_out
from recblr.data.batches import Whole
from recblr.nn import RecBLR
from recblr.serving.scorer import model_scorer
from recblr.training import TrainingConfig, learner
from recblr.training.learner import Learner, objective

META = torch.device("meta")
HISTORIES = Batch(np.array([1, 2, 3, 5, 7]), np.array([2, 3, 4, 7, 9]), np.array([0, 3, 5]))
PREFIXES = Batch(np.array([1, 1, 2]), np.array([2, 3]), np.array([0, 1, 3]), np.array([0, 2]))
CUT = replace(PREFIXES, whole=Whole(pack([[1], [5, 1, 2]]), np.array([0, 3])))
COPIES = {torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default}


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of several devices.  With meta tensors, torch allows some of them."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        met = {x.device.type for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.dim()}
        assert len(met) < 2 or func in COPIES, f"{func} has tensors on {sorted(met)}"
        return func(*args, **(kwargs or {}))


def test_the_guard_refuses_a_mixture() -> None:
    with OneDevice(), pytest.raises(AssertionError, match=r"on \['cpu', 'meta'\]"):
        torch.ones(3, device=META)[torch.tensor([0])]


@pytest.mark.parametrize(
    "config",
    [
        tiny_config(),
        tiny_config(precision="bfloat16"),
        tiny_config(loss="bpr"),
        tiny_config(loss="gbce"),
        tiny_config(loss="sampled-softmax"),
    ],
    ids=lambda config: f"{config.loss} {config.precision}",
)
@pytest.mark.parametrize("batch", [HISTORIES, PREFIXES, CUT], ids=["histories", "prefixes", "cut"])
@pytest.mark.parametrize("bias", [None, -1.0], ids=["plain", "with a bias"])
def test_a_loss_and_its_gradients_stay_on_one_device(
    monkeypatch: pytest.MonkeyPatch, config: TrainingConfig, batch: Batch, bias: float | None
) -> None:
    monkeypatch.setattr(learner, "generators", lambda _: [torch.default_generator])
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # meta has no autocast
    dataset = tiny_dataset()
    items = dataset.num_items
    ours = Learner(items, config, objective(config, leave_one_out(dataset).train, items, META), META, bias)
    with OneDevice():
        ours._loss(batch).backward()
    for parameter in ours.model.parameters():
        assert parameter.grad is not None
        assert parameter.grad.device == META


def test_a_scorer_stays_on_one_device() -> None:
    model = RecBLR(9, tiny_config().model).to(META).eval()
    with OneDevice():
        scores = model_scorer(model)(pack([[1, 2], [], [3]]))
    assert scores.shape == (3, 9)
    assert scores.device == META
