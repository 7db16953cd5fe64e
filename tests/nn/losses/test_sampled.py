"""Losses with negatives: values and gradients of the papers' formulas, and the sampled softmax's estimate."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from nn.losses import plain
from nn.losses.histories import held_items, some_repeats
from torch import Tensor

from recblr.nn.losses import Proposal, bpr_loss, gbce_beta, gbce_bias, gbce_loss, sampled_softmax_loss

Loss = Callable[..., Tensor]


def log_q(catalogue: int) -> Tensor:
    """The logarithm of q for a proposal that prefers the last items."""
    return torch.arange(1, catalogue + 1, dtype=torch.float64).log_softmax(0)


# For each loss: the function, its plain formula, and a function that makes the arguments after the four
# common ones from the size of the catalogue.
LOSSES: dict[str, tuple[Loss, Loss, Callable[[int], tuple[Any, ...]]]] = {
    "bpr": (bpr_loss, plain.bpr, lambda _: ()),
    "gbce": (gbce_loss, plain.gbce, lambda _: (0.3,)),
    "gbce with a bias": (gbce_loss, plain.gbce, lambda _: (0.3, -1.5)),
    "sampled softmax": (sampled_softmax_loss, plain.sampled_softmax, lambda size: (log_q(size),)),
}


def problem(rows: int, catalogue: int, negatives: int, seed: int, spread: float = 1.0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(rows, 3, dtype=torch.float64, generator=generator).mul_(spread).requires_grad_()
    weight = torch.randn(catalogue, 3, dtype=torch.float64, generator=generator).requires_grad_()
    targets = torch.randint(catalogue, (rows,), generator=generator)
    return hidden, weight, targets, torch.randint(catalogue, (negatives,), generator=generator)


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=25)
@given(
    rows=st.integers(1, 6), catalogue=st.integers(1, 8), negatives=st.integers(1, 9),
    spread=st.sampled_from([0.1, 1.0, 5.0]), seed=st.integers(0, 99),
)  # fmt: skip
def test_value_and_gradients_equal_the_plain_formula(
    name: str, rows: int, catalogue: int, negatives: int, spread: float, seed: int
) -> None:
    loss, formula, more = LOSSES[name]
    hidden, weight, targets, drawn = problem(rows, catalogue, negatives, seed, spread)
    ours = loss(hidden, weight, targets, drawn, *more(catalogue))
    expected = formula(hidden, weight, targets, drawn, *more(catalogue))
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(
        torch.autograd.grad(ours, (hidden, weight)),
        torch.autograd.grad(expected, (hidden, weight)),
    )


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=25)
@given(
    rows=st.integers(1, 9), catalogue=st.integers(1, 8), negatives=st.integers(1, 9),
    every_event=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_bias_is_added_for_items_that_a_user_already_has(
    name: str, rows: int, catalogue: int, negatives: int, every_event: bool, seed: int
) -> None:
    """The bias equals one more axis for each item, on which a row is 1 if its user has the item."""
    loss, _, more = LOSSES[name]
    hidden, weight, targets, drawn = problem(rows, catalogue, negatives, seed)
    repeats = some_repeats(rows, catalogue, seed, torch.float64, every_event)
    ours = loss(hidden, weight, targets, drawn, *more(catalogue), repeats=repeats)
    axes = torch.eye(catalogue, dtype=torch.float64)
    longer = torch.cat([hidden, held_items(repeats, rows, catalogue)], 1)
    expected = loss(longer, torch.cat([weight, repeats.bias * axes], 1), targets, drawn, *more(catalogue))
    torch.testing.assert_close(ours, expected)
    wanted = (hidden, weight, repeats.bias)
    torch.testing.assert_close(
        torch.autograd.grad(ours, wanted, allow_unused=True, materialize_grads=True),
        torch.autograd.grad(expected, wanted, allow_unused=True, materialize_grads=True),
    )


@pytest.mark.parametrize("name", LOSSES)
def test_gradcheck(name: str) -> None:
    loss, _, more = LOSSES[name]
    hidden, weight, targets, drawn = problem(4, 6, 5, seed=1)
    assert targets.unsqueeze(1).eq(drawn).any()  # at least one negative is a target
    assert torch.autograd.gradcheck(lambda h, w: loss(h, w, targets, drawn, *more(6)), (hidden, weight))


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_scores_give_finite_losses_and_gradients(name: str) -> None:
    loss, _, more = LOSSES[name]
    for scale in (1e4, -1e4):
        hidden = torch.full((2, 3), scale, requires_grad=True)
        weight = torch.tensor([[1.0, 0, 0], [-1, 0, 0], [0, 1, 0]], requires_grad=True)
        value = loss(hidden, weight, torch.tensor([0, 1]), torch.tensor([1, 2, 0]), *more(3))
        gradients = torch.autograd.grad(value, (hidden, weight))
        assert all(bool(t.isfinite().all()) for t in (value, *gradients))


@pytest.mark.parametrize("name", LOSSES)
def test_the_loss_of_no_rows_is_zero(name: str) -> None:
    loss, _, more = LOSSES[name]
    weight = torch.randn(4, 3, requires_grad=True)
    value = loss(torch.zeros(0, 3), weight, torch.zeros(0, dtype=torch.long), torch.tensor([1]), *more(4))
    value.backward()
    assert value == 0
    assert weight.grad is not None
    assert not weight.grad.any()


@pytest.mark.parametrize("name", LOSSES)
def test_negatives_that_equal_the_target_do_not_count(name: str) -> None:
    loss, _, more = LOSSES[name]
    hidden, weight, targets, _ = problem(1, 4, 1, seed=0)
    value = loss(hidden, weight, targets, targets.repeat(3), *more(4))
    target = hidden[0] @ weight[targets[0]]
    alone = {
        "gbce": 0.3 * F.softplus(-target).item(),
        "gbce with a bias": 0.3 * F.softplus(1.5 - target).item(),
    }
    assert value.item() == pytest.approx(alone.get(name, 0.0))


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    ("targets", "negatives", "says"),
    [
        ([0], [1], r"targets must be \(N,\)"),
        ([[0, 1]], [1], r"targets must be \(N,\)"),
        ([0, 1], [], r"negatives must be \(K,\) with K >= 1, but is \(0,\)"),
        ([0, 1], [[1]], r"negatives must be \(K,\)"),
    ],
)
def test_other_shapes_are_refused(name: str, targets: Any, negatives: Any, says: str) -> None:
    loss, _, more = LOSSES[name]
    with pytest.raises(ValueError, match=says):
        loss(
            torch.zeros(2, 3),
            torch.zeros(4, 3),
            torch.tensor(targets),
            torch.tensor(negatives, dtype=torch.long),
            *more(4),
        )


def test_log_probabilities_of_another_catalogue_are_refused() -> None:
    with pytest.raises(ValueError, match=r"log_q must be \(4,\), one for each item, but is \(3,\)"):
        sampled_softmax_loss(
            torch.zeros(1, 3), torch.zeros(4, 3), torch.tensor([0]), torch.tensor([1]), log_q(3)
        )


@pytest.mark.parametrize("proposal", [Proposal.uniform(20), Proposal(torch.arange(1.0, 21.0))])
def test_the_mean_of_the_sampled_normaliser_is_that_of_the_catalogue(proposal: Proposal) -> None:
    hidden, weight, targets, _ = problem(3, 20, 1, seed=3)
    generator = torch.Generator().manual_seed(0)
    target = (hidden * weight[targets]).sum(1)
    sums = []
    for _ in range(1000):
        drawn = proposal.draw(4, generator)
        rows = [
            sampled_softmax_loss(hidden[n : n + 1], weight, targets[n : n + 1], drawn, proposal.log_q)
            for n in range(3)
        ]
        sums.append((torch.stack(rows) + target).exp().detach())
    found, spread = torch.stack(sums).mean(0), torch.stack(sums).std(0) / math.sqrt(1000)
    expected = (hidden @ weight.mT).exp().sum(1)
    assert bool(((found - expected).abs() < 4 * spread).all())


@pytest.mark.parametrize("proposal", [Proposal.uniform(20), Proposal(torch.arange(1.0, 21.0))])
def test_the_sampled_softmax_converges_to_the_full_one(proposal: Proposal) -> None:
    hidden, weight, targets, _ = problem(5, 20, 1, seed=3)
    generator = torch.Generator().manual_seed(0)
    full = F.cross_entropy(hidden @ weight.mT, targets)
    expected = torch.cat([g.flatten() for g in torch.autograd.grad(full, (hidden, weight))])
    errors = []
    for count in (10, 1000, 100_000):
        drawn = proposal.draw(count, generator)
        ours = sampled_softmax_loss(hidden, weight, targets, drawn, proposal.log_q)
        found = torch.cat([g.flatten() for g in torch.autograd.grad(ours, (hidden, weight))])
        errors.append(float((found - expected).norm() / expected.norm()))
    # The error falls with the square root of K, and K grows by a factor of 100 each time.
    assert errors[1] < errors[0] / 3
    assert errors[2] < errors[1] / 3
    assert errors[2] < 0.01


def test_calibration_goes_from_plain_cross_entropy_to_the_sampling_rate() -> None:
    assert gbce_beta(10, 101, t=0.0) == 1.0
    assert gbce_beta(10, 101, t=1.0) == pytest.approx(0.1)
    assert gbce_beta(10, 101, t=0.75) == pytest.approx(0.1 * (0.75 * (1 - 1 / 0.1) + 1 / 0.1))
    # With more negatives than items, every item is sampled, and beta corrects nothing.
    assert gbce_beta(500, 101, t=0.75) == 1.0
    assert gbce_beta(1, 1, t=1.0) == 1.0


@pytest.mark.parametrize("t", [0.0, 0.75, 1.0])
def test_the_bias_minimises_the_loss_if_all_items_are_equally_likely(t: float) -> None:
    items = 129
    every, hidden = torch.arange(items), torch.ones(items, 1, dtype=torch.float64)
    weight = torch.zeros(items, 1, dtype=torch.float64, requires_grad=True)
    beta = gbce_beta(16, items, t)  # any beta works, because here every other item is a negative
    for bias, least in ((gbce_bias(beta, items - 1), True), (0.0, False)):
        (gradient,) = torch.autograd.grad(gbce_loss(hidden, weight, every, every, beta, bias), weight)
        assert bool((gradient.abs() < 1e-12).all()) == least
    assert gbce_bias(gbce_beta(16, items, 1.0), 16) == pytest.approx(-math.log(items - 1))


def test_a_proposal_draws_in_proportion_to_its_log_q() -> None:
    proposal = Proposal.popularity(torch.tensor([2, 2, 2, 0]), 4)
    q = torch.tensor([2, 1, 4, 1]) / 8
    torch.testing.assert_close(proposal.log_q.exp(), q)
    drawn = proposal.draw(80_000, torch.Generator().manual_seed(0))
    torch.testing.assert_close(torch.bincount(drawn, minlength=4) / 80_000, q, rtol=0, atol=0.01)
    torch.testing.assert_close(Proposal.uniform(5).log_q.exp(), torch.full((5,), 0.2))


@settings(max_examples=30)
@given(size=st.integers(1, 50), seed=st.integers(0, 99), steep=st.sampled_from([0.0, 1.0, 30.0]))
def test_a_proposal_never_leaves_the_catalogue(size: int, seed: int, steep: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    proposal = Proposal((steep * torch.rand(size, generator=generator)).exp())
    drawn = proposal.draw(1000, generator)
    assert 0 <= int(drawn.min()) <= int(drawn.max()) < size


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ([], "with V >= 1"),
        ([[1.0]], r"weights must be \(V,\)"),
        ([1.0, 0.0], "weights must be positive numbers"),
        ([1.0, math.nan], "weights must be positive numbers"),
        ([1.0, math.inf], "weights must be positive numbers"),
        ([1.0, -1.0], "weights must be positive numbers"),
    ],
)
def test_a_proposal_must_give_every_item_a_positive_probability(weights: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Proposal(torch.tensor(weights))
