"""The paired bootstrap and the sign-flip test, against exact answers and a t-test's normal limit."""

from itertools import product
from math import erf, sqrt

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from recblr.errors import InputError
from recblr.evaluation import mean_interval, paired_bootstrap, users_metric
from recblr.evaluation.bootstrap import _DRAWS


def test_equal_models_differ_by_nothing():
    figures = np.random.default_rng(0).random(50)
    found = paired_bootstrap(figures, figures, resamples=200)
    assert (found.mean, found.low, found.high) == (0, 0, 0)
    assert (found.p_value, found.bootstrap_p_value, found.differ) == (1, 1, 0)


def test_a_gain_of_every_user_has_the_least_p_value():
    figures = np.random.default_rng(0).random(50)
    found = paired_bootstrap(figures + 0.25, figures, resamples=999)
    assert (found.mean, found.low) == pytest.approx((0.25, 0.25))
    assert (found.p_value, found.bootstrap_p_value) == pytest.approx((1 / 1000, 2 / 1000))
    assert (found.differ, found.resamples) == (50, 999)


def exact(gains):
    """The p-value of the sign-flip test, from all signs."""
    size = abs(gains.sum()) - 1e-9
    sums = [abs(np.dot(signs, gains)) for signs in product((-1, 1), repeat=gains.size)]
    return np.mean([each >= size for each in sums])


@pytest.mark.parametrize(
    "gains", [[1], [1, 1, 1], [1] * 5, [0.5, 0.5, -0.25], [0.1, 0.2, 0.3, -0.1, 0.7, 1, 1, -0.2]]
)
def test_few_users_who_differ_have_the_exact_p_value(gains):
    gains = np.array(gains, np.float64)
    first = np.concatenate([gains, np.zeros(1000)])
    found = paired_bootstrap(first, np.zeros(first.size))
    assert found.differ == gains.size
    assert found.p_value == pytest.approx(exact(gains), abs=0.02)


@pytest.mark.parametrize("shift", [0.0, 0.05, 0.1])
def test_many_users_agree_with_the_normal_limit(shift):
    generator = np.random.default_rng(3)
    second = generator.random(2000)
    first = second + generator.normal(shift, 1.0, 2000)
    gains = first - second
    found = paired_bootstrap(first, second, resamples=20_000)
    error = gains.std() / sqrt(gains.size)
    z = abs(gains.mean()) / error
    assert found.mean == pytest.approx(gains.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.03)
    for p_value in (found.p_value, found.bootstrap_p_value):
        assert p_value == pytest.approx(1 - erf(z / sqrt(2)), abs=0.02)


@settings(max_examples=25)
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=60), st.integers(0, 5))
@example([-1, 0, 1, 1, 1] * 8, 0)
def test_the_other_order_mirrors_the_difference(gains, seed):
    first = np.array(gains, np.float64)
    zero = np.zeros_like(first)
    ours = paired_bootstrap(first, zero, resamples=64, seed=seed)
    theirs = paired_bootstrap(zero, first, resamples=64, seed=seed)
    assert (theirs.mean, theirs.p_value) == (-ours.mean, ours.p_value)
    assert theirs.bootstrap_p_value == ours.bootstrap_p_value
    assert (theirs.low, theirs.high) == pytest.approx((-ours.high, -ours.low))
    assert ours.low <= ours.high
    assert 0 < ours.p_value <= 1


@pytest.mark.parametrize("gains", [np.ones(_DRAWS + 1), np.linspace(1, 2, _DRAWS + 1)])
def test_users_beyond_one_draw_are_all_counted(gains):
    found = paired_bootstrap(gains, np.zeros_like(gains), resamples=2)
    assert found.low == pytest.approx(gains.mean(), abs=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_few_and_many_different_figures_have_the_same_interval(seed):
    ranks = np.random.default_rng(seed).integers(1, 25, 3000)
    figures = users_metric(ranks, "ndcg", 10)  # 11 different figures
    noise = np.random.default_rng(seed).normal(0, 1e-9, figures.size)  # 3,000 different ones
    few, many = mean_interval(figures), mean_interval(figures + noise)
    error = figures.std() / sqrt(figures.size)
    assert few == pytest.approx(many, abs=0.06 * error)
    assert few == pytest.approx(
        (figures.mean() - 1.96 * error, figures.mean() + 1.96 * error), abs=0.08 * error
    )
    assert mean_interval(figures) == few


def test_the_interval_of_figures_that_are_all_equal_is_their_value():
    assert mean_interval(np.full(100, 0.25)) == (0.25, 0.25)
    assert mean_interval(np.array([0.25])) == (0.25, 0.25)
    with pytest.raises(InputError, match="no users"):
        mean_interval(np.zeros(0))


def test_a_metric_of_each_user():
    ranks = np.array([1, 2, 10, 11])
    np.testing.assert_array_equal(users_metric(ranks, "hr", 10), [1, 1, 1, 0])
    np.testing.assert_allclose(users_metric(ranks, "ndcg", 10), [1, 1 / np.log2(3), 1 / np.log2(11), 0])
    np.testing.assert_allclose(users_metric(ranks, "mrr", 10), [1, 1 / 2, 1 / 10, 0])


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(InputError, match="no users"):
        paired_bootstrap(np.zeros(0), np.zeros(0))
    with pytest.raises(ValueError, match="one figure for each user"):
        paired_bootstrap(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="resamples"):
        paired_bootstrap(np.zeros(2), np.zeros(2), resamples=0)
