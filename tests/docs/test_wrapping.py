"""The examples of docs/wrapping.md."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from training.tiny_runs import one_thread

from recblr.nn import RecBLR, RecBLRConfig, RecBLRLayer
from recblr.nn.losses import linear_cross_entropy

ITEMS = torch.tensor([3, 1, 4, 1, 5, 9, 2])
OFFSETS = torch.tensor([0, 3, 7])
TARGETS = torch.tensor([1, 4, 7, 5, 9, 2, 6])


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    torch.manual_seed(0)
    with one_thread():
        yield


@pytest.fixture
def model() -> Any:
    return RecBLR(11, RecBLRConfig(d_model=8, dropout=0.0))


def gradients(model: nn.Module) -> list[Tensor]:
    linear_cross_entropy(model(ITEMS, offsets=OFFSETS), model.item_embedding.weight, TARGETS).backward()
    return [p.grad.full_tensor() if isinstance(p.grad, DTensor) else p.grad for p in model.parameters()]


def test_hooks(model: Any) -> None:
    items, offsets = ITEMS, OFFSETS
    # [hook]
    seen = {}

    def keep(module, inputs, output):
        seen["output"] = output

    model.layers[0].register_forward_hook(keep)
    hidden = model(items, offsets=offsets)  # seen["output"]: a tensor (N, D)
    hidden, state = model.with_state(items, offsets=offsets)  # seen["output"]: a tuple (tensor, LayerState)
    # [/hook]
    output, layer_state = seen["output"]
    assert output.shape == hidden.shape
    assert layer_state is state[0]
    model(items, offsets=offsets)
    assert isinstance(seen["output"], Tensor)


@pytest.fixture
def _one_rank() -> Iterator[None]:
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    dist.device_mesh.init_device_mesh("cpu", (1,))
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("_one_rank")
def test_sharding(model: Any) -> None:
    items, offsets, targets = ITEMS, OFFSETS, TARGETS
    whole = copy.deepcopy(model)
    # [shard]
    from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

    for layer in model.layers:
        fully_shard(layer)
    fully_shard(model)
    register_fsdp_forward_method(model, "scores")

    optimizer = torch.optim.AdamW(model.parameters())  # after fully_shard, which replaces the parameters
    hidden = model(items, offsets=offsets)
    loss = linear_cross_entropy(hidden, model.item_embedding.weight, targets)
    loss.backward()
    optimizer.step()
    # [/shard]
    assert isinstance(model.layers[0].recurrent.input.weight, DTensor)
    expected = gradients(whole)
    got = [p.grad.full_tensor() for p in model.parameters()]
    torch.testing.assert_close(got, expected)
    assert model.scores(hidden.detach()).shape == (7, 11)


@pytest.mark.usefixtures("_one_rank")
def test_what_the_page_says_about_a_bias_of_repeats(model: Any) -> None:
    from torch.distributed.fsdp import fully_shard

    model.learn_repeat_bias()
    with pytest.raises(ValueError, match="scalar"):
        fully_shard(copy.deepcopy(model))
    fully_shard(model, ignored_params={model.repeat_bias})
    assert not isinstance(model.repeat_bias, DTensor)


def test_checkpoints(model: Any) -> None:
    whole = copy.deepcopy(model)
    # [checkpoint]
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

    apply_activation_checkpointing(model, check_fn=lambda module: isinstance(module, RecBLRLayer))
    # [/checkpoint]
    assert not isinstance(model.layers[0], RecBLRLayer)
    assert all(map(torch.equal, gradients(model), gradients(whole)))
    assert model.state_dict().keys() == whole.state_dict().keys()


def test_low_rank_adapters(model: Any) -> None:
    items, offsets = ITEMS, OFFSETS
    before = model(items, offsets=offsets)

    # [lora]
    class LowRank(nn.Module):
        def __init__(self, base, rank):
            super().__init__()
            self.base = base
            self.a = nn.Linear(base.in_features, rank, bias=False)
            self.b = nn.Linear(rank, base.out_features, bias=False)
            nn.init.zeros_(self.b.weight)

        def forward(self, x):
            return self.base(x) + self.b(self.a(x))

    model.requires_grad_(False)
    linear_layers = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    for name, linear in linear_layers.items():
        model.set_submodule(name, LowRank(linear, rank=2))
    # [/lora]
    assert torch.equal(model(items, offsets=offsets), before)
    trained = [p for p in model.parameters() if p.requires_grad]
    assert len(trained) == 2 * len(linear_layers) == 20
    gradients(model)
    assert all(p.grad is not None for p in trained)
