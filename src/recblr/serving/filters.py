"""Which items may be recommended to whom, and lists whose items differ from each other.  Imports no torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from recblr.data.packed import Packed
from recblr.errors import InputError


@dataclass(frozen=True)
class Filters:
    """Which items may be recommended.  Items and users are named by their ids as texts.

    mask_seen: whether to leave out the items that the user has.
    allow: the only items that may be recommended; None means all.
    exclude: items to leave out.
    allow_for, exclude_for: the same for single users, who have both these and the lists for all.
    """

    mask_seen: bool = True
    allow: frozenset[str] | None = None
    exclude: frozenset[str] = frozenset()
    allow_for: Mapping[str, frozenset[str]] = field(default_factory=dict)
    exclude_for: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def has_own(self, user: str) -> bool:
        """Whether a user has lists of their own."""
        return user in self.allow_for or user in self.exclude_for

    def of(self, user: str) -> tuple[frozenset[str] | None, frozenset[str]]:
        """The items that may be recommended to a user (None: all), and those that must be left out."""
        allow, own = self.allow, self.allow_for.get(user)
        if own is not None:
            allow = own if allow is None else allow & own
        return allow, self.exclude | self.exclude_for.get(user, frozenset())


def too_popular(users: NDArray[np.int64], num_users: int, cap: float) -> NDArray[np.int64]:
    """The items that more than the share `cap` of all users have, ascending.

    users: the number of users who have each item, ``(V,)``, from `users_of_items`.

    Raises InputError if the cap is not a share above 0 and up to 1.
    """
    if isinstance(cap, bool) or not isinstance(cap, int | float | np.number) or not 0 < cap <= 1:
        raise InputError(
            f"popularity_cap is the largest share of all users that may have an item, and it is {cap!r}",
            "give a number above 0 and up to 1, such as 0.05",
        )
    return np.flatnonzero(users / num_users > cap)  # cap * num_users may be a little too small


def users_of_items(histories: Packed, num_items: int) -> NDArray[np.int64]:
    """The number of users who have each item, ``(V,)`` int64."""
    pairs = np.unique(histories.owners * num_items + histories.items)
    return np.bincount(pairs % num_items, minlength=num_items)


def most_popular(users: NDArray[np.int64], retired: Sequence[int] = ()) -> NDArray[np.int64]:
    """The numbers of all items but the retired ones; those that most users have come first.

    users: the number of users who have each item, ``(V,)``, from `users_of_items`.
    """
    order = np.argsort(-users, kind="stable")
    return order[~np.isin(order, np.array(retired, np.int64))]


def unit_rows(vectors: NDArray[np.floating]) -> NDArray[np.float64]:
    """The rows of ``(M, D)``, each of length 1; zeros stay.  Squares of float32 may not fit into float32."""
    rows = np.asarray(vectors, np.float64)
    lengths = np.sqrt((rows * rows).sum(1, keepdims=True))
    units: NDArray[np.float64] = np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 0)
    return units


def diversified(
    scores: Sequence[float], vectors: NDArray[np.floating], k: int, diversity: float
) -> list[int]:
    """The places of the k candidates that maximal marginal relevance chooses, in the order of choice.

    The first is the candidate with the best score.  Each next one has the largest
    ``(1 - diversity) * relevance - diversity * likeness``.  The relevance is the item's probability over that
    of the best candidate, so it lies in (0, 1].  The likeness is the largest cosine of its vector with that
    of an item that is already chosen; a negative cosine counts as 0.

    Args:
        scores: of M candidates, falling.
        vectors: ``(M, D)`` of the candidates.
        diversity: from 0 (by score alone) to below 1.
    """
    if not len(scores):
        return []
    rows = unit_rows(vectors)
    worth = np.asarray(scores, np.float64)
    relevance = (1 - diversity) * np.exp(worth - worth[0])
    likeness, chosen = np.zeros(len(rows)), [0]
    while len(chosen) < min(k, len(rows)):
        likeness = np.maximum(likeness, rows @ rows[chosen[-1]])
        value = relevance - diversity * likeness
        value[chosen] = -np.inf
        chosen.append(int(np.argmax(value)))  # of equal values, that of the better score
    return chosen


def check_diversity(diversity: float) -> None:
    """Raise InputError if it is not a number from 0 to below 1."""
    if (
        isinstance(diversity, bool)
        or not isinstance(diversity, int | float | np.number)
        or not 0 <= diversity < 1
    ):
        raise InputError(
            f"diversity is {diversity!r}",
            "give a number from 0, which ranks by score alone, to below 1, such as 0.3",
        )
