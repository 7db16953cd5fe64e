"""16-bit storage: values are read and results are rounded exactly as NumPy and PyTorch convert them."""

import numpy as np
import pytest
import torch

import recblr

EVERY_PATTERN = torch.arange(-(2**15), 2**15, dtype=torch.int16)
DTYPES = (torch.bfloat16, torch.float16)
# The kernels read one channel and many neighbouring channels with different code.
LAYOUTS = ("rows of 64 channels", "channel first")


def _arranged(x: torch.Tensor, layout: str) -> torch.Tensor:
    """x (N,) as (1, N / 64, 64), in memory order or with neighbouring steps of time next to each other."""
    return x.view(1, -1, 64) if layout == LAYOUTS[0] else x.view(1, 64, -1).mT


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_value_is_read_exactly(dtype: torch.dtype, layout: str) -> None:
    b = _arranged(EVERY_PATTERN.view(dtype), layout)
    _, final = recblr.scan_with_final(torch.zeros_like(b), b)
    last = b[:, -1].float()
    torch.testing.assert_close(final, last, rtol=0, atol=0, equal_nan=True)
    # Each value is a sequence of one step, so all values are checked and not only the last.
    single = b.reshape(-1, 1, 64)
    _, finals = recblr.scan_with_final(torch.zeros_like(single), single)
    wanted = single[:, 0].float()
    wanted = torch.where(wanted.abs() < torch.finfo(torch.float32).tiny, 0.0, wanted)  # denormals are flushed
    torch.testing.assert_close(finals, wanted, rtol=0, atol=0, equal_nan=True)


def _floats_around(dtype: torch.dtype) -> torch.Tensor:
    """Float32 values that test rounding to the dtype, none of them denormal.

    They are the dtype's values, the midpoints between them, the neighbours of both, and random values.
    """
    exact = EVERY_PATTERN.view(dtype).float()
    exact = exact[exact.isfinite()].sort().values
    halfway = (exact[1:].double() + exact[:-1].double()).div(2).float()
    near = torch.cat([exact, halfway])
    random = torch.randint(-(2**31), 2**31, (2**20,), generator=torch.Generator().manual_seed(0)).int()
    values = torch.cat(
        [
            near,
            torch.nextafter(near, torch.tensor(torch.inf)),
            torch.nextafter(near, torch.tensor(-torch.inf)),
            random.view(torch.float32),
            torch.tensor([torch.inf, -torch.inf, torch.nan, 65519.9, 65520.0, 3.4e38]),
        ]
    )
    values = values[(values.abs() >= torch.finfo(torch.float32).tiny) | (values == 0) | values.isnan()]
    return values[: values.numel() // 512 * 512]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_results_are_rounded_to_the_nearest_ties_to_even(dtype: torch.dtype, layout: str) -> None:
    values = _floats_around(dtype).view(-1, 64)
    # h[0] = 1 * initial + 0
    shape = (values.shape[0], 1, 64)
    one, zero = torch.ones(shape, dtype=dtype), torch.zeros(shape, dtype=dtype)
    if layout != LAYOUTS[0]:
        one, zero = (torch.stack([x, x], -1)[..., 0] for x in (one, zero))
    h = recblr.scan(one, zero, values)[:, 0]

    if dtype == torch.float16:
        with np.errstate(over="ignore"):
            wanted = torch.from_numpy(values.numpy().astype(np.float16))
    else:
        wanted = values.bfloat16()
    assert torch.equal(h.isnan(), wanted.isnan())
    same = (h.view(torch.int16) == wanted.view(torch.int16)) | h.isnan() | ((h == 0) & (wanted == 0))
    assert same.all(), f"{values[~same][:5]} became {h[~same][:5]}, not {wanted[~same][:5]}"


def test_the_final_state_and_the_chain_of_states_are_not_rounded() -> None:
    a, b = torch.full((1, 400, 8), 0.999).half(), torch.full((1, 400, 8), 1e-3).half()
    _, final = recblr.scan_with_final(a, b)
    exact = 0.0
    for _ in range(400):
        exact = a[0, 0, 0].item() * exact + b[0, 0, 0].item()
    torch.testing.assert_close(final, torch.full((1, 8), exact), rtol=1e-5, atol=0)
    assert (final.half().float() != final).any()
