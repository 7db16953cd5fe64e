"""The chunked cross entropy equals the plain one, in value and gradients, and never holds the logits."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from recblr.nn.losses import cross_entropy, linear_cross_entropy


@settings(max_examples=40)
@given(
    rows=st.integers(1, 40), catalogue=st.integers(1, 30), width=st.integers(1, 6),
    chunk=st.integers(1, 200), spread=st.sampled_from([0.1, 1.0, 300.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_value_and_gradients_equal_the_plain_loss(rows, catalogue, width, chunk, spread, seed):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, width, dtype=torch.float64, generator=generator).mul_(spread).requires_grad_()
    weight = torch.randn(catalogue, width, dtype=torch.float64, generator=generator).requires_grad_()
    targets = torch.randint(catalogue, (rows,), generator=generator)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cross_entropy, "CHUNK_ELEMENTS", chunk)
        patch.setattr(cross_entropy, "MIN_CHUNK_ROWS", 1)
        ours = linear_cross_entropy(hidden, weight, targets)
        got = torch.autograd.grad(2 * ours, (hidden, weight))
    plain = F.cross_entropy(hidden @ weight.T, targets)
    torch.testing.assert_close(ours, plain)
    torch.testing.assert_close(got, torch.autograd.grad(2 * plain, (hidden, weight)))


def test_no_rows_cost_nothing():
    hidden, weight = torch.zeros(0, 3, requires_grad=True), torch.randn(4, 3, requires_grad=True)
    loss = linear_cross_entropy(hidden, weight, torch.zeros(0, dtype=torch.long))
    loss.backward()
    assert loss == 0
    assert not weight.grad.any()


def test_only_a_chunk_of_logits_exists_at_a_time():
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            nonlocal largest
            out = function(*args, **(kwargs or {}))
            if isinstance(out, torch.Tensor):
                largest = max(largest, out.numel())
            return out

    hidden, weight = torch.randn(4096, 4, requires_grad=True), torch.randn(5000, 4, requires_grad=True)
    with Watch():
        linear_cross_entropy(hidden, weight, torch.randint(5000, (4096,))).backward()
    assert largest <= cross_entropy.CHUNK_ELEMENTS < 4096 * 5000


def test_without_gradients_none_are_computed():
    hidden, weight, targets = torch.randn(9, 4), torch.randn(7, 4), torch.randint(7, (9,))
    with torch.no_grad():
        loss = linear_cross_entropy(hidden, weight, targets)
    torch.testing.assert_close(loss, F.cross_entropy(hidden @ weight.T, targets))
    assert not loss.requires_grad
