"""How sure a difference between two models is: a bootstrap over the users whom both have ranked."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from recblr.errors import InputError

RESAMPLES = 10_000
_DRAWS = 2**22
"""The most users that are drawn at a time, so that many resamples of many users need little memory."""


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
    generator = np.random.default_rng(seed)
    means = np.empty(resamples)
    rows = max(1, _DRAWS // gains.size)
    for start in range(0, resamples, rows):
        part = means[start : start + rows]
        part[:] = gains[generator.integers(gains.size, size=(part.size, gains.size))].mean(1)
    low, high = np.quantile(means, (0.025, 0.975))
    against = min((means <= 0).sum(), (means >= 0).sum())
    p_value = min(1.0, 2 * (1 + int(against)) / (resamples + 1))
    return Difference(float(gains.mean()), float(low), float(high), p_value)
