"""The PyTorch reference, which is used where there is no kernel, gives the results of the native kernels."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import Case, array, assert_close, cases
from ops.reference import recurrence
from torch import Tensor

from recblr.ops.scan import reference_scan, reference_scan_backward, reference_scan_with_final


@settings(deadline=None, max_examples=100)
@given(cases())
def test_forward_equals_the_native_kernel(case: Case) -> None:
    native = torch.ops.recblr.scan_with_final(*case.args)
    got = reference_scan_with_final(*case.args)
    for g, n, wanted, magnitude in zip(
        got, native, recurrence(*case.arrays), recurrence(*case.magnitudes), strict=True
    ):
        assert g.dtype == n.dtype
        assert_close(g, wanted, magnitude, case.b.dtype, case.steps)
        assert_close(g, array(n), magnitude, case.b.dtype, case.steps)
    assert torch.equal(reference_scan(*case.args), got[0])


def _absolute(x: Tensor | None) -> Tensor | None:
    return None if x is None else x.abs().double()


@settings(deadline=None, max_examples=100)
@given(cases(), st.booleans(), st.booleans(), st.integers(0, 99))
def test_backward_equals_the_native_kernel(case: Case, with_grad: bool, with_final: bool, seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    h, final = torch.ops.recblr.scan_with_final(*case.args)
    grad = torch.rand(h.shape, generator=random).to(h.dtype) if with_grad else None
    grad_final = torch.rand(final.shape, generator=random).to(final.dtype) if with_final else None
    tensors = (grad, grad_final, case.a, h, case.initial)

    native = torch.ops.recblr._scan_backward(*tensors, case.offsets, case.reverse)
    got = reference_scan_backward(*tensors, case.offsets, case.reverse)

    absolute = reference_scan_backward(*map(_absolute, tensors), case.offsets, case.reverse)
    for g, n, magnitude in zip(got, native, absolute, strict=True):
        assert (g.dtype, g.shape) == (n.dtype, n.shape)
        assert_close(g, array(n), magnitude.numpy(), case.b.dtype, case.steps)


def test_initial_is_not_written_to() -> None:
    initial = torch.ones(2, 3)
    reference_scan(torch.rand(2, 4, 3), torch.rand(2, 4, 3), initial)
    assert (initial == 1).all()
