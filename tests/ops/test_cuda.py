"""Properties that matter only on a GPU: unchecked offsets, streams, graphs, no waiting, sizes and regimes.

The other files of this folder compare values and derivatives with the definitions, on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from ops.cases import HALF, OPERATORS_REFUSE, accumulation
from ops.layers import assert_gradients_close, gradients_of_a_layer
from torch import Tensor

import recblr
from recblr.nn import RecBLRLayer
from recblr.ops.bdlru import composed_bdlru
from recblr.ops.common import native

OPS = torch.ops.recblr
REGIMES = "1", "2", "3"
# (batch, time, channels): for each regime a shape that it is made for, and odd shapes.
SHAPES = ((300, 20, 128), (4, 700, 40), (1, 9000, 12), (2, 33, 3), (1, 4099, 1))

pytestmark = pytest.mark.usefixtures("gpu")


def test_the_native_kernels_are_used() -> None:
    assert native.status["cuda"] == "native"


def _arguments(
    shape: tuple[int, ...], offsets: Tensor | None, dtype: torch.dtype, device: str, full: bool = True
) -> dict[str, Any]:
    """The arguments of scan, bdlru and causal_conv1d, for data (B, T, C) or packed (N, C)."""
    random = torch.Generator().manual_seed(0)
    sequences = shape[0] if offsets is None else len(offsets) - 1
    *outer, channels = shape
    wide = accumulation(dtype)

    def normal(*size: int, of: torch.dtype = dtype) -> Tensor:
        return torch.randn(size, generator=random).to(of).to(device)

    return {
        "a": normal(*shape).sigmoid(),
        "b": normal(*shape),
        "grad": normal(*shape),
        "gates": normal(*outer, 2 * channels),
        "decay": normal(channels, of=wide).abs() / 10,
        "z": normal(*shape) if full else None,
        "scale": normal(*outer, 1, of=wide).abs() if full else None,
        "initial": normal(sequences, channels, of=wide) if full else None,
        "weight": normal(channels, 4, of=wide),
        "bias": normal(channels, of=wide) if full else None,
        "past": normal(sequences, 3, channels, of=wide) if full else None,
        "offsets": None if offsets is None else offsets.to(device),
    }


def _everything(given: dict[str, Any]) -> dict[str, Tensor]:
    """All outputs of all operators and of their backward operators."""
    a, b, grad, offsets, initial = (given[name] for name in ("a", "b", "grad", "offsets", "initial"))
    results: dict[str, Tensor] = {}
    for reverse in (False, True):
        h, final = OPS.scan_with_final(a, b, initial, offsets, reverse)
        gradients = OPS._scan_backward(grad, final, a, h, initial, offsets, reverse)
        names = "h", "final", "da", "db", "dinitial"
        results |= dict(zip((f"{n}, reverse {reverse}" for n in names), (h, final, *gradients), strict=True))
    unit = b, given["gates"], given["decay"], given["z"], initial, offsets, given["scale"]
    y, final, states = OPS._bdlru(*unit)
    gradients = OPS._bdlru_backward(grad, final, *unit, states)
    names = "y", "state", "dx", "dgates", "ddecay", "dz", "dstate", "dscale"
    results |= dict(zip(names, (y, final, *gradients), strict=True))
    conv = b, given["weight"], given["bias"], given["past"], offsets, True
    y, final = OPS._causal_conv1d(*conv)
    gradients = OPS._causal_conv1d_backward(grad, final, *conv)
    names = "conv", "past", "dconv", "dweight", "dbias", "dpast"
    return results | dict(zip(names, (y, final, *gradients), strict=True))


def _wide(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments on the CPU in float64."""

    def moved(x: Any) -> Any:
        return x.cpu().double() if isinstance(x, Tensor) and x.is_floating_point() else x

    return {
        name: x.cpu() if isinstance(x, Tensor) and not x.is_floating_point() else moved(x)
        for name, x in given.items()
    }


