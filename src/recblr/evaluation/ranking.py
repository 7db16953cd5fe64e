"""Ranks of held-out items among the whole catalogue, in bounded memory, and the metrics of these ranks.

Ties count against the target, and so does every comparison with NaN.  So a model that outputs constants or
NaN gets the worst rank.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch

from recblr.data.batches import in_chunks
from recblr.data.packed import Packed
from recblr.data.splits import Holdout
from recblr.errors import InputError

KS = (1, 5, 10, 20, 50)

TOKENS = 8192
"""The most history items in a chunk.  The activations of this many items fit into the cache.  On ML-1M, this
is a third faster than ten times as many items."""

Scorer = Callable[[Packed], torch.Tensor]
"""S histories -> scores (S, V) of all items, of any real dtype and on any device.  Higher is better."""


@dataclass(frozen=True)
class Ranks:
    """Ranks of the targets from 1, each array (S,) int64 in the order of the holdout.

    unmasked: every item is a candidate.
    masked: items of the user's own history are no candidates, except the target.
    lists: (S, k) int64, the best items that the user has not, best first; -1 behind the end of a list that is
        shorter.  None if nobody asked for them.
    """

    unmasked: npt.NDArray[np.int64]
    masked: npt.NDArray[np.int64]
    lists: npt.NDArray[np.int64] | None = None

    def metrics(self, ks: Sequence[int] = KS) -> dict[str, dict[str, float]]:
        """{"unmasked": metrics, "masked": metrics}, each from `metrics_from_ranks`."""
        return {
            "unmasked": metrics_from_ranks(self.unmasked, ks),
            "masked": metrics_from_ranks(self.masked, ks),
        }


def rank_targets(
    scorer: Scorer,
    holdout: Holdout,
    num_items: int,
    *,
    progress: Callable[[int], object] | None = None,
    max_scores: int = 2**24,
    tokens: int = TOKENS,
    lists: int = 0,
) -> Ranks:
    """Rank each holdout target among all `num_items` items by the scorer's scores for its history.

    The rank is 1 + the number of other candidates whose score is not strictly below the score of the target.
    The scorer is called once for each chunk of users, without autograd, and both ranks use the same scores.
    A chunk has at most `tokens` history items and `max_scores` scores, but always at least one user.

    progress: called after each chunk with the number of users that are done.
    lists: how many of the best items to return for each user; 0 for none.

    Raises InputError if a target or a history item is outside [0, num_items).  Raises TypeError or ValueError
    if the scorer does not return real scores of shape (S, num_items).
    """
    histories = holdout.histories
    targets = np.asarray(holdout.targets)
    check_catalogue(num_items)
    if targets.shape != (len(histories),):
        raise ValueError(
            f"the holdout must have one target per history: targets has shape {targets.shape} "
            f"beside {len(histories)} histories"
        )
    if max_scores < 1 or tokens < 1:
        raise ValueError(f"max_scores and tokens must be positive, but are {max_scores} and {tokens}")
    check_items(targets, num_items, "targets")
    check_items(histories.items, num_items, "histories.items")

    ranks = Ranks(
        np.zeros(len(targets), np.int64),
        np.zeros(len(targets), np.int64),
        np.full((len(targets), lists), -1) if lists else None,
    )
    done = 0
    with torch.no_grad():
        for users, chunk in _chunks(histories, tokens, max(1, max_scores // num_items)):
            scores = _checked(scorer(chunk), len(chunk), num_items)
            ranks.unmasked[users], ranks.masked[users] = _rank(scores, chunk, targets[users])
            if ranks.lists is not None:
                best = _best_unseen(scores, chunk, min(lists, num_items))
                ranks.lists[users, : best.shape[1]] = best
            done += len(users)
            if progress is not None:
                progress(done)
    return ranks


def check_catalogue(num_items: int) -> None:
    """Raise InputError unless the catalogue has at least one item."""
    if num_items < 1:
        raise InputError(
            f"the catalogue has {num_items} items, so there is nothing to rank", "give at least one"
        )


def check_items(items: npt.NDArray[np.int64], num_items: int, name: str) -> None:
    """Raise InputError, with the array's name and the first wrong item, if an item is outside [0, num_items).

    Without this check, some devices would report a scatter error, and a negative index would silently count
    for another item.
    """
    outside = np.flatnonzero((items < 0) | (items >= num_items))
    if outside.size:
        first = int(outside[0])
        raise InputError(
            f"{name}[{first}] is item {int(items[first])}, outside the catalogue of {num_items} items "
            f"(0 to {num_items - 1})",
            "use the catalogue that the histories were indexed with",
        )


def _chunks(histories: Packed, tokens: int, max_users: int) -> Iterator[tuple[npt.NDArray[np.int64], Packed]]:
    for users, chunk in in_chunks(histories, tokens):
        if len(users) <= max_users:
            yield users, chunk
            continue
        for start in range(0, len(users), max_users):
            part = np.arange(start, min(start + max_users, len(users)))
            yield users[part], chunk.select(part)


def _rank(
    scores: torch.Tensor, histories: Packed, targets: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    users = torch.arange(len(targets), device=scores.device)
    target = torch.tensor(targets, device=scores.device)
    # "Not below" and "at least" differ for NaN, which must count against the target.  The target is not below
    # itself, so it adds the 1 of its own rank.
    ahead = torch.lt(scores, scores[users, target][:, None]).logical_not_()
    unmasked = _count(ahead)

    ahead[_events(histories, scores.device)] = False
    ahead[users, target] = True
    return unmasked, _count(ahead)


def _best_unseen(scores: torch.Tensor, histories: Packed, k: int) -> npt.NDArray[np.int64]:
    """(S, k) the best items that are not in the histories; -1 where there is none."""
    events = _events(histories, scores.device)
    # Without a copy, which takes longer than the search.  Rows that share their memory need one.
    own = scores if scores.is_floating_point() and scores.stride(0) else scores.to(torch.float64, copy=True)
    before = own[events]
    own[events] = -torch.inf
    best = own.topk(k)
    own[events] = before
    return torch.where(best.values == -torch.inf, -1, best.indices).cpu().numpy()


def _events(histories: Packed, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """The row and the column of each event in scores (S, V) of the histories."""
    return torch.tensor(histories.owners, device=device), torch.tensor(histories.items, device=device)


def _count(flags: torch.Tensor) -> npt.NDArray[np.int64]:
    """How many flags of each row are set."""
    if flags.device.type == "cpu":  # ten times as fast as torch's sum
        return np.fromiter(map(np.count_nonzero, flags.numpy()), np.int64, len(flags))
    counts: npt.NDArray[np.int64] = flags.sum(1, dtype=torch.int32).cpu().numpy().astype(np.int64)
    return counts


def _checked(scores: object, num_users: int, num_items: int) -> torch.Tensor:
    if not isinstance(scores, torch.Tensor):
        raise TypeError(f"the scorer must return a torch.Tensor, but returned {type(scores).__name__}")
    if tuple(scores.shape) != (num_users, num_items):
        raise ValueError(
            f"the scorer must return one score per history and item, shape ({num_users}, {num_items}), "
            f"but returned shape {tuple(scores.shape)}"
        )
    if scores.dtype == torch.bool or scores.is_complex():
        raise ValueError(f"the scorer must return real scores, but returned {scores.dtype}")
    return scores


def metrics_from_ranks(ranks: npt.NDArray[np.int64], ks: Sequence[int] = KS) -> dict[str, float]:
    """Mean HR@k, NDCG@k and MRR@k over users, under the keys "hr@k", "ndcg@k" and "mrr@k" for each k.

    Each user has one relevant item, so a metric depends on its rank alone.  A rank above k counts 0.
    Otherwise HR counts 1, NDCG counts 1 / log2(rank + 1) and MRR counts 1 / rank.

    ranks: (S,) integers from 1, the rank of the relevant item of each user.

    Raises InputError if there are no ranks, and ValueError if the ranks are not one axis of integers from 1
    or a k is below 1.
    """
    ranks = np.asarray(ranks)
    if ranks.ndim != 1:
        raise ValueError(f"ranks must have one axis, a rank per user, but has shape {ranks.shape}")
    if ranks.size == 0:
        raise InputError(
            "there are no ranks to average: the evaluated part has no users", "evaluate at least one"
        )
    if not np.issubdtype(ranks.dtype, np.integer):
        raise ValueError(f"ranks must be integers, but has dtype {ranks.dtype}")
    if ranks.min() < 1:
        raise ValueError(f"ranks must be 1-based, but the smallest is {int(ranks.min())}")
    if any(k < 1 for k in ks):
        raise ValueError(f"every k must be at least 1, but ks is {tuple(ks)}")

    metrics: dict[str, float] = {}
    for k in ks:
        metrics[f"hr@{k}"] = float(users_metric(ranks, "hr", k).mean())
        metrics[f"ndcg@{k}"] = float(users_metric(ranks, "ndcg", k).mean())
        metrics[f"mrr@{k}"] = float(users_metric(ranks, "mrr", k).mean())
    return metrics


def users_metric(
    ranks: npt.NDArray[np.int64], metric: Literal["hr", "ndcg", "mrr"], k: int
) -> npt.NDArray[np.float64]:
    """The metric "hr", "ndcg" or "mrr" at k of each user, (S,) float64, from the ranks (S,): see
    `metrics_from_ranks`."""
    if metric == "hr":
        gain = np.ones(ranks.shape)
    elif metric == "ndcg":
        gain = 1.0 / np.log2(ranks + 1.0)
    else:
        gain = 1.0 / ranks
    return np.where(ranks <= k, gain, 0.0)
