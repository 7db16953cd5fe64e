"""The learning rate rises in the warm-up, then is constant or falls, and is never above the given rate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from training.tiny_runs import tiny_config

from recblr.training.learner import FINAL_LEARNING_RATE, learning_rate

SHARES = st.floats(0.0, 1.0)


def test_it_rises_linearly_from_zero() -> None:
    config = tiny_config(learning_rate=0.01, warmup=0.25)
    rates = [learning_rate(config, step / 100, (step + 1) / 100) for step in range(24)]
    assert rates == pytest.approx([0.01 * (step + 1) / 25 for step in range(24)])


@pytest.mark.parametrize("warmup", [0.0, 0.25])
def test_after_the_warm_up_a_constant_rate_stays(warmup: float) -> None:
    config = tiny_config(learning_rate=0.01, warmup=warmup, schedule="constant")
    assert {learning_rate(config, step / 100, (step + 1) / 100) for step in range(25, 100)} == {0.01}


@pytest.mark.parametrize("warmup", [0.0, 0.25])
def test_the_cosine_starts_after_the_warm_up(warmup: float) -> None:
    config = tiny_config(learning_rate=0.01, warmup=warmup)
    middle = (1 + warmup) / 2
    assert learning_rate(config, warmup, warmup + 0.01) == pytest.approx(0.01)
    assert learning_rate(config, middle, middle + 0.01) == pytest.approx(0.01 * (1 + FINAL_LEARNING_RATE) / 2)
    assert learning_rate(config, 1.0, 1.0) == pytest.approx(0.01 * FINAL_LEARNING_RATE)


@given(
    before=SHARES,
    after=SHARES,
    warmup=st.floats(0.0, 1.0, exclude_max=True),
    schedule=st.sampled_from(["cosine", "constant"]),
)
def test_it_is_positive_and_never_above_the_given_rate(
    before: float, after: float, warmup: float, schedule: str
) -> None:
    before, after = sorted((before, after))
    config = tiny_config(learning_rate=0.01, warmup=warmup, schedule=schedule)
    rate = learning_rate(config, before, after)
    assert 0 <= rate <= 0.01 * (1 + 1e-12)
    assert rate > 0 or after < 1e-300