def _assert_like(got: dict[str, Tensor], wanted: dict[str, Tensor], dtype: torch.dtype) -> None:
    # h is rounded to 16 bits before the backward pass reads it.  Sums over rows add up the rows' rounding
    # errors.
    eps = 8 * torch.finfo(dtype).eps if dtype in HALF else 1000 * torch.finfo(dtype).eps
    for name, value in got.items():
        w = wanted[name]
        assert value.shape == w.shape, name
        size = float(w.abs().max()) if w.numel() else 0.0
        torch.testing.assert_close(
            value.cpu().double(), w, rtol=eps, atol=eps * (1 + size), msg=lambda m, n=name: f"{n}: {m}"
        )


OFFSETS = torch.tensor([0, 0, 1, 40, 700, 700, 701, 2500])


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("shape", [*SHAPES, (2500, 24)])
@pytest.mark.parametrize("regime", REGIMES)
def test_every_regime_gives_the_cpus_results(
    gpu: str,
    monkeypatch: pytest.MonkeyPatch,
    regime: str,
    shape: tuple[int, ...],
    dtype: torch.dtype,
    full: bool,
) -> None:
    offsets = OFFSETS if len(shape) == 2 else None
    given = _arguments(shape, offsets, dtype, gpu, full)
    wanted = _everything(_wide(given))
    monkeypatch.setenv("RECBLR_CUDA_REGIME", regime)
    _assert_like(_everything(given), wanted, dtype)


