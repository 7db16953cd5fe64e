"""The same input gives the same bits, for all numbers of threads, memory layouts and repetitions."""

from collections.abc import Iterator

import pytest
import torch
from ops.cases import LAYOUTS, in_layout
from torch import Tensor

import recblr


@pytest.fixture(autouse=True)
def _restored_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def _run(dtype: torch.dtype, packed: bool) -> list[Tensor]:
    """Values and gradients of an input that is large enough for several tasks."""
    random = torch.Generator().manual_seed(0)
    shape = (900, 200) if packed else (9, 100, 200)
    offsets = torch.tensor([0, 5, 5, 300, 301, 900]) if packed else None
    a, b, grad = (torch.rand(shape, generator=random).to(dtype) for _ in range(3))
    a.requires_grad_()
    b.requires_grad_()
    h = recblr.scan(a, b, offsets=offsets)
    gates = torch.cat([b, a], -1)
    y, final = recblr.bdlru(a, gates, torch.rand(200, generator=random), offsets=offsets)
    conv, _ = recblr.causal_conv1d(b, torch.rand(200, 4, generator=random), offsets=offsets)
    outputs = [h, y, final, conv]
    grads = torch.autograd.grad(outputs, [a, b], [grad, grad, torch.ones_like(final), grad])
    return [*outputs, *grads]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_bits_do_not_depend_on_threads_or_repetition(dtype: torch.dtype, packed: bool) -> None:
    torch.set_num_threads(1)
    alone = _run(dtype, packed)
    for threads in (1, 2, 2, 3):
        torch.set_num_threads(threads)
        for got, wanted in zip(_run(dtype, packed), alone, strict=True):
            assert torch.equal(got, wanted)


@pytest.mark.parametrize("layout", [layout for layout in LAYOUTS if layout != "expanded"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_bits_do_not_depend_on_the_memory_layout(dtype: torch.dtype, layout: str) -> None:
    random = torch.Generator().manual_seed(0)
    a, b, grad = (torch.rand((2, 9, 130), generator=random, dtype=dtype) for _ in range(3))
    h = recblr.scan(a, b)
    assert torch.equal(recblr.scan(in_layout(a, layout), b), h)
    wanted = torch.ops.recblr._scan_backward(grad, None, a, h, None, None, False)
    got = torch.ops.recblr._scan_backward(in_layout(grad, layout), None, a, h, None, None, False)
    assert all(torch.equal(x, y) for x, y in zip(got, wanted, strict=True))
