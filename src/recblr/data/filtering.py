"""k-core filtering: the rule that decides which users and items have enough data to learn from."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recblr.data.packed import Int64Array
from recblr.errors import InputError


def k_core(
    users: Int64Array, items: Int64Array, k: int, *, source: str = "the data"
) -> npt.NDArray[np.bool_]:
    """Which interactions remain once every user and every item that is left has at least k of them.

    users, items: (N,) int64 indices from 0, one pair an interaction; a repeated pair counts as often as
    it occurs. Returns (N,) bool. k ≤ 1 keeps everything. Dropping a user can make an item rare and the
    other way round, so it is repeated until nothing changes.

    Raises InputError, which names `source`, where nothing is left.
    """
    keep = np.ones(users.size, dtype=np.bool_)
    if k <= 1:
        return keep
    left = users.size
    while left:
        for ids in (users, items):
            keep &= np.bincount(ids[keep], minlength=1 + int(ids.max()))[ids] >= k
        remaining = int(np.count_nonzero(keep))
        if remaining == left:
            return keep
        left = remaining
    raise InputError(
        f"nothing is left of {source} after dropping users and items with fewer than {k} interactions: "
        f"it had {users.size} interactions, {np.unique(users).size} users and {np.unique(items).size} items; "
        "lower --k-core (k_core= in Python; 0 keeps everything)"
    )
