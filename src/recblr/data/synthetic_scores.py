"""The scores of the best possible predictors on the synthetic data, calculated exactly.

A predictor that knows the process and the whole history knows the position in each thread. So it knows the
exact probability of every next item. Ranking by these probabilities gives the highest expected value of
every metric here. No item occurs twice for a user, so leaving out the user's items changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recblr.data.dataset import Dataset
from recblr.data.splits import leave_one_out
from recblr.data.synthetic import SyntheticParameters
from recblr.errors import InputError

KS = (1, 5, 10, 20, 50)

# Groups of items that are equally likely: (probability of each item, number of items).
_Groups = Sequence[tuple[float, int]]

_TOKEN = re.compile(r"s([0-9]+)e([0-9]+)|x([0-9]+)")


def best_possible(dataset: Dataset, parameters: SyntheticParameters) -> dict[str, float]:
    """The expected test metrics ("hr@10", "ndcg@10", "mrr@10", …) of a predictor that knows everything.

    The test histories are given; the expectation is over the test targets. The next item of each thread has
    the probability (1 - noise) / threads. The noise items that the user does not have yet share the rest
    equally. So only the number of noise items in a history matters. Raises InputError if the dataset was not
    made with these parameters.
    """
    histories = leave_one_out(dataset).test.histories
    used = histories.count(_is_noise(dataset, parameters)[histories.items])
    each, users = np.unique(used, return_counts=True)
    metrics = [_expected(_given_history(parameters, int(count))) for count in each]
    return _mean(metrics, users)


def last_item_only(dataset: Dataset, parameters: SyntheticParameters) -> dict[str, float]:
    """The expected test metrics of the best predictor that knows the process and only the last item.

    They are exact as well. If the last item is of a series, its successor comes next with the probability
    (1 - noise) / threads. The other threads may be at any position of any other series. After a noise item,
    the predictor knows only that this item will not come again. Raises InputError like best_possible.
    """
    histories = leave_one_out(dataset).test.histories
    after_noise = _is_noise(dataset, parameters)[histories.items[histories.offsets[1:] - 1]]
    metrics = [
        _expected(_given_series_item(parameters)),
        _expected(_given_noise_item(parameters)),
    ]
    return _mean(metrics, np.bincount(after_noise.astype(np.int64), minlength=2))


def _given_history(parameters: SyntheticParameters, noise_used: int) -> _Groups:
    unused = parameters.noise_items - noise_used
    return [_thread(parameters), _shared(parameters.noise, unused)]


def _given_series_item(parameters: SyntheticParameters) -> _Groups:
    probability, _ = _thread(parameters)
    others = (parameters.series - 1) * parameters.series_length
    return [
        (probability, 1),
        _shared(probability * (parameters.threads - 1), others),
        _shared(parameters.noise, parameters.noise_items),
    ]


def _given_noise_item(parameters: SyntheticParameters) -> _Groups:
    return [
        _shared(1.0 - parameters.noise, parameters.series * parameters.series_length),
        _shared(parameters.noise, parameters.noise_items - 1),
    ]


def _thread(parameters: SyntheticParameters) -> tuple[float, int]:
    """The group of the next items of all threads."""
    return (1.0 - parameters.noise) / parameters.threads, parameters.threads


def _shared(probability: float, items: int) -> tuple[float, int]:
    """A group of items that share a probability equally."""
    return (probability / items, items) if items else (0.0, 0)


def _expected(groups: _Groups) -> dict[str, float]:
    """The expected metrics of a ranking by probability: the target has rank r with the r-th probability."""
    ranked = np.zeros(max(KS))
    each = np.repeat([probability for probability, _ in groups], [count for _, count in groups])
    top = np.sort(each)[::-1][: max(KS)]
    ranked[: top.size] = top
    ranks = np.arange(1, max(KS) + 1)
    gains = {"hr": ranked, "ndcg": ranked / np.log2(ranks + 1), "mrr": ranked / ranks}
    return {f"{name}@{k}": float(gain[:k].sum()) for k in KS for name, gain in gains.items()}


def _mean(metrics: Sequence[dict[str, float]], users: npt.NDArray[np.integer]) -> dict[str, float]:
    """The average over users; users[i] is the number of users with metrics[i]."""
    return {key: float(np.average([each[key] for each in metrics], weights=users)) for key in metrics[0]}


def _is_noise(dataset: Dataset, parameters: SyntheticParameters) -> npt.NDArray[np.bool_]:
    """(V,) bool: which items of the catalogue are noise. InputError for an item that is not generated."""
    noise = np.zeros(dataset.num_items, dtype=np.bool_)
    for index, token in enumerate(dataset.item_ids):
        match = _TOKEN.fullmatch(token)
        if match is None or not _is_generated(parameters, match):
            raise InputError(
                f"{dataset.name} has the item {token!r}, which these parameters do not generate",
                "give the parameters that generated the data",
            )
        noise[index] = match[3] is not None
    return noise


def _is_generated(parameters: SyntheticParameters, match: re.Match[str]) -> bool:
    series, episode, noise = match.groups()
    if noise is not None:
        return 1 <= int(noise) <= parameters.noise_items
    return 1 <= int(series) <= parameters.series and 1 <= int(episode) <= parameters.series_length
