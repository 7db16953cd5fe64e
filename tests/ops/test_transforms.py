"""The operators under PyTorch's transforms: opcheck, compile, export, vmap and meta tensors."""

import io
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import recblr

OPS = torch.ops.recblr


def _close(got: Any, wanted: Any) -> None:
    torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)


def _unit(*size: int, grad: bool = False) -> tuple[Tensor, ...]:
    """x, gates, decay and z for bdlru."""
    channels = size[-1]
    shapes = (size, (*size[:-1], 2 * channels), (channels,), size)
    return tuple(torch.rand(shape, requires_grad=grad) for shape in shapes)


def _scan_arguments(kind: str, grad: bool) -> tuple[Any, ...]:
    offsets = torch.tensor([0, 2, 2, 5]) if kind == "packed" else None
    shape = (5, 3) if kind == "packed" else (2, 4, 3)
    if kind == "strided":
        a, b = torch.rand(2, 3, 4).mT, torch.rand(2, 8, 6)[:, ::2, ::2]
    else:
        a, b = torch.rand(shape), torch.rand(shape)
    initial = torch.rand(3 if kind == "packed" else 2, 3)
    return *(x.detach().requires_grad_(grad) for x in (a, b, initial)), offsets, kind != "batched"


KINDS = ("batched", "packed", "strided")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("grad", [False, True])
def test_opcheck_passes_for_scan_and_its_backward(kind: str, grad: bool) -> None:
    arguments = _scan_arguments(kind, grad)
    torch.library.opcheck(OPS.scan.default, arguments)
    torch.library.opcheck(OPS.scan_with_final.default, arguments)
    h, final = (x.detach().requires_grad_(grad) for x in OPS.scan_with_final(*arguments))
    for cotangents in (
        (torch.rand_like(h), torch.rand_like(final)),
        (torch.rand_like(h), None),
        (None, final),
    ):
        torch.library.opcheck(OPS._scan_backward.default, (*cotangents, arguments[0], h, *arguments[2:]))


def test_opcheck_passes_for_scan_without_optional_arguments() -> None:
    torch.library.opcheck(OPS.scan.default, (torch.rand(4, 3), torch.rand(4, 3)))


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("packed", [False, True])
def test_opcheck_passes_for_bdlru_and_causal_conv1d(packed: bool, grad: bool) -> None:
    offsets = torch.tensor([0, 2, 2, 5]) if packed else None
    shape, sequences = ((5, 3), 3) if packed else ((2, 4, 3), 2)
    initial = torch.rand(sequences, 3, requires_grad=grad)
    scale = torch.rand(*shape[:-1], 1, requires_grad=grad)
    torch.library.opcheck(OPS.bdlru.default, (*_unit(*shape, grad=grad), initial, offsets, scale))
    x, weight, bias, past = (
        torch.rand(size, requires_grad=grad) for size in (shape, (3, 4), (3,), (sequences, 3, 3))
    )
    torch.library.opcheck(OPS.causal_conv1d.default, (x, weight, bias, past, offsets))


def _layer(x: Tensor, gates: Tensor, decay: Tensor, z: Tensor, weight: Tensor) -> Tensor:
    """All operators in one function, chained as in a model."""
    conv, _ = recblr.causal_conv1d(x, weight)
    y, final = recblr.bdlru(conv, gates, decay, z)
    h, state = recblr.scan_with_final(torch.sigmoid(y), x, final, reverse=True)
    return recblr.scan(torch.sigmoid(h), x, state)


def _assert_compiled_like_eager(compiled: Callable[..., Tensor], sizes: list[tuple[int, ...]]) -> None:
    for size in sizes:
        inputs = (*_unit(*size, grad=True), torch.rand(size[-1], 4, requires_grad=True))
        wanted = _layer(*inputs)
        got = compiled(*inputs)
        _close(got, wanted)
        seed = torch.rand(size)
        _close(torch.autograd.grad(got, inputs, seed), torch.autograd.grad(wanted, inputs, seed))


@pytest.mark.parametrize("dynamic", [False, True])
def test_inductor_compiles_the_operators_without_a_graph_break(dynamic: bool) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(_layer, fullgraph=True, dynamic=dynamic)
    _assert_compiled_like_eager(compiled, [(2, 5, 8), (3, 7, 8)] if dynamic else [(2, 5, 8)])


def test_one_dynamic_graph_is_used_for_every_shape() -> None:
    torch._dynamo.reset()
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(_layer, fullgraph=True, dynamic=True, backend=counter)
    _assert_compiled_like_eager(compiled, [(2, 5, 8), (3, 7, 8), (4, 2, 6)])
    assert counter.frame_count == 1


