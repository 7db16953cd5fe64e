"""Lambda, the decay of the average, and all states stay float32 in a module of bfloat16 or float16."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune

from recblr.nn import BDLRU, CausalConv1d, HistoryAverage, LayerState, RecBLR, RecBLRConfig, RecBLRLayer

HALF = [torch.bfloat16, torch.float16]
EXACT = ("Lambda", "decay")  # the names of the parameters that stay float32


def exact_ones(module: nn.Module) -> dict[str, Tensor]:
    """Copies of the parameters that stay float32."""
    named = module.named_parameters()
    return {name: value.detach().clone() for name, value in named if name.endswith(EXACT)}


def dtypes(module: nn.Module) -> dict[bool, set[torch.dtype]]:
    """{whether a parameter is one that stays float32: the dtypes of these parameters}."""
    found: dict[bool, set[torch.dtype]] = {True: set(), False: set()}
    for name, value in module.named_parameters():
        found[name.endswith(EXACT)].add(value.dtype)
    return found


def assert_kept(module: nn.Module, dtype: torch.dtype, exact: dict[str, Tensor]) -> None:
    assert dtypes(module) == {True: {torch.float32}, False: {dtype}}
    found = exact_ones(module)
    assert found.keys() == exact.keys()
    for name, value in exact.items():
        assert torch.equal(found[name].cpu(), value), name


def assert_runs_with_float32_states(model: RecBLR, dtype: torch.dtype) -> None:
    items = torch.randint(7, (2, 5))
    hidden, state = model.with_state(items)
    _, packed = model.with_state(items.flatten(), offsets=torch.tensor([0, 3, 10]))
    _, padded = model.with_state(items, lengths=torch.tensor([2, 0]))
    stepped, after = model.step(items[:, 0], state)
    assert (hidden.dtype, stepped.dtype) == (dtype, dtype)
    assert torch.isfinite(hidden).all()
    for states in (state, packed, padded, after):
        for layer in states:
            assert [part.dtype for part in layer] == [torch.float32] * len(LayerState._fields)


def rounded(dtype: torch.dtype) -> Callable[[RecBLR], RecBLR]:
    """Load a state dict of 16-bit tensors; the model takes over the tensors themselves."""

    def load(model: RecBLR) -> RecBLR:
        # These values of Lambda are exact in 16 bits, so a rounding that was made before loading cannot show.
        weights = {name: value.to(dtype) for name, value in model.state_dict().items()}
        model.load_state_dict(weights, assign=True)
        return model

    return load


def from_meta(model: RecBLR, dtype: torch.dtype) -> RecBLR:
    with torch.device("meta"):
        empty = RecBLR(model.num_items, model.config).to(dtype)
    empty.to_empty(device="cpu").load_state_dict(model.to(dtype).state_dict())
    return empty


def assigned_to_meta(model: RecBLR, dtype: torch.dtype) -> RecBLR:
    with torch.device("meta"):
        empty = RecBLR(model.num_items, model.config)
    empty.load_state_dict({name: value.to(dtype) for name, value in model.state_dict().items()}, assign=True)
    return empty


def with_gradients(model: RecBLR, dtype: torch.dtype) -> RecBLR:
    model(torch.randint(7, (2, 5))).square().sum().backward()
    model.to(dtype)
    for name, value in model.named_parameters():
        assert value.grad is None or value.grad.dtype == value.dtype, name
    return model


WAYS: dict[str, Callable[[RecBLR, torch.dtype], RecBLR]] = {
    "to": lambda model, dtype: model.to(dtype),
    "its name": lambda model, dtype: model.half() if dtype == torch.float16 else model.bfloat16(),
    "type": lambda model, dtype: model.type(dtype),
    "device and dtype": lambda model, dtype: model.to("cpu", dtype, non_blocking=True),
    "twice": lambda model, dtype: model.half().to(dtype),
    "a deep copy": lambda model, dtype: copy.deepcopy(copy.deepcopy(model).to(dtype)),
    "a pickle": lambda model, dtype: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(model)).to(dtype))),
    "after gradients": with_gradients,
    "assigned": lambda model, dtype: rounded(dtype)(model),
    "assigned to a copy": lambda model, dtype: rounded(dtype)(copy.deepcopy(model)),
    "meta, to_empty, load": from_meta,
    "meta, assign": assigned_to_meta,
}


def model() -> RecBLR:
    torch.manual_seed(0)
    ours = RecBLR(7, RecBLRConfig(d_model=8, num_layers=2))
    with torch.no_grad():
        for name, value in ours.named_parameters():
            if name.endswith(EXACT):  # exact in both 16-bit types
                value.copy_(value.bfloat16().half().bfloat16())
    return ours


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_they_stay_float32_in_every_way_to_16_bits(
    way: Callable[[RecBLR, torch.dtype], RecBLR], dtype: torch.dtype
) -> None:
    ours = model()
    exact = exact_ones(ours)
    found = way(ours, dtype).eval()
    assert_kept(found, dtype, exact)
    assert_runs_with_float32_states(found, dtype)


@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_a_cast_rounds_no_digit_of_them(dtype: torch.dtype) -> None:
    layer = RecBLRLayer(64)
    with torch.no_grad():
        layer.recurrent.average.decay.normal_()  # type: ignore[union-attr]
    exact = exact_ones(layer)
    assert not torch.equal(exact["recurrent.bdlru.Lambda"].to(dtype).float(), exact["recurrent.bdlru.Lambda"])
    assert_kept(layer.to(dtype), dtype, exact)


def test_a_cast_moves_them_to_the_other_device() -> None:
    layer = RecBLRLayer(8).to("meta", torch.bfloat16)
    assert dtypes(layer) == {True: {torch.float32}, False: {torch.bfloat16}}
    assert {value.device.type for value in layer.parameters()} == {"meta"}
    layer.to_empty(device="cpu")
    assert dtypes(layer) == {True: {torch.float32}, False: {torch.bfloat16}}


def test_float64_goes_to_float32_in_a_cast_to_16_bits_and_stays_in_others() -> None:
    layer = RecBLRLayer(8).double()
    assert dtypes(layer) == {True: {torch.float64}, False: {torch.float64}}
    assert dtypes(layer.bfloat16()) == {True: {torch.float32}, False: {torch.bfloat16}}
    assert dtypes(layer.float()) == {True: {torch.float32}, False: {torch.float32}}


@pytest.mark.parametrize("dtype", HALF, ids=str)
@pytest.mark.parametrize("config", [RecBLRConfig(d_model=64), RecBLRConfig.released(5, d_model=64)])
def test_a_model_that_is_made_under_a_16_bit_default(dtype: torch.dtype, config: RecBLRConfig) -> None:
    torch.set_default_dtype(dtype)
    try:
        ours = RecBLR(7, config).eval()
    finally:
        torch.set_default_dtype(torch.float32)
    layer = ours.layers[0]
    if layer.recurrent.average is not None:
        assert dtypes(ours) == {True: {torch.float32}, False: {dtype}}
    alpha = torch.exp(-F.softplus(layer.recurrent.bdlru.Lambda.double()))
    assert alpha.min() > 0.9 - 1e-6
    assert 0.99 < alpha.max() < 0.999 + 1e-6  # in bfloat16, it would be 1
    assert len(alpha.unique()) == len(alpha)
    assert_runs_with_float32_states(ours, dtype)


@pytest.mark.parametrize(
    "unit", [BDLRU(4), CausalConv1d(4), HistoryAverage(4)], ids=lambda u: type(u).__name__
)
@pytest.mark.parametrize("dtype", HALF, ids=str)
def test_the_state_of_a_unit_under_a_16_bit_default(unit: Any, dtype: torch.dtype) -> None:
    torch.set_default_dtype(dtype)
    try:
        made = type(unit)(4)
        y, state = made(torch.randn(2, 3, 4))
        y_t, after = made.step(torch.randn(2, 4), state)
    finally:
        torch.set_default_dtype(torch.float32)
    assert (y.dtype, y_t.dtype) == (dtype, dtype)
    assert (state.dtype, after.dtype) == (torch.float32, torch.float32)


def test_a_16_bit_state_dict_is_copied_into_float32_too() -> None:
    ours = model()
    ours.load_state_dict({name: value.bfloat16() for name, value in ours.state_dict().items()})
    assert dtypes(ours) == {True: {torch.float32}, False: {torch.float32}}


def test_a_float64_state_dict_can_be_assigned() -> None:
    ours = model()
    ours.load_state_dict({name: value.double() for name, value in ours.state_dict().items()}, assign=True)
    assert dtypes(ours) == {True: {torch.float64}, False: {torch.float64}}


class Shifted(nn.Module):
    """A parametrization with a parameter of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.tensor(0.125))

    def forward(self, value: Tensor) -> Tensor:
        return value + self.shift


