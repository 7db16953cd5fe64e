"""What others do with modules: hooks, LoRA, parametrizations, checkpoints of activations, compilation."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from recblr.config.model import GRU4RecConfig, ModelConfig, SASRecConfig
from recblr.nn import (
    BDLRU,
    CausalConv1d,
    GatedRecurrentLayer,
    HistoryAverage,
    NextItemModel,
    RecBLR,
    RecBLRConfig,
    RecBLRLayer,
)
from recblr.nn.baselines import SASRecBlock, SASRecEncoder
from recblr.nn.losses import linear_cross_entropy
from recblr.nn.model import build_model
from recblr.nn.time import Fading, GapFunction, TimeEncoder

ITEMS = 13
OFFSETS = torch.tensor([0, 4, 4, 9])
# Models that know no time ignore these.
WHEN = {
    "times": 1.7e9 + torch.tensor([0, 5, 5, 4000, 0, 1, 90, 90, 9e6], dtype=torch.float64),
    "request_times": 1.7e9 + torch.tensor([4060, 0, 1e8], dtype=torch.float64),
}
WITHOUT_GRADIENT = (nn.Embedding, NextItemModel, TimeEncoder, GapFunction, Fading)
CONFIGS: dict[str, ModelConfig] = {
    "recblr": RecBLRConfig(d_model=8, dropout=0.1),
    "released": RecBLRConfig(
        d_model=8, max_length=11, padding_leak=True, beta_epsilon=1e-8, history_average=False
    ),
    "sasrec": SASRecConfig(d_model=8, num_heads=2, max_length=20),
    "gru4rec": GRU4RecConfig(d_model=8),
    "recblr with time": RecBLRConfig(d_model=8, dropout=0.1, time="request"),
    "sasrec with time": SASRecConfig(d_model=8, num_heads=2, max_length=20, time="request"),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def model_of(name: str, **changes: Any) -> Any:
    return build_model(ITEMS, type(CONFIGS[name])(**{**vars(CONFIGS[name]), **changes}))


def packed_items() -> Tensor:
    return torch.randint(ITEMS, (int(OFFSETS[-1]),))


def loss_of(model: NextItemModel, items: Tensor) -> Tensor:
    """A loss as in training, over packed histories."""
    return linear_cross_entropy(
        model(items, offsets=OFFSETS, **WHEN), model.item_embedding.weight, items.roll(-1)
    )


def gradients(module: nn.Module) -> dict[str, Tensor]:
    return {n: p.grad.clone() for n, p in module.named_parameters() if p.grad is not None}


# Hooks


def modules_of(module: nn.Module) -> dict[str, nn.Module]:
    """The module and all below it, by name, except lists, which are never called."""
    return {name: m for name, m in module.named_modules() if not isinstance(m, nn.ModuleList)}


def each_once(module: nn.Module, passes: dict[str, Callable[[], object]]) -> None:
    """Every pass calls the module, and every module below it, exactly once."""
    calls: Counter[str] = Counter()
    modules = modules_of(module)
    for name, m in modules.items():
        m.register_forward_pre_hook(lambda *_, name=name: calls.update([f"before {name}"]))
        m.register_forward_hook(lambda *_, name=name: calls.update([f"after {name}"]))
    expected = Counter(f"{when} {name}" for name in modules for when in ("before", "after"))
    for training in (True, False):
        module.train(training)
        for name, run in passes.items():
            calls.clear()
            run()
            assert calls == expected, name


@pytest.mark.parametrize("name", ["recblr", "released"])
def test_each_pass_of_the_model_calls_every_module_once(name: str) -> None:
    model = model_of(name)
    padded, packed = torch.randint(ITEMS, (2, 5)), packed_items()
    _, state = model.with_state(padded)
    passes: dict[str, Callable[[], object]] = {
        "forward": lambda: model(padded),
        "lengths": lambda: model(padded, lengths=torch.tensor([5, 2])),
        "packed": lambda: model(packed, offsets=OFFSETS),
        "forward from a state": lambda: model(padded, state=state),
        "with_state": lambda: model.with_state(padded),
        "with_state, lengths": lambda: model.with_state(padded, lengths=torch.tensor([5, 2])),
        "with_state, packed": lambda: model.with_state(packed, offsets=OFFSETS),
        "first step": lambda: model.step(padded[:, 0]),
        "later step": lambda: model.step(padded[:, 0], state),
    }
    each_once(model, passes)


@pytest.mark.parametrize("name", CONFIGS)
def test_each_pass_over_packed_histories_calls_every_module_once(name: str) -> None:
    model, items = model_of(name), packed_items()
    each_once(model, {"packed": lambda: model(items, offsets=OFFSETS, **WHEN)})


def test_each_pass_of_the_encoder_of_sasrec_calls_every_module_once() -> None:
    encoder = SASRecEncoder(SASRecConfig(d_model=8, num_heads=2, max_length=20))
    each_once(encoder, {"padded": lambda: encoder(torch.randn(2, 5, 8))})


@pytest.mark.parametrize(
    "layer",
    [
        RecBLRLayer(8, history_average=True),
        RecBLRLayer(8, padding_steps=3),
        GatedRecurrentLayer(8, history_average=True),
        GatedRecurrentLayer(8, padding_steps=3, beta_epsilon=1e-8),
        BDLRU(8),
        CausalConv1d(8),
        HistoryAverage(8),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_each_pass_of_a_layer_calls_every_module_once(layer: Any) -> None:
    x = torch.randn(2, 5, 8)
    _, state = layer.step(x[:, 0])
    passes: dict[str, Callable[[], object]] = {
        "forward": lambda: layer(x),
        "packed": lambda: layer(x.flatten(0, 1), offsets=torch.tensor([0, 3, 3, 10])),
        "first step": lambda: layer.step(x[:, 0]),
        "later step": lambda: layer.step(x[:, 0], state),
    }
    if isinstance(layer, RecBLRLayer):
        passes["lengths"] = lambda: layer(x, lengths=torch.tensor([0, 4]))
        passes["with_state"] = lambda: layer.with_state(x)
        passes["with_state, lengths"] = lambda: layer.with_state(x, lengths=torch.tensor([0, 4]))
    each_once(layer, passes)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_backward_pass_reaches_the_hooks_of_every_module_once(name: str) -> None:
    model, calls = model_of(name), Counter[str]()
    # A module whose inputs are items or gaps has no gradient of its inputs.  torch warns about that.
    modules = {n: m for n, m in modules_of(model).items() if not isinstance(m, WITHOUT_GRADIENT)}
    for module_name, module in modules.items():
        module.register_full_backward_hook(lambda *_, name=module_name: calls.update([name]))
    loss_of(model, packed_items()).backward()
    assert calls == Counter(modules.keys())


def test_without_a_state_a_layer_of_the_model_returns_one_tensor() -> None:
    """So hooks that read or change what a layer returns need not know about states."""
    model, items = model_of("recblr").eval(), torch.randint(ITEMS, (2, 5))
    assert not torch.equal(*model(items))
    model.layers[0].register_forward_hook(lambda module, given, output: output * 0)
    assert torch.equal(*model(items))


def test_the_state_comes_with_the_output_if_asked_for() -> None:
    model, items = model_of("recblr").eval(), torch.randint(ITEMS, (2, 5))
    hidden, state = model(items, return_state=True)
    assert torch.equal(hidden, model(items))
    expected, expected_state = model.with_state(items)
    assert torch.equal(hidden, expected)
    for part, expected_part in zip(state, expected_state, strict=True):
        assert all(map(torch.equal, part, expected_part))


def test_the_unit_takes_what_comes_before_all_sequences() -> None:
    unit = BDLRU(4)
    before, x = torch.randn(3, 4), torch.randn(2, 5, 4)
    y, final = unit(x, before=before)
    whole, whole_final = unit(torch.cat([before.expand(2, -1, -1), x], 1))
    torch.testing.assert_close(y, whole[:, 3:])
    torch.testing.assert_close(final, whole_final)
    packed, packed_final = unit(x.flatten(0, 1), offsets=torch.tensor([0, 5, 10]), before=before)
    torch.testing.assert_close(packed, y.flatten(0, 1))
    torch.testing.assert_close(packed_final, final)
    with pytest.raises(ValueError, match="give one of them"):
        unit(x, initial=final, before=before)
    with pytest.raises(ValueError, match="before must have a last axis of 4"):
        unit(x, before=torch.zeros(3, 5))


# LoRA and parametrizations


class LowRank(nn.Module):
    """What peft puts in the place of a linear layer: ``base(x) + B A x``, with the base frozen."""

    def __init__(self, base: nn.Linear, rank: int = 2) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.a = nn.Linear(base.in_features, rank, bias=False)
        self.b = nn.Linear(rank, base.out_features, bias=False)
        nn.init.zeros_(self.b.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.b(self.a(x))


def linear_layers(model: nn.Module) -> dict[str, nn.Linear]:
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear)}


def with_low_rank(model: NextItemModel) -> dict[str, LowRank]:
    """Freeze the model, and wrap each linear layer."""
    model.requires_grad_(False)
    wrapped = {}
    for name, linear in linear_layers(model).items():
        parent, _, last = name.rpartition(".")
        wrapped[name] = LowRank(linear)
        setattr(model.get_submodule(parent), last, wrapped[name])
    return wrapped


LINEAR_LAYERS = {
    "recblr": 10,
    "released": 10,
    "sasrec": 8,
    "gru4rec": 1,
    "recblr with time": 12,
    "sasrec with time": 10,
}


@pytest.mark.parametrize("name", CONFIGS)
def test_low_rank_adapters_of_every_linear_layer_train_and_merge(name: str) -> None:
    model, items = model_of(name, dropout=0.0), packed_items()
    plain = copy.deepcopy(model).eval()
    before = model(items, offsets=OFFSETS, **WHEN)
    wrapped = with_low_rank(model)
    assert len(wrapped) == LINEAR_LAYERS[name]
    torch.testing.assert_close(model(items, offsets=OFFSETS, **WHEN), before)
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.05)
    losses = []
    for _ in range(6):
        loss = loss_of(model, items)
        optimizer.zero_grad()
        loss.backward()
        losses.append(loss.item())
        for module in wrapped.values():
            assert module.base.weight.grad is None
        optimizer.step()
    for module in wrapped.values():  # some weights are zero before the first step
        assert module.a.weight.grad.any()
        assert module.b.weight.grad.any()
    assert losses[-1] < losses[0]
    with torch.no_grad():
        for linear_name, module in wrapped.items():
            plain.get_submodule(linear_name).weight += module.b.weight @ module.a.weight
    adapted = model.eval()(items, offsets=OFFSETS, **WHEN)
    torch.testing.assert_close(plain(items, offsets=OFFSETS, **WHEN), adapted, rtol=1e-4, atol=1e-5)
    assert (adapted - before).abs().max() > 0.01
    if isinstance(model, RecBLR) and model.time is None:
        stepped, expected = (
            m.step(items[:2], m.with_state(items.view(3, 3)[:2])[1])[0] for m in (model, plain)
        )
        torch.testing.assert_close(stepped, expected, rtol=1e-4, atol=1e-5)


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


@pytest.mark.parametrize("name", CONFIGS)
def test_a_parametrization_of_every_linear_layer_acts(name: str) -> None:
    model, items = model_of(name, dropout=0.0), packed_items()
    expected = copy.deepcopy(model)
    with torch.no_grad():
        for linear in linear_layers(expected).values():
            linear.weight *= 2
    for linear in linear_layers(model).values():
        parametrize.register_parametrization(linear, "weight", Doubled())
    loss, expected_loss = loss_of(model, items), loss_of(expected, items)
    torch.testing.assert_close(loss, expected_loss)
    for module in (loss, expected_loss):
        module.backward()
    for name_, linear in linear_layers(expected).items():
        original = model.get_submodule(name_).parametrizations.weight.original
        torch.testing.assert_close(original.grad, 2 * linear.weight.grad)


# Activation checkpoints


def saved_bytes(run: Callable[[], Tensor]) -> tuple[Tensor, int]:
    """What `run` returns, and the bytes of all that it saves for the backward pass, without parameters."""
    storages: dict[int, int] = {}

    def save(x: Tensor) -> Tensor:
        if not isinstance(x, nn.Parameter):
            storages[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(save, lambda x: x):
        result = run()
    return result, sum(storages.values())


def checkpoint_in_place(model: Any) -> None:
    """Checkpoint each layer with torch.utils.checkpoint, by replacing its forward."""
    for layer in model.layers:
        forward = layer.forward
        layer.forward = lambda *given, forward=forward, **named: checkpoint(
            forward, *given, use_reentrant=False, **named
        )


def checkpoint_by_wrapper(model: nn.Module) -> None:
    apply_activation_checkpointing(model, check_fn=lambda m: isinstance(m, RecBLRLayer | SASRecBlock))


@pytest.mark.parametrize("dropout", [0.0, 0.5])
@pytest.mark.parametrize(
    ("name", "wrap"),
    [
        ("recblr", checkpoint_in_place),
        ("recblr", checkpoint_by_wrapper),
        ("released", checkpoint_by_wrapper),
        ("sasrec", checkpoint_by_wrapper),
    ],
)
def test_checkpoints_of_activations_by_layer_save_memory(name: str, wrap: Any, dropout: float) -> None:
    """The gradients stay equal to the bit.  So dropout draws the same mask when a layer runs again."""
    plain = model_of(name, dropout=dropout, num_layers=4)
    wrapped, items = copy.deepcopy(plain), packed_items()
    wrap(wrapped)
    saved, grads = [], []
    for model in (plain, wrapped):
        torch.manual_seed(7)
        loss, size = saved_bytes(lambda model=model: loss_of(model, items))
        loss.backward()
        saved.append(size)
        grads.append([p.grad for p in model.parameters()])
    assert saved[1] < saved[0] / 3
    assert all(map(torch.equal, *grads))
    assert wrapped.state_dict().keys() == plain.state_dict().keys()


def test_checkpoints_by_layer_work_with_states_too() -> None:
    plain = model_of("recblr", dropout=0.0)
    wrapped, items = copy.deepcopy(plain), torch.randint(ITEMS, (2, 6))
    checkpoint_by_wrapper(wrapped)
    for model in (plain, wrapped):
        _, state = model.with_state(items[:, :3])
        hidden, state = model.with_state(items[:, 3:5], state=state)
        stepped, _ = model.step(items[:, 5], state)
        (hidden.square() * torch.linspace(0, 1, 8)).sum().add(stepped[:, 0].sum()).backward()
    for name, gradient in gradients(plain).items():
        assert torch.equal(gradient, wrapped.get_parameter(name).grad), name


# Compilation


@pytest.fixture
def _no_compiled_code() -> Iterator[None]:
    """torch compiles a function a few times only.  Its code is shared by all tests of a process."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


