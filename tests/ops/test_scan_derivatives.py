"""Derivatives of the scan up to the third order, for every combination of arguments, checked in float64."""

import itertools

import pytest
import torch
from ops.reference import differentiable_recurrence
from torch import Tensor
from torch.autograd import gradcheck, gradgradcheck

import recblr

COMBINATIONS = list(itertools.product((False, True), ("batched", "packed", "single"), (False, True)))


def _arguments(
    kind: str, with_initial: bool, dtype: torch.dtype = torch.float64, device: str = "cpu"
) -> tuple[list[Tensor], Tensor | None]:
    random = torch.Generator().manual_seed(1)
    shape = {"batched": (2, 3, 2), "packed": (4, 2), "single": (3, 2)}[kind]
    offsets = torch.tensor([0, 1, 1, 4], dtype=torch.int32, device=device) if kind == "packed" else None
    sequences = {"batched": 2, "packed": 3, "single": 1}[kind]
    sizes = [shape, shape, (sequences, 2)][: 3 if with_initial else 2]
    tensors = [(torch.rand(size, generator=random, dtype=dtype) - 0.5) * 2 for size in sizes]
    return [x.to(device).requires_grad_() for x in tensors], offsets


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(("with_initial", "kind", "reverse"), COMBINATIONS)
def test_first_and_second_derivatives_are_exact(
    device: str, with_initial: bool, kind: str, reverse: bool, dtype: torch.dtype
) -> None:
    inputs, offsets = _arguments(kind, with_initial, dtype, device)

    def scan(a: Tensor, b: Tensor, initial: Tensor | None = None) -> tuple[Tensor, Tensor]:
        return recblr.scan_with_final(a, b, initial, offsets, reverse)

    assert gradcheck(scan, inputs)
    assert gradgradcheck(scan, inputs)
    # One output alone: that the other one has no gradient shows in any direction.
    assert gradgradcheck(lambda *x: scan(*x)[0], inputs, fast_mode=True)
    assert gradgradcheck(lambda *x: scan(*x)[1], inputs, fast_mode=True)


def test_the_third_derivative_equals_that_of_the_recurrence() -> None:
    (a, b, initial), offsets = _arguments("packed", True)
    assert offsets is not None

    def third(h: Tensor) -> tuple[Tensor, ...]:
        inputs = (a, b, initial)
        first = torch.autograd.grad(h.sin().sum(), inputs, create_graph=True)
        second = torch.autograd.grad(
            sum((g.sin().sum() for g in first), h.new_zeros(())), inputs, create_graph=True
        )
        return torch.autograd.grad(sum((g.sin().sum() for g in second), h.new_zeros(())), inputs)

    got = third(recblr.scan(a, b, initial, offsets, True))
    wanted = third(differentiable_recurrence(a, b, initial, offsets.tolist(), True)[0])
    for g, w in zip(got, wanted, strict=True):
        torch.testing.assert_close(g, w)


@pytest.mark.parametrize("needs", [(True, False), (False, True)])
def test_one_argument_alone_may_need_its_gradient(needs: tuple[bool, bool]) -> None:
    a, b = (torch.rand(2, 3, 4, requires_grad=need) for need in needs)
    recblr.scan(a, b).sum().backward()
    assert (a.grad is not None, b.grad is not None) == needs


def test_gradients_of_empty_arguments_are_empty_or_zero() -> None:
    for shape in ((0, 3, 2), (2, 0, 3), (2, 3, 0)):
        a, b = torch.rand(shape, requires_grad=True), torch.rand(shape, requires_grad=True)
        initial = torch.rand(shape[0], shape[2], requires_grad=True)
        grads = torch.autograd.grad(recblr.scan(a, b, initial).sum(), (a, b, initial), create_graph=True)
        assert [g.shape for g in grads] == [a.shape, b.shape, initial.shape]
        assert (grads[2] == 0).all() or shape[1] > 0
        total = sum((g.sum() for g in grads), torch.zeros(()))
        second = torch.autograd.grad(total, (a, b, initial), allow_unused=True)
        assert all(g is None or (g == 0).all() for g in second)