@pytest.mark.parametrize("shape", [*SHAPES, (2500, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_input_gives_the_same_bits(gpu: str, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    given = _arguments(shape, OFFSETS if len(shape) == 2 else None, dtype, gpu)
    first = _everything(given)
    torch.randn(1 << 20, device=gpu)  # so that the next results get other memory
    for _ in range(3):
        for name, value in _everything(given).items():
            assert torch.equal(value, first[name]), name


@pytest.mark.parametrize("shape", [*SHAPES, (2500, 24)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("regime", REGIMES)
def test_memory_alignment_changes_no_bit(
    gpu: str, monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], dtype: torch.dtype, regime: str
) -> None:
    monkeypatch.setenv("RECBLR_CUDA_REGIME", regime)
    given = _arguments(shape, OFFSETS if len(shape) == 2 else None, dtype, gpu)
    wanted = _everything(given)
    for name, value in _everything({name: _an_element_further(x) for name, x in given.items()}).items():
        assert torch.equal(value, wanted[name]), name


def _an_element_further(x: Any) -> Any:
    """The same numbers, one element after an aligned address."""
    if not isinstance(x, Tensor) or not x.is_floating_point():
        return x
    return x.new_empty(x.numel() + 1)[1:].view(x.shape).copy_(x)


BAD = {
    "start late": [5, 10, 60],
    "start below zero": [-7, 10, 60],
    "end early": [0, 10, 50],
    "end late": [0, 10, 1 << 30],
    "decrease": [0, 40, 10, 60],
    "all beyond": [100, 200],
    "all below": [-2, -1],
    "nothing": [30],
}


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64], ids=str)
@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_offsets_are_brought_into_order_and_rows_outside_all_sequences_get_zeros(
    gpu: str, monkeypatch: pytest.MonkeyPatch, bad: list[int], regime: str, dtype: torch.dtype
) -> None:
    rows = 60
    mended = torch.tensor(bad).clamp(0, rows).cummax(0).values
    covering = torch.cat([torch.tensor([0]), mended, torch.tensor([rows])])
    given = _arguments((rows, 20), torch.tensor(bad, dtype=dtype), torch.float32, gpu)
    wide = _wide(given) | {"offsets": covering}
    for name in ("initial", "past"):  # one more sequence at each end, for the rows outside
        outside = wide[name].new_zeros(1, *wide[name].shape[1:])
        wide[name] = torch.cat([outside, wide[name], outside])
    covered = torch.zeros(rows, dtype=torch.bool)
    covered[mended[0] : mended[-1]] = True
    # Rows outside all sequences must not add anything to sums over rows.
    for name in ("grad", "b"):
        wide[name] = torch.where(covered.unsqueeze(1), wide[name], 0)
    wanted = _everything(wide)
    monkeypatch.setenv("RECBLR_CUDA_REGIME", regime)
    got = _everything(given)
    for name, value in wanted.items():
        if value.shape[:1] == (rows,):
            wanted[name] = torch.where(covered.reshape(-1, *[1] * (value.dim() - 1)), value, 0)
        elif value.shape[:1] == (len(bad) + 1,) and got[name].shape[:1] == (len(bad) - 1,):
            wanted[name] = value[1:-1]
    _assert_like(got, wanted, torch.float32)


def test_it_runs_on_the_current_stream(gpu: str) -> None:
    given = _arguments((8, 500, 64), None, torch.float32, gpu)
    late = given["b"].clone().zero_()
    wanted = _everything(given)
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)
        late.copy_(given["b"])  # only a kernel that waits for this stream reads the new values
        got = _everything(given | {"b": late})
    stream.synchronize()
    assert all(torch.equal(got[name], value) for name, value in wanted.items())


@contextmanager
def _waiting_is_an_error() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("packed", [False, True])
def test_nothing_waits_for_the_device(gpu: str, packed: bool) -> None:
    shape, offsets = ((2500, 24), OFFSETS) if packed else ((3, 50, 24), None)
    given = _arguments(shape, offsets, torch.float32, gpu)
    with _waiting_is_an_error():
        with pytest.raises(RuntimeError):
            given["b"].sum().item()  # check that waiting is an error here
        _everything(given)
        _public(given)


def _public(given: dict[str, Any]) -> tuple[Tensor, ...]:
    """Gradients of the public functions, chained."""
    x, a, gates = (given[name].detach().clone().requires_grad_() for name in ("b", "a", "gates"))
    initial, offsets = given["initial"], given["offsets"]
    conv, _ = recblr.causal_conv1d(x, given["weight"], given["bias"], given["past"], offsets)
    y, final = recblr.bdlru(conv, gates, given["decay"], given["z"], initial, offsets, given["scale"])
    h = recblr.scan(a, y, final, offsets)
    return torch.autograd.grad(h, (x, a, gates), given["grad"])


@pytest.mark.parametrize("packed", [False, True])
def test_graphs_capture_both_passes(gpu: str, packed: bool) -> None:
    shape, offsets = ((2500, 24), OFFSETS) if packed else ((3, 50, 24), None)
    given = _arguments(shape, offsets, torch.float32, gpu)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            _everything(given), _public(given)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured, gradients = _everything(given), _public(given)
    given["b"].copy_(torch.randn_like(given["b"]))
    if packed:
        given["offsets"].copy_(torch.tensor([0, 3, 9, 9, 900, 1000, 2400, 2500]))
    graph.replay()
    torch.cuda.synchronize()
    for name, value in _everything(given).items():
        assert torch.equal(captured[name], value), name
    assert all(torch.equal(g, w) for g, w in zip(gradients, _public(given), strict=True))


@pytest.mark.parametrize("packed", [False, True])
def test_more_sequences_than_a_grids_second_axis_holds(gpu: str, packed: bool) -> None:
    sequences, steps = 70_000, 2
    if packed:
        offsets = torch.arange(sequences + 1) * steps
        given = _arguments((sequences * steps, 8), offsets, torch.float32, gpu)
    else:
        given = _arguments((sequences, steps, 8), None, torch.float32, gpu)
    _assert_like(_everything(given), _everything(_wide(given)), torch.float32)


def _needs_memory(gigabytes: int) -> None:
    free, _ = torch.cuda.mem_get_info()
    if free < gigabytes << 30:
        pytest.skip(f"needs {gigabytes} GB of free memory on the GPU")


@pytest.mark.parametrize("shape", [(1, 70_000, 32_768), (70_000, 32, 1024)])
def test_more_elements_than_32_bits_count(gpu: str, shape: tuple[int, int, int]) -> None:
    _needs_memory(16)
    half = torch.full((), 0.5, dtype=torch.bfloat16, device=gpu).expand(shape)
    h, final = recblr.scan_with_final(half, half, None)
    wanted = 1 - 0.5 ** shape[1]
    assert (final == wanted).all()
    assert (h[-1, -1] == wanted).all()
    assert (h[:, 0] == 0.5).all()
    assert (h[-1, 1] == 0.75).all()
    gates = torch.zeros((), dtype=torch.bfloat16, device=gpu).expand(*shape[:-1], 2 * shape[-1])
    y, final = recblr.bdlru(half, gates, torch.full(shape[-1:], 0.1, device=gpu))
    assert (y[-1, -1].float() - final[-1]).abs().max() < 0.01
    conv, _ = recblr.causal_conv1d(half, torch.ones(shape[-1], 4, device=gpu), silu=False)
    assert (conv[-1, -1] == 2).all()
    assert (conv[-1, 0] == 0.5).all()


CALLS: dict[str, tuple[Callable[..., Any], tuple[str | bool | None, ...]]] = {
    "scan": (OPS.scan, ("b", "a", "initial", "offsets")),
    "_bdlru": (OPS._bdlru, ("b", "gates", "decay", "z", "initial", "offsets", "scale")),
    "bdlru": (recblr.bdlru, ("b", "gates", "decay", "z", "initial", "offsets", "scale")),
    "_causal_conv1d": (OPS._causal_conv1d, ("b", "weight", "bias", "past", "offsets", True)),
    "causal_conv1d": (recblr.causal_conv1d, ("b", "weight", "bias", "past", "offsets", True)),
}
ALONE = [
    (call, place)
    for call, (_, names) in CALLS.items()
    for place in range(1, len([n for n in names if n is not True]))
]


@pytest.mark.parametrize(("call", "place"), ALONE)
def test_arguments_on_two_devices_are_refused_by_name(gpu: str, call: str, place: int) -> None:
    function, names = CALLS[call]
    given = _arguments((2500, 24), OFFSETS, torch.float32, gpu)
    arguments = [given[name] if isinstance(name, str) else name for name in names]
    arguments[place] = arguments[place].cpu()
    if call == "scan":
        arguments[:2] = arguments[1::-1]  # a and b are exchanged, because b's device is the reference
    with pytest.raises(OPERATORS_REFUSE, match=rf"{call.strip('_')}: \w+ must be on cuda:0, but is on cpu"):
        function(*arguments)


def test_the_gpu_refuses_with_the_messages_of_the_cpu(gpu: str) -> None:
    a = torch.rand(2, 3, 4, device=gpu)
    with pytest.raises(ValueError, match=r"scan: a must have b's shape \(2, 3, 4\), but has \(2, 3, 5\)"):
        recblr.scan(torch.rand(2, 3, 5, device=gpu), a)
    with pytest.raises(ValueError, match="scan: offsets must be int64 or int32, but is float32"):
        recblr.scan(a[0], a[0], offsets=torch.tensor([0.0, 3.0], device=gpu))


@pytest.mark.parametrize("shape", [(0, 3, 2), (2, 0, 3), (2, 3, 0)])
def test_nothing_to_do_leaves_states_as_they_were(gpu: str, shape: tuple[int, ...]) -> None:
    given = _arguments(shape, None, torch.float32, gpu)
    _assert_like(_everything(given), _everything(_wide(given)), torch.float32)


def test_opcheck_passes(gpu: str) -> None:
    for shape, offsets in (((5, 3), torch.tensor([0, 2, 2, 5])), ((2, 4, 3), None)):
        given = _arguments(shape, offsets, torch.float32, gpu)
        a, b, initial, offsets = (given[name] for name in ("a", "b", "initial", "offsets"))
        torch.library.opcheck(OPS.scan_with_final.default, (a.requires_grad_(), b, initial, offsets))
        unit = (
            b.requires_grad_(),
            given["gates"],
            given["decay"],
            given["z"],
            initial,
            offsets,
            given["scale"],
        )
        torch.library.opcheck(OPS._bdlru.default, unit)
        conv = b, given["weight"], given["bias"], given["past"], offsets, True
        torch.library.opcheck(OPS._causal_conv1d.default, conv)


@pytest.mark.parametrize("where", ["cpu", "cuda:0"])
def test_padded_batches_give_the_same_and_nothing_waits(gpu: str, where: str) -> None:
    torch.manual_seed(0)
    layer, x, lengths = RecBLRLayer(32), torch.randn(5, 60, 32), torch.tensor([60, 0, 7, 33, 1])
    wanted = layer.with_state(x, lengths=lengths)
    layer, x, lengths = layer.to(gpu), x.to(gpu).requires_grad_(), lengths.to(where)
    with _waiting_is_an_error():
        got = layer.with_state(x, lengths=lengths)
        got[0].sum().backward()
    _close_on_the_cpu(got, wanted)
    with torch.no_grad():  # wrong lengths on a GPU are not noticed, but nothing is read out of bounds
        wrong = torch.tensor([-5, 61, 2**40, 3, 60], device=gpu)
        _close_on_the_cpu(layer.with_state(x, lengths=wrong), layer.with_state(x, lengths=wrong.clamp(0, 60)))


def test_lengths_on_the_cpu_are_refused_in_a_cuda_graph(gpu: str) -> None:
    layer, x = RecBLRLayer(32).to(gpu), torch.randn(2, 5, 32, device=gpu)
    refused = pytest.raises(ValueError, match="cannot be part of a CUDA graph")
    with torch.no_grad(), refused, torch.cuda.graph(torch.cuda.CUDAGraph()):
        layer(x, lengths=torch.tensor([5, 3]))


def _close_on_the_cpu(got: Any, wanted: Any) -> None:
    for one, other in zip((got[0], *got[1]), (wanted[0], *wanted[1]), strict=True):
        torch.testing.assert_close(one.cpu(), other.cpu(), rtol=1e-3, atol=1e-3)


def test_a_compiled_layer_equals_the_eager_layer(gpu: str) -> None:
    pytest.importorskip("triton")
    torch.manual_seed(0)
    layer, x = RecBLRLayer(32).to(gpu), torch.randn(4, 60, 32, device=gpu)
    torch.testing.assert_close(torch.compile(layer)(x), layer(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("autocast", [False, True])
def test_a_layer_trains_as_on_the_cpu(gpu: str, autocast: bool) -> None:
    on_cpu = gradients_of_a_layer("cpu", torch.float32, autocast)
    assert_gradients_close(
        gradients_of_a_layer(gpu, torch.float32, autocast), on_cpu, 0.1 if autocast else 1e-3
    )


def test_the_composition_runs_on_a_gpu_too(gpu: str) -> None:
    given = _arguments((2500, 24), OFFSETS, torch.float64, gpu)
    unit = (
        given["b"],
        given["gates"],
        given["decay"],
        given["z"],
        given["initial"],
        given["offsets"],
        given["scale"],
    )
    for got, wanted in zip(composed_bdlru(*unit), recblr.bdlru(*unit), strict=True):
        torch.testing.assert_close(got, wanted)


def test_operators_run_on_every_gpu_whichever_is_current(gpu: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two GPUs")
    given = _arguments((3, 50, 24), None, torch.float32, "cuda:1")
    _assert_like(_everything(given), _everything(_wide(given)), torch.float32)
    assert torch.cuda.current_device() == 0
    with pytest.raises(OPERATORS_REFUSE, match="must be on cuda:0, but is on cuda:1"):
        OPS.scan(given["a"], given["b"].to("cuda:0"))