class Counting:
    """A backend of torch.compile that runs a graph as it is, and counts the runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, graph: torch.fx.GraphModule, _: object) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            self.runs += 1
            return graph(*given)

        return run


@pytest.mark.usefixtures("_no_compiled_code")
@pytest.mark.parametrize("by_layer", [True, False])
def test_every_pass_uses_what_was_compiled_in_place(by_layer: bool) -> None:
    model = model_of("recblr", num_layers=2 if by_layer else 1).eval()
    plain, backend = copy.deepcopy(model), Counting()
    compiled = model.layers if by_layer else [model]
    for module in compiled:
        module.compile(backend=backend, fullgraph=True)
    items = torch.randint(ITEMS, (2, 5))
    _, state = plain.with_state(items)
    passes: list[Callable[[Any], Tensor]] = [
        lambda m: m(items),
        lambda m: m.with_state(items)[0],
        lambda m: m.step(items[:, 0], state)[0],
    ]
    with torch.no_grad():
        for run in passes:
            backend.runs = 0
            torch.testing.assert_close(run(model), run(plain))
            assert backend.runs == len(compiled)


def test_the_states_and_steps_of_a_compiled_copy_are_not_compiled() -> None:
    """So docs/wrapping.md advises to compile in place."""
    backend = Counting()
    compiled = torch.compile(model_of("recblr"), backend=backend)
    _, state = compiled.with_state(torch.randint(ITEMS, (2, 5)))
    compiled.step(torch.tensor([1, 2]), state)
    assert backend.runs == 0


@pytest.mark.usefixtures("_no_compiled_code")
def test_compiled_layers_train() -> None:
    model = model_of("recblr", dropout=0.0)
    plain, items = copy.deepcopy(model), packed_items()
    for layer in model.layers:
        layer.compile(backend="aot_eager", fullgraph=True)
    counters.clear()
    for m in (model, plain):
        loss_of(m, items).backward()
    assert counters["stats"]["unique_graphs"] == 1  # both layers share it
    for name, gradient in gradients(plain).items():
        torch.testing.assert_close(model.get_parameter(name).grad, gradient, rtol=1e-4, atol=1e-6)
