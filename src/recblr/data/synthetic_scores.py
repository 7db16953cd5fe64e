"""What the best possible predictor of the synthetic data scores, by calculation rather than by drawing.

A predictor that knows the process and the whole history knows where each thread is, so the chances of
the next item are known exactly; ranking by them is the best there is, for every metric here. As no item
recurs for a user, hiding the items that a user has had changes nothing.
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

# Chances as (chance of each item, number of such items).
_Chances = Sequence[tuple[float, int]]

_TOKEN = re.compile(r"s([0-9]+)e([0-9]+)|x([0-9]+)")


def best_possible(dataset: Dataset, parameters: SyntheticParameters) -> dict[str, float]:
    """The expected test metrics ("hr@10", "ndcg@10", "mrr@10", …) of a predictor that knows everything.

    The expectation is over the test targets, given the test histories in the dataset and the process. A
    thread's next item has chance (1 - noise) / threads, whichever it is, and each noise item that the
    user has not had yet an equal share of the rest; so of a history only the number of its noise items
    matters. Raises InputError where the dataset is not of these parameters.
    """
    histories = leave_one_out(dataset).test.histories
    used = histories.count(_is_noise(dataset, parameters)[histories.items])
    each, users = np.unique(used, return_counts=True)
    metrics = [_expected(_given_history(parameters, int(count))) for count in each]
    return _mean(metrics, users)


def last_item_only(dataset: Dataset, parameters: SyntheticParameters) -> dict[str, float]:
    """The expected test metrics of the best predictor that knows the process and sees the last item only.

    Exact too, given each test history's last item. After an item of a series, that series goes on with
    chance (1 - noise) / threads; the other threads may be anywhere in any other series. After a noise item
    nothing is known but that it will not come again. Raises InputError like best_possible.
    """
    histories = leave_one_out(dataset).test.histories
    after_noise = _is_noise(dataset, parameters)[histories.items[histories.offsets[1:] - 1]]
    metrics = [
        _expected(_given_series_item(parameters)),
        _expected(_given_noise_item(parameters)),
    ]
    return _mean(metrics, np.bincount(after_noise.astype(np.int64), minlength=2))


def _given_history(parameters: SyntheticParameters, noise_used: int) -> _Chances:
    unused = parameters.noise_items - noise_used
    return [_thread(parameters), _shared(parameters.noise, unused)]


def _given_series_item(parameters: SyntheticParameters) -> _Chances:
    chance, _ = _thread(parameters)
    others = (parameters.series - 1) * parameters.series_length
    return [
        (chance, 1),
        _shared(chance * (parameters.threads - 1), others),
        _shared(parameters.noise, parameters.noise_items),
    ]


def _given_noise_item(parameters: SyntheticParameters) -> _Chances:
    return [
        _shared(1.0 - parameters.noise, parameters.series * parameters.series_length),
        _shared(parameters.noise, parameters.noise_items - 1),
    ]


def _thread(parameters: SyntheticParameters) -> tuple[float, int]:
    return (1.0 - parameters.noise) / parameters.threads, parameters.threads


def _shared(chance: float, items: int) -> tuple[float, int]:
    return (chance / items, items) if items else (0.0, 0)


def _expected(chances: _Chances) -> dict[str, float]:
    """The metrics' expectation where items are ranked by chance: rank r is hit with the r-th largest."""
    ranked = np.zeros(max(KS))
    by_chance = np.repeat([chance for chance, _ in chances], [count for _, count in chances])
    top = np.sort(by_chance)[::-1][: max(KS)]
    ranked[: top.size] = top
    ranks = np.arange(1, max(KS) + 1)
    gains = {"hr": ranked, "ndcg": ranked / np.log2(ranks + 1), "mrr": ranked / ranks}
    return {f"{name}@{k}": float(gain[:k].sum()) for k in KS for name, gain in gains.items()}


def _mean(metrics: Sequence[dict[str, float]], users: npt.NDArray[np.integer]) -> dict[str, float]:
    """The average over users, where users[i] of them have metrics[i]."""
    return {key: float(np.average([each[key] for each in metrics], weights=users)) for key in metrics[0]}


def _is_noise(dataset: Dataset, parameters: SyntheticParameters) -> npt.NDArray[np.bool_]:
    """(V,) bool over the catalogue; InputError for an item that the generator does not make."""
    noise = np.zeros(dataset.num_items, dtype=np.bool_)
    for index, token in enumerate(dataset.item_ids):
        match = _TOKEN.fullmatch(token)
        if match is None or not _made(parameters, match):
            raise InputError(
                f"{dataset.name} holds the item {token!r}, which the generator does not make with these "
                "parameters: give the parameters that made the data"
            )
        noise[index] = match[3] is not None
    return noise


def _made(parameters: SyntheticParameters, match: re.Match[str]) -> bool:
    series, episode, noise = match.groups()
    if noise is not None:
        return 1 <= int(noise) <= parameters.noise_items
    return 1 <= int(series) <= parameters.series and 1 <= int(episode) <= parameters.series_length
