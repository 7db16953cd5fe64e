"""Padded batches: padding reaches no result, in the way that packs and in the way that graphs take."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch._dynamo.testing
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from recblr.nn import LayerState, RecBLR, RecBLRConfig, RecBLRLayer, padding

WIDTH, ITEMS = 6, 9
GARBAGE = [0.0, 1e30, float("inf"), float("nan")]


def close(actual: Any, expected: Any) -> None:
    # A gradient of a model is a sum over up to 35 events, in another order on each way.
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=5e-5)


@contextmanager
def way(name: str) -> Iterator[None]:
    """Take this way in eager mode on the CPU too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(padding, "at_hand", lambda lengths: name == "packed")
        yield


WAYS = ["packed", "padded"]


def large(module: nn.Module) -> nn.Module:
    """Weights that are larger than at the start of training, so that every path matters."""
    with torch.no_grad():
        for name, value in module.named_parameters():
            if value.dim() > 1 and "conv" not in name:
                value.normal_(std=0.4)
    return module


def layer(**options: Any) -> RecBLRLayer:
    torch.manual_seed(0)
    made = large(RecBLRLayer(WIDTH, **options)).eval()
    assert isinstance(made, RecBLRLayer)
    return made


def model() -> RecBLR:
    torch.manual_seed(0)
    made = large(RecBLR(ITEMS, RecBLRConfig(d_model=8))).eval()
    assert isinstance(made, RecBLR)
    return made


def mask(lengths: Tensor, time: int) -> Tensor:
    """The positions that are padding."""
    return torch.arange(time) >= lengths.unsqueeze(1)


def state_of(state: Any, b: int) -> Any:
    return None if state is None else type(state)(*(part[b : b + 1] for part in state))


OPTIONS: list[dict[str, Any]] = [
    {},
    {"history_average": False},
    {"padding_steps": 3, "beta_epsilon": 1e-8, "lambda_init": "linspace"},
    {"d_conv": 1},
]


