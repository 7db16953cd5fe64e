"""The PyTorch reference, which serves where no kernel does, gives what the native kernels give."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import Case, assert_close, cases
from ops.reference import recurrence
from torch import Tensor

from recblr.ops import reference


@settings(deadline=None, max_examples=100)
@given(cases())
def test_forward_is_the_native_one(case: Case) -> None:
    native = torch.ops.recblr.scan(*case.args)
    got = reference.scan(*case.args)
    assert got.dtype == native.dtype
    magnitude = recurrence(*case.magnitudes)
    assert_close(got, recurrence(*case.arrays), magnitude, case.b.dtype, case.steps)
    assert_close(got, native.double().numpy(), magnitude, case.b.dtype, case.steps)


def _absolute(x: Tensor) -> Tensor:
    return x.double().abs()


@settings(deadline=None, max_examples=100)
@given(cases(), st.integers(0, 99))
def test_backward_is_the_native_one(case: Case, seed: int) -> None:
    grad = torch.rand(case.b.shape, generator=torch.Generator().manual_seed(seed)).to(case.b.dtype)
    h = torch.ops.recblr.scan(*case.args)
    arguments = (case.a, h, case.initial, case.offsets, case.reverse)

    native = torch.ops.recblr._scan_backward(grad, *arguments)
    got = reference.scan_backward(grad, *arguments)

    initial = None if case.initial is None else _absolute(case.initial)
    absolute = reference.scan_backward(
        _absolute(grad), _absolute(case.a), _absolute(h), initial, case.offsets, case.reverse
    )
    for g, n, magnitude in zip(got, native, absolute, strict=True):
        assert (g.dtype, g.shape) == (n.dtype, n.shape)
        assert_close(g, n.double().numpy(), magnitude.numpy(), case.b.dtype, case.steps)


def test_initial_is_not_written_to() -> None:
    initial = torch.ones(2, 3)
    reference.scan(torch.rand(2, 4, 3), torch.rand(2, 4, 3), initial)
    assert (initial == 1).all()