def test_packed_batches_of_any_size_compile_once() -> None:
    torch._dynamo.reset()

    def run(x: Tensor, gates: Tensor, decay: Tensor, weight: Tensor, offsets: Tensor) -> Tensor:
        conv, _ = recblr.causal_conv1d(x, weight, offsets=offsets)
        y, final = recblr.bdlru(conv, gates, decay, offsets=offsets)
        return recblr.scan(torch.sigmoid(y), x, final, offsets)

    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(run, fullgraph=True, dynamic=True, backend=counter)
    for boundaries in ([0, 2, 2, 7], [0, 4, 9], [0, 1, 2, 3, 11]):
        x, gates, decay, _ = _unit(boundaries[-1], 5, grad=True)
        weight = torch.rand(5, 3, requires_grad=True)
        arguments = (x, gates, decay, weight, torch.tensor(boundaries))
        wanted, got = run(*arguments), compiled(*arguments)
        _close(got, wanted)
        _close(
            torch.autograd.grad(got.sum(), arguments[:4]), torch.autograd.grad(wanted.sum(), arguments[:4])
        )
    assert counter.frame_count == 1


def test_compiled_strided_inputs_keep_the_layout_contract() -> None:
    torch._dynamo.reset()
    a, b = torch.rand(2, 3, 4).mT, torch.rand(2, 3, 4).mT
    h = torch.compile(recblr.scan, fullgraph=True, backend="aot_eager")(a, b)
    assert h.stride() == b.stride()
    _close(h, recblr.scan(a, b))


class _Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.rand(4))
        self.weight = nn.Parameter(torch.rand(4, 3))

    def forward(self, x: Tensor, gates: Tensor) -> tuple[Tensor, Tensor]:
        conv, _ = recblr.causal_conv1d(x, self.weight)
        y, final = recblr.bdlru(conv, gates, self.decay)
        return recblr.scan(torch.sigmoid(y), y), final


class _PackedModel(_Model):
    def forward(self, x: Tensor, gates: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        conv, _ = recblr.causal_conv1d(x, self.weight, offsets=offsets)
        y, final = recblr.bdlru(conv, gates, self.decay, offsets=offsets)
        return recblr.scan(torch.sigmoid(y), y, offsets=offsets), final


def _saved_and_loaded(program: torch.export.ExportedProgram) -> nn.Module:
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file).module()


def test_a_saved_export_of_a_model_runs_on_other_batches_and_lengths() -> None:
    batch, time = torch.export.Dim("batch"), torch.export.Dim("time")
    model = _Model()
    axes = {0: batch, 1: time}
    program = torch.export.export(
        model, (torch.rand(2, 5, 4), torch.rand(2, 5, 8)), dynamic_shapes=(axes, axes)
    )
    loaded = _saved_and_loaded(program)
    for size in ((2, 5), (7, 3), (2, 40)):
        inputs = torch.rand(*size, 4), torch.rand(*size, 8)
        _close(loaded(*inputs), model(*inputs))


def test_an_exported_packed_model_runs_on_other_batches() -> None:
    rows = torch.export.Dim("rows")
    boundaries = torch.export.Dim("boundaries", min=3)  # export treats an axis of length 1 as a constant
    model = _PackedModel()
    example = torch.rand(6, 4), torch.rand(6, 8), torch.tensor([0, 2, 6])
    program = torch.export.export(model, example, dynamic_shapes=({0: rows}, {0: rows}, {0: boundaries}))
    loaded = _saved_and_loaded(program)
    inputs = torch.rand(9, 4), torch.rand(9, 8), torch.tensor([0, 3, 3, 9])
    _close(loaded(*inputs), model(*inputs))


@pytest.fixture
def _no_vmap_loop() -> Iterator[None]:
    """In this context, vmap's fallback is an error.  The fallback loops over the calls."""
    functorch: Any = torch._C._functorch
    functorch._set_vmap_fallback_enabled(False)
    yield
    functorch._set_vmap_fallback_enabled(True)


AXES: dict[str, tuple[tuple[int, ...], tuple[int, int], Tensor | None]] = {
    "batched": ((2, 4, 3), (2, 3), None),
    "single": ((4, 3), (1, 3), None),
    "packed": ((4, 3), (2, 3), torch.tensor([0, 1, 4])),
}


@pytest.mark.usefixtures("_no_vmap_loop")
@pytest.mark.parametrize("kind", AXES)
@pytest.mark.parametrize("with_initial", [False, True])
@pytest.mark.parametrize("reverse", [False, True])
def test_vmap_of_scan_equals_a_loop_of_scans(kind: str, with_initial: bool, reverse: bool) -> None:
    shape, state, offsets = AXES[kind]

    def tensor(size: tuple[int, ...], axis: int | None) -> Tensor:
        return torch.rand(size if axis is None else (*size[:axis], 5, *size[axis:]))

    def one(x: Tensor | None, axis: int | None, call: int) -> Tensor | None:
        return x if x is None or axis is None else x.select(axis, call)

    places = (None, 0, 1, len(shape))
    for axes in itertools.product(places, places, (None, 0, 2) if with_initial else (None,)):
        if axes == (None, None, None):
            continue
        a, b = tensor(shape, axes[0]), tensor(shape, axes[1])
        initial = tensor(state, axes[2]) if with_initial else None
        in_dims = (*axes, None, None)
        got, final = torch.vmap(OPS.scan_with_final, in_dims=in_dims)(a, b, initial, offsets, reverse)
        calls: list[Any] = [
            [*(one(x, axis, call) for x, axis in zip((a, b, initial), axes, strict=True)), offsets, reverse]
            for call in range(5)
        ]
        wanted = [
            torch.stack(part) for part in zip(*(recblr.scan_with_final(*c) for c in calls), strict=True)
        ]
        _close([got, final], wanted)
        _close(torch.vmap(OPS.scan, in_dims=in_dims)(a, b, initial, offsets, reverse), wanted[0])


