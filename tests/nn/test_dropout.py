"""Dropout has torch's distribution and gradients, and the same bits for every number of threads."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from recblr.nn.common import Dropout
from recblr.ops.common import native

needs_kernel = pytest.mark.skipif(native.status["cpu"] != "native", reason="needs the native library")


def dropped(size, p=0.2, seed=0, dtype=torch.float32):
    torch.manual_seed(seed)
    return Dropout(p)(torch.ones(size, dtype=dtype))


@given(
    st.sampled_from([(0,), (1,), (63,), (64, 3), (5, 7, 11), (1023,), (1025,), (2, 5000)]),
    st.sampled_from([1e-6, 0.2, 0.5, 0.999]), st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 99),
)  # fmt: skip
def test_an_element_is_zero_or_scaled(shape, p, dtype, seed):
    y = dropped(shape, p, seed, dtype)
    kept = torch.tensor(1 / (1 - p), dtype=dtype)
    assert y.shape == shape
    assert y.dtype == dtype
    torch.testing.assert_close(y, kept * (y != 0))


@pytest.mark.parametrize("p", [0.01, 0.2, 0.5, 0.9])
def test_elements_of_a_block_are_kept_with_the_right_probability_and_independently(p):
    kept = (dropped(2**22, p).view(-1, 128) != 0).double() - (1 - p)
    n, deviation = kept.shape[0], (p * (1 - p)) ** 0.5
    assert kept.mean(0).abs().max() < 5 * deviation / n**0.5
    assert kept.mean().abs() < 5 * deviation / kept.numel() ** 0.5
    together = kept.T @ kept / n / deviation**2 - torch.eye(128, dtype=torch.float64)
    assert together.fill_diagonal_(0).abs().max() < 6 / n**0.5
    later = (kept[:-1] * kept[1:]).mean() / deviation**2
    assert later.abs() < 5 / kept.numel() ** 0.5


def test_two_calls_are_independent():
    torch.manual_seed(0)
    layer, x = Dropout(0.5), torch.ones(2**20)
    first, second = (layer(x) - 1 for _ in range(2))
    assert (first * second).mean().abs() < 5 / 2**10


def test_the_seed_alone_determines_every_bit_for_all_numbers_of_threads():
    threads = torch.get_num_threads()
    try:
        alone = dropped((900, 200))
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            assert torch.equal(dropped((900, 200)), alone)
    finally:
        torch.set_num_threads(threads)
    assert not torch.equal(dropped((900, 200), seed=1), alone)


def test_gradients_of_any_order_pass_where_values_passed():
    x = torch.randn(12, 7, dtype=torch.float64, requires_grad=True)

    def layer(x):
        torch.manual_seed(3)
        return Dropout(0.3)(x)

    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(lambda x: layer(x) ** 2, x)
    expanded = torch.autograd.grad(layer(x).sum(), x)[0]  # its cotangent has strides of 0
    torch.testing.assert_close(expanded, (layer(torch.ones_like(x))).detach())


def test_strides_do_not_matter():
    x = torch.rand(6, 5, 4)
    torch.manual_seed(1)
    expected = Dropout(0.5)(x)
    torch.manual_seed(1)
    assert torch.equal(Dropout(0.5)(x.transpose(0, 2).contiguous().transpose(0, 2)), expected)


@pytest.mark.parametrize("p", [0.0, 1.0])
def test_p_of_0_and_1_gives_what_torch_gives(p):
    x = torch.randn(9)
    assert torch.equal(Dropout(p)(x), torch.nn.Dropout(p)(x))
    assert torch.equal(Dropout(p).eval()(x), x)


def test_it_works_under_transforms_and_in_16_bits():
    layer, x = Dropout(0.5), torch.ones(64, 3)
    assert torch.compile(layer, fullgraph=True, backend="aot_eager")(x).unique().numel() == 2
    assert torch.vmap(layer, randomness="different")(x).unique().numel() == 2
    assert torch.func.grad(lambda x: layer(x).sum())(x).unique().numel() == 2
    assert make_fx(layer)(x)(x).unique().numel() == 2
    with FakeTensorMode():
        assert layer(torch.ones(5, 2)).shape == (5, 2)
    exported = torch.export.export(layer, (x,)).module()
    assert exported(x).unique().numel() == 2
    assert layer(x.bfloat16()).dtype == torch.bfloat16
    assert layer(torch.ones(3, device="meta")).shape == (3,)


@needs_kernel
def test_wrong_arguments_are_named():
    drop = torch.ops.recblr._dropout
    for arguments, words in (
        ((torch.ones(4), 0, 1.0), r"p must lie in \[0, 1\), but is 1"),
        ((torch.ones(4, 5).T, 0, 0.5), "x must be contiguous"),
        ((torch.ones(4, dtype=torch.int64), 0, 0.5), "x must be float32 or float64, but is int64"),
    ):
        with pytest.raises((ValueError, RuntimeError), match=f"_dropout: {words}"):
            drop(*arguments)


@needs_kernel
def test_opcheck_passes():
    torch.library.opcheck(torch.ops.recblr._dropout.default, (torch.rand(5, 3), 1, 0.5))
