"""Few sequences with many steps: threads share the steps, and this changes neither values nor bits."""

from collections.abc import Iterator

import pytest
import torch
from ops.cases import SCANNED, accumulation, array, assert_close, in_layout
from ops.reference import recurrence
from torch import Tensor

import recblr

BACKWARD = torch.ops.recblr._scan_backward


@pytest.fixture(autouse=True)
def _restored_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def _arguments(
    shape: tuple[int, ...], dtype: torch.dtype, offsets: list[int] | None, slow: bool = True
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """a, b, initial and offsets.  The decay is slow, so a state lasts through many parts of the time axis."""
    random = torch.Generator().manual_seed(0)
    sequences = shape[0] if len(shape) == 3 else len(offsets or [0, 0]) - 1
    real = torch.rand(shape, generator=random)
    a = (0.9 + 0.1 * real if slow else 2 * real - 1).to(dtype)
    if dtype.is_complex:
        a = a * torch.exp(1j * torch.rand(shape, generator=random)).to(dtype)
    b = torch.randn(shape, generator=random, dtype=torch.complex64 if dtype.is_complex else None).to(dtype)
    initial = torch.rand(sequences, shape[-1], generator=random).to(accumulation(dtype))
    return a, b, initial, None if offsets is None else torch.tensor(offsets)


CASES: dict[str, tuple[tuple[int, ...], list[int] | None]] = {
    "one sequence": ((1, 20_000, 8), None),
    "two, many channels": ((2, 1500, 130), None),
    "single, one channel": ((20_000, 1), None),
    "packed": ((20_000, 5), [0, 0, 3, 14_000, 14_001, 20_000, 20_000]),
}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", SCANNED)
def test_long_sequences_equal_the_recurrence(dtype: torch.dtype, case: str, reverse: bool) -> None:
    a, b, initial, offsets = _arguments(CASES[case][0], dtype, CASES[case][1])
    boundaries = CASES[case][1]
    h, final = recblr.scan_with_final(a, b, initial, offsets, reverse)
    wanted = recurrence(array(a), array(b), array(initial), boundaries, reverse)
    sizes = recurrence(abs(array(a)), abs(array(b)), abs(array(initial)), boundaries, reverse)
    for got, exact, size in zip((h, final), wanted, sizes, strict=True):
        assert_close(got, exact, size, dtype, 30)  # the decay also reduces old rounding errors
    # The final state has the bits of the last row, as in short sequences.
    if dtype in (torch.float32, torch.float64) and case == "one sequence":
        assert torch.equal(final[0], h[0, 0 if reverse else -1])


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("dtype", SCANNED)
def test_gradients_with_split_time_equal_those_without(dtype: torch.dtype, case: str, reverse: bool) -> None:
    a, b, initial, offsets = _arguments(CASES[case][0], dtype, CASES[case][1])
    h, final = recblr.scan_with_final(a, b, initial, offsets, reverse)
    grad, grad_final = torch.rand_like(h), torch.rand_like(final)
    da, db, dinitial = BACKWARD(grad, grad_final, a, h, initial, offsets, reverse)
    # With many copies of the channels, there is enough work for all threads, and time is not split.
    wide = 8 * 64 // a.shape[-1] + 1  # more than 8 blocks of 64 channels
    tile = (*[1] * (a.dim() - 1), wide)
    many = [x.repeat(tile) for x in (grad, a, h)]
    states = [x.repeat(1, wide) for x in (grad_final, initial)]
    unsplit = BACKWARD(many[0], states[0], many[1], many[2], states[1], offsets, reverse)
    channels = a.shape[-1]
    for got, wanted in zip((da, db, dinitial), unsplit, strict=True):
        wanted = wanted[..., :channels]
        scale = wanted.abs().max().item() + 1
        assert_close(got, array(wanted), scale, got.dtype, 10)


@pytest.mark.parametrize("layout", ["contiguous", "channel first"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.complex64])
def test_bits_do_not_depend_on_the_number_of_threads(dtype: torch.dtype, layout: str) -> None:
    a, b, initial, _ = _arguments((1, 200_000, 8), dtype, None)
    a, b = in_layout(a, layout), in_layout(b, layout)
    results = []
    for threads in (1, 2, 4, 1):
        torch.set_num_threads(threads)
        h, final = recblr.scan_with_final(a, b, initial)
        results.append((h, final, *BACKWARD(b, final, a, h, initial, None, False)))
    for other in results[1:]:
        for got, wanted in zip(other, results[0], strict=True):
            assert torch.equal(got, wanted)


def test_bits_do_not_depend_on_the_layout() -> None:
    a, b, initial, _ = _arguments((1, 20_000, 8), torch.float32, None)
    h = recblr.scan(a, b, initial)
    first = (in_layout(x, "channel first") for x in (a, b))
    assert torch.equal(recblr.scan(*first, initial), h)


def test_growing_factors_do_not_turn_zeros_into_nan() -> None:
    a = torch.full((1, 20_000, 8), 1.5)
    h, final = recblr.scan_with_final(a, torch.zeros_like(a))
    assert not h.any()
    assert not final.any()
    b = torch.zeros_like(a)
    b[0, 15_000] = 1
    h = recblr.scan(a, b)
    assert not h[0, :15_000].any()
    assert not h.isnan().any()
    assert h[0, -1].isinf().all()


def test_a_nan_affects_only_later_steps_of_its_channel() -> None:
    a, b, initial, _ = _arguments((1, 20_000, 8), torch.float32, None)
    clean = recblr.scan(a, b, initial)
    b[0, 9_000, 3] = torch.nan
    h = recblr.scan(a, b, initial)
    assert torch.equal(h[0, :9_000], clean[0, :9_000])
    assert h[0, 9_000:, 3].isnan().all()
    others = [0, 1, 2, 4, 5, 6, 7]
    assert torch.equal(h[..., others], clean[..., others])
