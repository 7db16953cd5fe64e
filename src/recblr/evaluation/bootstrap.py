"""How sure a figure is, and a difference between two models, by drawing users and by flipping signs."""

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
    p_value: two-sided, by a sign-flip test: how often chance alone gives a difference as large.
    bootstrap_p_value: two-sided, by the resamples: how often they contradict the sign of the difference.
    differ: the number of users whose figures differ.
    resamples: how many resamples and sign flips were drawn.
    """

    mean: float
    low: float
    high: float
    p_value: float
    bootstrap_p_value: float
    differ: int
    resamples: int


def paired_bootstrap(
    first: npt.NDArray[np.float64],
    second: npt.NDArray[np.float64],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference:
    """The difference first - second of a metric, and how sure it is.

    first, second: (S,) float64, the metric of each user under each model, for the same users in one order.
    resamples: how often S users are drawn with replacement, and how often signs are flipped.

    The interval is that of the percentile bootstrap (Efron and Tibshirani, 1993, chapter 13).  If fewer than
    about 20 users differ, it is too narrow, and so is the p-value of the bootstrap.

    The sign-flip test (Fisher, 1935) holds for any number of users.  If both models were equally good, each
    user's difference could as well have the other sign.  So it flips signs at random, and counts how often
    the mean is at least as far from 0.

    The p-value of the bootstrap is twice the smaller share of resamples whose mean is at most 0 or at least
    0.  All counts start at 1, so no p-value is 0: the least is 1 / (resamples + 1), and twice that for the
    bootstrap.

    Raises InputError if there are no users, and ValueError if the shapes differ or resamples is below 1.
    """
    first, second = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(
            f"both must have one figure for each user, but have shapes {first.shape} and {second.shape}"
        )
    if not first.size:
        raise InputError("there are no users to compare the models on", "evaluate at least one")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, but is {resamples}")
    gains = first - second
    means = _resampled_means(gains, resamples, seed)
    low, high = np.quantile(means, _INTERVAL)
    against = min((means <= 0).sum(), (means >= 0).sum())
    as_large = abs(gains.sum()) - 1e-9 * np.abs(gains).sum()  # equal sums may differ by rounding
    as_far = (np.abs(_flipped_sums(gains, resamples, seed)) >= as_large).sum()
    return Difference(
        float(gains.mean()),
        float(low),
        float(high),
        p_value=(1 + int(as_far)) / (resamples + 1),
        bootstrap_p_value=min(1.0, 2 * (1 + int(against)) / (resamples + 1)),
        differ=int(np.count_nonzero(np.abs(gains) > 1e-12)),  # means over seeds may differ by rounding
        resamples=resamples,
    )


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


def _flipped_sums(gains: npt.NDArray[np.float64], resamples: int, seed: int) -> npt.NDArray[np.float64]:
    """(resamples,) the sum of the gains, each with a random sign."""
    generator = np.random.default_rng(seed)
    sizes, counts = np.unique(np.abs(gains[gains != 0]), return_counts=True)
    sums = np.zeros(resamples)
    rows = max(1, _DRAWS // max(1, sizes.size))
    for start in range(0, resamples, rows):
        part = sums[start : start + rows]
        # Of equal gains, it only matters how many stay positive.
        part[:] = (2 * generator.binomial(counts, 0.5, (part.size, sizes.size)) - counts) @ sizes
    return sums
