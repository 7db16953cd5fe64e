"""Memory layouts of results.  A result has b's layout if b is dense, else it is contiguous.  Fakes agree."""

from collections.abc import Callable

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import Case, cases
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from recblr.ops.scan import reference_scan, reference_scan_backward, reference_scan_with_final


def _fills_memory(x: Tensor) -> bool:
    """Whether the elements have the offsets 0, 1, ..., numel - 1, in some order."""
    places = np.zeros((), np.int64)
    for size, stride in zip(x.shape, x.stride(), strict=True):
        places = np.add.outer(places, np.arange(size) * stride)
    return x.numel() > 0 and bool((np.sort(places, axis=None) == np.arange(x.numel())).all())


def _converted(case: Case, convert: Callable[[Tensor], Tensor]) -> Case:
    a, b, initial, offsets = (None if x is None else convert(x) for x in case.args[:4])
    assert a is not None
    assert b is not None
    return Case(a, b, initial, offsets, case.reverse)


def _on_meta(case: Case) -> Case:
    return _converted(case, lambda x: torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="meta"))


FAKE = FakeTensorMode()


def _like(x: Tensor) -> tuple[torch.dtype, torch.Size, tuple[int, ...]]:
    return x.dtype, x.shape, x.stride()


@settings(deadline=None, max_examples=120)
@given(cases(kinds=("ordinary",)))
def test_the_output_takes_the_layout_of_dense_inputs_and_fakes_agree(case: Case) -> None:
    h, final = torch.ops.recblr.scan_with_final(*case.args)
    expected = case.b.stride() if _fills_memory(case.b) else torch.empty(case.b.shape).stride()
    assert h.stride() == expected
    assert final.is_contiguous()
    meta = _on_meta(case).args
    with FAKE:
        fake = _converted(case, FAKE.from_tensor).args
        pretended = torch.ops.recblr.scan(*fake), torch.ops.recblr.scan_with_final(*fake)
    assert [_like(x) for x in torch.ops.recblr.scan_with_final(*meta)] == [_like(h), _like(final)]
    assert [_like(x) for x in pretended[1]] == [_like(h), _like(final)]
    assert [_like(x) for x in reference_scan_with_final(*case.args)] == [_like(h), _like(final)]
    for only in (
        torch.ops.recblr.scan(*case.args),
        torch.ops.recblr.scan(*meta),
        pretended[0],
        reference_scan(*case.args),
    ):
        assert _like(only) == _like(h)


@settings(deadline=None, max_examples=80)
@given(cases(kinds=("ordinary",)))
def test_gradients_take_the_layout_of_dense_outputs_and_fakes_agree(case: Case) -> None:
    backward = torch.ops.recblr._scan_backward
    real = backward(case.b, None, *case.args)
    expected = case.b.stride() if _fills_memory(case.b) else torch.empty(case.b.shape).stride()
    assert [x.stride() for x in real] == [expected, expected, torch.empty(real[2].shape).stride()]
    meta = _on_meta(case)
    assert [_like(x) for x in backward(meta.b, None, *meta.args)] == [_like(x) for x in real]
    assert [_like(x) for x in reference_scan_backward(case.b, None, *case.args)] == [_like(x) for x in real]


@settings(deadline=None, max_examples=60)
@given(st.permutations([0, 1, 2]), st.tuples(*[st.integers(1, 3)] * 3))
def test_every_permutation_of_dense_axes_is_kept(order: list[int], shape: tuple[int, ...]) -> None:
    inverse = [order.index(axis) for axis in range(3)]
    b = torch.rand([shape[axis] for axis in order]).permute(inverse)
    assert torch.ops.recblr.scan(b, b).stride() == b.stride()
    assert torch.ops.recblr.scan(b.to("meta"), b.to("meta")).stride() == b.to("meta").stride()
