"""How sure a figure is, and a difference between two models: a bootstrap over the users."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recblr.errors import InputError

RESAMPLES = 10_000
_DRAWS = 2**22
"""The most users that are drawn at a time, so that many resamples of many users need little memory."""
_INTERVAL = 0.025, 0.975


@dataclass(frozen=True)
class Difference:
    """The mean difference of a metric between two models.

    low, high: the 95 % interval of the mean over resamples of the users.
    p_value: two-sided: how often the resamples contradict the sign of the difference.
    """

    mean: float
    low: float
    high: float
    p_value: float


def paired_bootstrap(
    first: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """The difference first - second of a metric, and how sure it is (Efron and Tibshirani, 1993, chapter 16).

    first, second: (S,) float64, the metric of each user under each model, for the same users in one order.
    resamples: how often S users are drawn with replacement.

    The p-value is twice the smaller share of resamples whose mean is at most 0 or at least 0.  Both counts
    start at 1, so it is never 0: the least is 2 / (resamples + 1).

    Raises InputError if there are no users, and ValueError if the shapes differ or resamples is below 1.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"both must have one figure a user, but have shapes {first.shape} and {second.shape}"
        )
    if not first.size:
        raise InputError("there are no users to compare the models on", "evaluate at least one")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, but is {resamples}")
    gains = first - second
    means = _resampled_means(gains, resamples, seed)
    low, high = np.quantile(means, _INTERVAL)
    against = min((means <= 0).sum(), (means >= 0).sum())
    p_value = min(1.0, 2 * (1 + int(against)) / (resamples + 1))
    return Difference(float(gains.mean()), float(low), float(high), p_value)


def mean_interval(
    figures: npt.NDArray[np.float64], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[float, float]:
    """The 95 % interval of the mean of a metric over resamples of the users.

    figures: (S,) float64, the metric of each user, such as `users_metric` gives it.
    resamples: how often S users are drawn with replacement.

    Raises InputError if there are no users.
    """
    if not figures.size:
        raise InputError("there are no users to resample", "evaluate at least one")
    low, high = np.quantile(_resampled_means(figures, resamples, seed), _INTERVAL)
    return float(low), float(high)


def _resampled_means(figures: npt.NDArray[np.float64], resamples: int, seed: int) -> npt.NDArray[np.float64]:
    """(resamples,) the mean of S figures that are drawn with replacement from figures (S,)."""
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    values, first, counts = np.unique(figures, return_index=True, return_counts=True)
    size = figures.size
    if 4 * values.size < size:
        # Few different figures: how often each is drawn takes less time than drawing the users one by one.
        # Their order must not depend on their sign, so that two models in the other order mirror each other.
        order = np.argsort(first)
        values, counts = values[order], counts[order]
        rows = max(1, _DRAWS // values.size)
        for start in range(0, resamples, rows):
            part = means[start : start + rows]
            part[:] = generator.multinomial(size, counts / size, part.size) @ values / size
        return means
    rows = max(1, _DRAWS // size)
    for start in range(0, resamples, rows):
        part = means[start : start + rows]
        part[:] = figures[generator.integers(size, size=(part.size, size))].mean(1)
    return means