@pytest.mark.parametrize("name", WAYS)
@settings(max_examples=40)
@given(st.data())
def test_padding_reaches_no_output_state_or_gradient(name: str, data: st.DataObject) -> None:
    made = layer(**data.draw(st.sampled_from(OPTIONS), label="options")).double()
    time = data.draw(st.integers(0, 9), label="time")
    lengths = torch.tensor(data.draw(st.lists(st.integers(0, time), max_size=5), label="lengths"))
    lengths = lengths.to(data.draw(st.sampled_from([torch.int64, torch.int32, torch.uint8]), label="dtype"))
    batch = len(lengths)
    x = torch.randn(batch, time, WIDTH, dtype=torch.float64)
    state = made.with_state(torch.randn(batch, 4, WIDTH).double())[1] if data.draw(st.booleans()) else None
    state = None if state is None else LayerState(*(part.detach().requires_grad_() for part in state))
    weights = torch.randn_like(x)

    def results(x: Tensor, weights: Tensor) -> list[Tensor]:
        x = x.clone().requires_grad_()
        y, end = made.with_state(x, lengths=lengths, state=state)
        inputs = [x, *(made.parameters()), *(state or ())]
        total = (y * weights).sum() + sum(part.pow(2).sum() for part in end)
        found = torch.autograd.grad(total, inputs, allow_unused=True)
        gradients = [torch.zeros_like(i) if g is None else g for i, g in zip(inputs, found, strict=True)]
        return [y, *end, *gradients]

    with way(name):
        clean = results(x, weights)
        y, *end = clean[: 1 + len(LayerState._fields)]
        dx = clean[1 + len(LayerState._fields)]
        hidden = mask(lengths, time)
        assert not y[hidden].any()
        assert not dx[hidden].any()
        for b in range(batch):
            alone, alone_end = made.with_state(x[b : b + 1, : lengths[b]], state=state_of(state, b))
            torch.testing.assert_close(y[b, : lengths[b]], alone[0], rtol=1e-10, atol=1e-10)
            for part, alone_part in zip(end, alone_end, strict=True):
                torch.testing.assert_close(part[b : b + 1], alone_part, rtol=1e-10, atol=1e-10)
        # What the padding holds changes no bit, in x and in the gradient of the output.
        garbage = data.draw(st.sampled_from(GARBAGE), label="garbage")
        dirty = results(*(value.masked_fill(hidden.unsqueeze(2), garbage) for value in (x, weights)))
    for found, expected in zip(dirty, clean, strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", WAYS)
def test_no_gradient_becomes_nan_in_a_short_dtype(name: str, dtype: torch.dtype) -> None:
    """A layer norm of equal numbers would divide by almost zero, and its gradient would be NaN."""
    torch.manual_seed(0)
    made = RecBLRLayer(WIDTH).to(dtype)
    x = torch.randn(3, 7, WIDTH).to(dtype).requires_grad_()
    with way(name):
        y, state = made.with_state(x, lengths=torch.tensor([3, 0, 7]))
        (y.float().square().sum() + state.hidden.sum()).backward()
    assert x.grad is not None
    assert not x.grad[mask(torch.tensor([3, 0, 7]), 7)].any()
    for parameter in made.parameters():
        assert parameter.grad is not None
        assert torch.isfinite(parameter.grad).all()


@settings(max_examples=25)
@given(
    st.lists(st.integers(0, 7), min_size=1, max_size=5), st.booleans(), st.sampled_from([-1, ITEMS, 2**40])
)
def test_both_ways_of_a_model_give_the_same_whatever_item_the_padding_is(
    lengths: list[int], with_state: bool, garbage: int
) -> None:
    made, sizes = model(), torch.tensor(lengths)
    items = torch.randint(ITEMS, (len(lengths), 7)).masked_fill(mask(sizes, 7), garbage)
    with torch.no_grad():
        state = made.with_state(torch.randint(ITEMS, (len(lengths), 3)))[1] if with_state else None
    results = []
    for name in WAYS:
        made.zero_grad()
        with way(name):
            hidden, end = made.with_state(items, lengths=sizes, state=state)
        hidden.pow(3).sum().backward()
        assert not hidden[mask(sizes, 7)].any()
        results.append((hidden, end, [value.grad for value in made.parameters()]))
    close(results[0], results[1])


class CountsOperators(TorchDispatchMode):
    """Records the names of all operators."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name().partition(".")[0])
        return func(*args, **kwargs or {})


def test_no_operator_waits_for_values() -> None:
    """These operators have shapes that depend on values, or read them; on a GPU, the host would wait."""
    x, lengths = torch.randn(3, 7, WIDTH, requires_grad=True), torch.tensor([3, 0, 7])
    waiting = {f"aten::{name}" for name in ("nonzero", "_local_scalar_dense", "masked_select", "index")}
    for name, waits in (("padded", False), ("packed", True)):
        with way(name), CountsOperators() as seen:
            y, state = layer().with_state(x, lengths=lengths)
            (y.sum() + state.hidden.sum()).backward()
        assert bool(seen.names & waiting) == waits, seen.names & waiting
        assert "recblr::_bdlru" in seen.names


def batches(made: nn.Module, sizes: list[tuple[int, int]]) -> Iterator[tuple[Tensor, Tensor]]:
    for batch, time in sizes:
        lengths = torch.randint(0, time + 1, (batch,))
        if isinstance(made, RecBLR):
            yield torch.randint(ITEMS, (batch, time)), lengths
        else:
            yield torch.randn(batch, time, WIDTH), lengths


MODULES = {"layer": layer, "model": model}


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
@pytest.mark.parametrize("marked", [False, True], ids=["dynamic", "mark_dynamic"])
def test_one_graph_serves_every_shape_and_all_lengths(make: Any, marked: bool) -> None:
    made = make()
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(made, fullgraph=True, dynamic=None if marked else True, backend=counter)
    graphs = set()
    for x, lengths in batches(made, [(5, 9), (3, 20), (8, 11)]):
        if marked:
            for tensor, axis in ((x, 0), (x, 1), (lengths, 0)):
                torch._dynamo.mark_dynamic(tensor, axis)
        close(compiled(x, lengths=lengths), made(x, lengths=lengths))
        graphs.add(counter.frame_count)
    assert len(graphs) == 1  # the first call may trace twice, because dynamic floats are tried and given up


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
def test_gradients_of_a_compiled_module_equal_those_of_an_eager_one(make: Any) -> None:
    made = make()
    torch._dynamo.reset()
    compiled = torch.compile(made, fullgraph=True, backend="aot_eager")
    for x, lengths in batches(made, [(5, 9)]):
        found = torch.autograd.grad(compiled(x, lengths=lengths).pow(3).sum(), list(made.parameters()))
        expected = torch.autograd.grad(made(x, lengths=lengths).pow(3).sum(), list(made.parameters()))
        close(found, expected)


class WithState(nn.Module):
    def __init__(self, made: nn.Module) -> None:
        super().__init__()
        self.made: Any = made

    def forward(self, x: Tensor, lengths: Tensor) -> Any:
        return self.made.with_state(x, lengths=lengths)


@pytest.mark.parametrize("make", MODULES.values(), ids=MODULES)
@pytest.mark.parametrize("strict", [False, True])
def test_an_exported_module_runs_on_every_shape_and_all_lengths(make: Any, strict: bool) -> None:
    made = make()
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    example = next(batches(made, [(3, 5)]))
    shapes = ({0: batch, 1: time}, {0: batch})
    program = torch.export.export(WithState(made), example, dynamic_shapes=shapes, strict=strict).module()
    for x, lengths in batches(made, [(3, 5), (2, 50), (7, 6), (1, 4), (3, 1), (1, 1)]):
        close(program(x, lengths), made.with_state(x, lengths=lengths))


@pytest.mark.parametrize("on_meta", [True, False])
def test_lengths_on_the_meta_device(on_meta: bool) -> None:
    with torch.device("meta"):
        made = RecBLRLayer(WIDTH)
        x = torch.empty(3, 5, WIDTH)
    lengths = torch.empty(3, dtype=torch.int64, device="meta") if on_meta else torch.tensor([1, 0, 5])
    y, state = made.with_state(x, lengths=lengths)
    assert (y.device.type, y.shape) == ("meta", x.shape)
    assert [part.shape for part in state] == [(3, 3, 2 * WIDTH), (3, 2 * WIDTH), (3, WIDTH)]


def test_lengths_of_fake_tensors() -> None:
    with FakeTensorMode():
        made = RecBLR(ITEMS, RecBLRConfig(d_model=8))
        hidden, state = made.with_state(torch.zeros(3, 5, dtype=torch.int64), lengths=torch.tensor([1, 0, 5]))
    assert isinstance(hidden, FakeTensor)
    assert hidden.shape == (3, 5, 8)
    assert [layer_state.hidden.shape for layer_state in state] == [(3, 16)] * 2


def test_traces_keep_the_lengths_as_an_input() -> None:
    made = layer()
    example = next(batches(made, [(3, 5)]))
    graph = make_fx(WithState(made))(*example)
    with FakeTensorMode(allow_non_fake_inputs=True):
        assert isinstance(made(example[0], lengths=example[1]), FakeTensor)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is old, and warns of every comparison of shapes
        traced = torch.jit.trace(WithState(made), example, check_trace=False)
    for x, lengths in batches(made, [(3, 5), (3, 5)]):
        close(graph(x, lengths), made.with_state(x, lengths=lengths))
    for x, lengths in batches(made, [(2, 9), (4, 5)]):
        close(traced(x, lengths), tuple(made.with_state(x, lengths=lengths)))


def test_lengths_under_vmap_grad_and_jvp() -> None:
    made, lengths = layer(), torch.tensor([2, 0, 5])
    x = torch.randn(4, 3, 5, WIDTH)
    found = torch.vmap(lambda one: made(one, lengths=lengths))(x)
    close(found, torch.stack([made(one, lengths=lengths) for one in x]))
    parameters = dict(made.named_parameters())

    def loss(values: dict[str, Tensor]) -> Tensor:
        y: Tensor = torch.func.functional_call(made, values, (x[0],), {"lengths": lengths})
        return y.pow(3).sum()

    expected = torch.autograd.grad(loss(parameters), list(parameters.values()))
    close(list(torch.func.grad(loss)(parameters).values()), list(expected))
    tangent = torch.randn_like(x[0])
    with torch.no_grad():
        plain, found = torch.func.jvp(lambda one: made(one, lengths=lengths), (x[0],), (tangent,))
        with forward_ad.dual_level():
            dual = made(forward_ad.make_dual(x[0], tangent), lengths=lengths)
            close((plain, found), tuple(forward_ad.unpack_dual(dual)))
    assert not found[mask(lengths, 5)].any()
    assert found[~mask(lengths, 5)].abs().min() > 0
    with pytest.raises(ValueError, match="offsets cannot be batched by vmap"):
        torch.vmap(lambda one, n: made(one, lengths=n))(x, lengths.expand(4, 3))


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (torch.tensor([1, 6]), r"lengths must lie in 0\.\.5, but range from 1 to 6"),
        (torch.tensor([-1, 2]), r"lengths must lie in 0\.\.5, but range from -1 to 2"),
        (torch.tensor([1, 2, 3]), r"lengths must be \(2,\) integers"),
        (torch.tensor([[1], [2]]), r"lengths must be \(2,\) integers"),
        (torch.tensor([1.0, 2.0]), r"lengths must be \(2,\) integers"),
        (torch.tensor([True, False]), r"lengths must be \(2,\) integers"),
    ],
)
def test_wrong_lengths_are_refused_before_any_work(lengths: Tensor, message: str) -> None:
    class NoWork(RecBLRLayer):
        def _run(self, *_: Any) -> Any:
            raise AssertionError("work")

    for x, made in ((torch.randn(2, 5, 4), NoWork(4)), (torch.empty(2, 5, 4, device="meta"), NoWork(4))):
        with pytest.raises(ValueError, match=message):
            made(x, lengths=lengths)


@pytest.mark.parametrize(
    "lengths", [torch.empty(3, dtype=torch.int64), torch.empty(2), torch.empty(2, dtype=torch.bool)]
)
def test_the_shape_and_dtype_of_lengths_are_checked_where_values_are_not(lengths: Tensor) -> None:
    with torch.device("meta"):
        made, x = RecBLRLayer(4), torch.empty(2, 5, 4)
    with pytest.raises(ValueError, match=r"lengths must be \(2,\) integers"):
        made(x, lengths=lengths.to("meta"))
    with pytest.raises(Exception, match=r"lengths must be \(2,\) integers"):
        torch.compile(layer(), fullgraph=True, backend="aot_eager")(torch.randn(2, 5, WIDTH), lengths=lengths)


def test_lengths_out_of_range_count_as_the_nearest_where_values_are_not_checked() -> None:
    x, wrong = torch.randn(4, 5, WIDTH), torch.tensor([-3, 9, 2**40, 2])
    with way("padded"):
        found = layer().with_state(x, lengths=wrong)
    close(found, layer().with_state(x, lengths=torch.tensor([0, 5, 5, 2])))
    torch._dynamo.reset()
    close(torch.compile(layer(), fullgraph=True, backend="aot_eager")(x, lengths=wrong), found[0])


@pytest.mark.parametrize("name", WAYS)
def test_a_sequence_of_length_zero_ends_with_its_initial_state(name: str) -> None:
    made = layer()
    state = made.with_state(torch.randn(2, 4, WIDTH))[1]
    with way(name):
        y, end = made.with_state(torch.randn(2, 3, WIDTH), lengths=torch.tensor([0, 3]), state=state)
        _, from_zeros = made.with_state(torch.randn(2, 3, WIDTH), lengths=torch.tensor([0, 0]))
    assert not y[0].any()
    for part, before, zeros in zip(end, state, from_zeros, strict=True):
        assert torch.equal(part[0], before[0])
        assert not torch.equal(part[1], before[1])
        assert not zeros.any()


@pytest.mark.parametrize("name", WAYS)
def test_dropout_acts_in_training_under_lengths(name: str) -> None:
    made = layer(dropout=0.5).train()
    x, lengths = torch.randn(2, 3, WIDTH), torch.tensor([1, 3])
    with way(name):
        assert not torch.equal(made(x, lengths=lengths), made(x, lengths=lengths))