@pytest.mark.usefixtures("_no_vmap_loop")
@pytest.mark.parametrize("kind", AXES)
def test_vmap_of_bdlru_and_causal_conv1d_equals_a_loop(kind: str) -> None:
    shape, state, offsets = AXES[kind]
    x, gates, z = torch.rand(5, *shape), torch.rand(5, *shape[:-1], 6), torch.rand(5, *shape)
    decay, initial = torch.rand(3), torch.rand(5, *state)

    def unit(x: Tensor, gates: Tensor, z: Tensor, initial: Tensor) -> tuple[Tensor, Tensor]:
        return recblr.bdlru(x, gates, decay, z, initial, offsets)

    got = torch.vmap(unit)(x, gates, z, initial)
    calls = [unit(*call) for call in zip(x, gates, z, initial, strict=True)]
    _close(got, tuple(torch.stack(part) for part in zip(*calls, strict=True)))

    weight = torch.rand(5, 3, 2)
    past = initial.unsqueeze(2)

    def conv(x: Tensor, weight: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        return recblr.causal_conv1d(x, weight, None, past, offsets)

    got = torch.vmap(conv)(x, weight, past)
    calls = [conv(*call) for call in zip(x, weight, past, strict=True)]
    _close(got, tuple(torch.stack(part) for part in zip(*calls, strict=True)))


@pytest.mark.usefixtures("_no_vmap_loop")
def test_vmap_may_be_nested() -> None:
    a, b = torch.rand(2, 3, 4, 5), torch.rand(2, 3, 4, 5)
    _close(
        torch.vmap(torch.vmap(recblr.scan))(a, b), recblr.scan(a.flatten(0, 1), b.flatten(0, 1)).view_as(b)
    )


@pytest.mark.usefixtures("_no_vmap_loop")
@pytest.mark.parametrize("name", ["scan", "bdlru", "causal_conv1d"])
def test_vmap_refuses_batched_offsets(name: str) -> None:
    offsets = torch.tensor([[0, 2, 4], [0, 1, 4]])
    arguments = {
        "scan": (torch.rand(4, 3), torch.rand(4, 3)),
        "bdlru": _unit(4, 3)[:3],
        "causal_conv1d": (torch.rand(4, 3), torch.rand(3, 2)),
    }[name]
    with pytest.raises(ValueError, match="offsets cannot be batched by vmap; pack the sequences"):
        torch.vmap(lambda offsets: getattr(recblr, name)(*arguments, offsets=offsets))(offsets)


@pytest.mark.parametrize("packed", [False, True])
def test_gradients_may_be_batched(packed: bool) -> None:
    offsets = torch.tensor([0, 1, 4]) if packed else None
    a, b = (torch.rand((4, 3) if packed else (2, 4, 3), requires_grad=True) for _ in range(2))
    initial = torch.rand(2, 3, requires_grad=True)
    h = recblr.scan(a, b, initial, offsets)
    seeds = torch.rand(5, *h.shape)
    got = torch.autograd.grad(h, (a, b, initial), seeds, is_grads_batched=True, retain_graph=True)
    wanted = [torch.autograd.grad(h, (a, b, initial), seed, retain_graph=True) for seed in seeds]
    _close(got, tuple(torch.stack(part) for part in zip(*wanted, strict=True)))


def test_jacobians_and_hessians_of_autograd_work() -> None:
    a, b = torch.rand(3, 2, dtype=torch.float64), torch.rand(3, 2, dtype=torch.float64)

    def run(a: Tensor) -> Tensor:
        return recblr.scan(a, b).square().sum()

    vectorized = torch.autograd.functional.hessian(run, a, vectorize=True)
    _close(vectorized, torch.autograd.functional.hessian(run, a))
    assert (vectorized != 0).any()


def test_meta_tensors_give_shapes_dtypes_and_layouts() -> None:
    x, gates, z = (
        torch.empty(size, dtype=torch.bfloat16, device="meta") for size in ((2, 4, 3), (2, 4, 6), (2, 4, 3))
    )
    y, final = recblr.bdlru(x, gates, torch.empty(3, device="meta"), z)
    assert (y.shape, y.dtype, y.device.type) == (x.shape, x.dtype, "meta")
    assert (final.shape, final.dtype) == ((2, 3), torch.float32)
    y, final = recblr.causal_conv1d(x, torch.empty(3, 4, device="meta"))
    assert (y.shape, y.dtype, final.shape) == (x.shape, x.dtype, (2, 3, 3))
    channel_first = torch.empty(2, 3, 4, device="meta").mT
    assert recblr.scan(channel_first, channel_first).stride() == channel_first.stride()
