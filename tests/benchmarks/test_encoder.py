"""The encoders are causal, and the counted FLOPs agree with a count by hand."""

from __future__ import annotations

import pytest
import torch
from benchmarks.harness import encoder

ROWS, STEPS, WIDTH = 2, 8, encoder.WIDTH


@pytest.mark.parametrize("name", encoder.ENCODERS)
def test_an_output_depends_on_no_later_input(name: str) -> None:
    model, x = encoder.ENCODERS[name](STEPS), torch.randn(1, STEPS, WIDTH, requires_grad=True)
    model(x)[0, 3].square().sum().backward()
    assert x.grad is not None
    assert x.grad[0, :4].abs().amin(-1).all()
    assert not x.grad[0, 4:].any()


@pytest.mark.parametrize(("name", "inner"), [(encoder.PEER, 4 * WIDTH), (encoder.NARROW, WIDTH)])
def test_operations_of_attention_are_its_matrix_products(name: str, inner: int) -> None:
    weights = 3 * WIDTH * WIDTH + WIDTH * WIDTH + 2 * WIDTH * inner
    products = 2 * ROWS * STEPS * weights * 3  # forward; backward to the inputs, and to the weights
    pairs = ROWS * STEPS * (STEPS + 1) / 2
    attention = 2 * pairs * WIDTH * (2 + 5)
    expected = encoder.DEPTH * (products + attention)
    model = encoder.ENCODERS[name](STEPS)
    assert encoder.operations(model, *encoder.arguments(ROWS, STEPS)) == expected


def test_our_operations_are_matrix_products_and_a_few_per_element() -> None:
    inner = 2 * WIDTH
    weights = 2 * WIDTH * inner + 2 * inner * inner + inner * WIDTH + 2 * WIDTH * 4 * WIDTH
    products = 2 * ROWS * STEPS * weights * 3 * encoder.DEPTH
    counted = encoder.operations(encoder.ENCODERS[encoder.OURS](STEPS), *encoder.arguments(ROWS, STEPS))
    elements = encoder.DEPTH * ROWS * STEPS * inner
    assert counted - products == elements * 3 * encoder.ELEMENTWISE


def test_a_batch_has_about_as_many_events_at_every_length() -> None:
    for case in encoder.cases(quick=False):
        assert case["B"] * case["T"] == pytest.approx(encoder.EVENTS, rel=0.05)