@pytest.mark.parametrize("unit", [BDLRU, HistoryAverage])
def test_a_parametrized_one_stays_float32(unit: type[BDLRU | HistoryAverage]) -> None:
    layer = unit(4)
    assert layer.exact is not None
    before = getattr(layer, layer.exact).detach() + 0.125
    parametrize.register_parametrization(layer, layer.exact, Shifted())
    layer.bfloat16()
    assert torch.equal(getattr(layer, layer.exact), before)
    weights = {name: value.bfloat16() for name, value in layer.state_dict().items()}
    layer.load_state_dict(weights, assign=True)
    assert getattr(layer, layer.exact).dtype == torch.float32
    y, state = copy.deepcopy(layer)(torch.randn(2, 3, 4, dtype=torch.bfloat16))
    assert (y.dtype, state.dtype) == (torch.bfloat16, torch.float32)
    parametrize.remove_parametrizations(layer, layer.exact)
    assert getattr(layer.bfloat16(), layer.exact).dtype == torch.float32


@pytest.mark.parametrize("unit", [BDLRU, HistoryAverage])
def test_a_pruned_one_stays_float32(unit: type[BDLRU | HistoryAverage]) -> None:
    layer = unit(4)
    assert layer.exact is not None
    prune.l1_unstructured(layer, layer.exact, amount=1)
    whole = getattr(layer, f"{layer.exact}_orig").detach().clone()
    layer.bfloat16()
    weights = {name: value.to(torch.bfloat16) for name, value in layer.state_dict().items()}
    assert torch.equal(getattr(layer, f"{layer.exact}_orig"), whole)
    layer.load_state_dict(weights, assign=True)
    assert getattr(layer, f"{layer.exact}_orig").dtype == torch.float32
    _, state = layer(torch.randn(2, 3, 4, dtype=torch.bfloat16))
    assert state.dtype == torch.float32
    prune.remove(layer, layer.exact)
    assert_kept(layer.bfloat16(), torch.bfloat16, exact_ones(layer))


@pytest.mark.parametrize("buffer", [True, False], ids=["a buffer", "a plain attribute"])
def test_one_that_is_no_parameter_any_more_hinders_neither_a_cast_nor_a_load(buffer: bool) -> None:
    """FSDP makes parameters plain attributes, and frozen parameters may become buffers."""
    layer = BDLRU(4)
    value = layer.Lambda.detach()
    del layer.Lambda
    if buffer:
        layer.register_buffer("Lambda", value.clone())
    else:
        layer.Lambda = value.clone()  # type: ignore[assignment]
    layer.bfloat16().load_state_dict(layer.state_dict())
    assert torch.equal(layer.Lambda, value)
    assert layer.gates.weight.dtype == torch.bfloat16


def test_small_steps_of_training_are_not_lost_in_a_16_bit_model() -> None:
    layer = RecBLRLayer(8).bfloat16()
    exact = exact_ones(layer)
    optimizer = torch.optim.SGD(layer.parameters(), lr=1e-3)
    layer(torch.randn(4, 9, 8, dtype=torch.bfloat16)).float().pow(3).sum().backward()
    optimizer.step()
    for name, value in exact_ones(layer).items():
        assert (value != exact[name]).all(), name
