"""The chunked cross entropy equals the plain one, in value and gradients, and never holds the logits."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from recblr.nn.losses import cross_entropy, linear_cross_entropy
from recblr.ops import native
from recblr.ops.training_rows import softmax_gradient_


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


ROWS = st.tuples(
    st.integers(0, 9), st.sampled_from([1, 2, 63, 64, 65, 128, 200]), st.sampled_from([0.1, 10.0, 1e4])
)


@settings(max_examples=60)
@given(ROWS, st.sampled_from([torch.float32, torch.float64]), st.integers(0, 99))
def test_rows_of_logits_become_their_gradients(shape, dtype, seed):
    rows, catalogue, spread = shape
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(rows, catalogue, dtype=dtype, generator=generator).mul_(spread)
    targets = torch.randint(catalogue, (rows,), generator=generator)
    exact = logits.double().requires_grad_()
    expected = F.cross_entropy(exact, targets, reduction="none")
    wanted = torch.autograd.grad(expected.sum(), exact)[0]
    losses = softmax_gradient_(logits, targets)
    assert losses.dtype == dtype
    close = {"rtol": 1e-6, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(losses, expected.detach().to(dtype), **close)
    torch.testing.assert_close(logits, wanted.to(dtype), **close)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_logit_that_is_no_number_makes_the_loss_none(bad):
    logits = torch.randn(1, 100)
    logits[0, 70] = bad
    assert not softmax_gradient_(logits, torch.tensor([3])).isfinite()


def test_a_logit_of_minus_infinity_is_an_item_that_is_never_next():
    logits = torch.zeros(1, 3)
    logits[0, 1] = float("-inf")
    losses = softmax_gradient_(logits, torch.tensor([0]))
    torch.testing.assert_close(losses, torch.tensor([2.0]).log())
    torch.testing.assert_close(logits, torch.tensor([[-0.5, 0.0, 0.5]]))


def test_bits_of_the_rows_do_not_depend_on_threads():
    random, targets = torch.randn(300, 700), torch.randint(700, (300,))
    threads, results = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            logits = random.clone()
            results.append((softmax_gradient_(logits, targets), logits))
    finally:
        torch.set_num_threads(threads)
    for losses, logits in results[1:]:
        assert torch.equal(losses, results[0][0])
        assert torch.equal(logits, results[0][1])


@pytest.mark.skipif(native.status["cpu"] != "native", reason="torch's words differ")
@pytest.mark.parametrize("target", [-1, 7])
def test_a_target_outside_the_catalogue_is_named(target):
    with pytest.raises(ValueError, match=f"targets must lie in 0..6, but one is {target}"):
        linear_cross_entropy(torch.randn(1, 4), torch.randn(7, 4), torch.tensor([target]))


def test_16_bits_work():
    hidden, weight, targets = torch.randn(9, 4), torch.randn(7, 4), torch.randint(7, (9,))
    loss = linear_cross_entropy(hidden.bfloat16(), weight.bfloat16(), targets)
    torch.testing.assert_close(
        loss.float(), F.cross_entropy(hidden @ weight.T, targets), rtol=0.05, atol=0.05
    )


def test_opcheck_passes():
    arguments = torch.randn(5, 7), torch.randint(7, (5,))
    torch.library.opcheck(torch.ops.recblr._softmax_gradient_.default, arguments)
