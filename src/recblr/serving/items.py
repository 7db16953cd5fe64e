"""Items that a model finds similar, from its item vectors alone: for every model, also the baselines."""

import numpy as np

from recblr.errors import InputError
from recblr.run.model_content import ModelContent
from recblr.serving.filters import unit_rows

_ITEMS = 2**14  # at a time, so that a large table needs no second copy in float64


def similar_items(content: ModelContent, item: int, k: int = 10) -> list[tuple[int, float]]:
    """The k other items whose vectors have the largest cosine with that of an item, with the cosine.

    It gives what :meth:`recblr.Engine.similar` gives, by number.  Retired items are left out, and the list is
    shorter if fewer than k are left.

    Raises InputError if the item is none of the model's, or k < 1.
    """
    table = content.table
    if not 0 <= item < len(table):
        raise InputError(f"item {item} is outside the catalogue of {len(table)} items", "give another number")
    if k < 1:
        raise InputError(f"k, the number of similar items, must be at least 1, but is {k}")
    (vector,), cosines = unit_rows(table[item : item + 1]), np.empty(len(table), np.float32)
    for start in range(0, len(table), _ITEMS):
        cosines[start : start + _ITEMS] = unit_rows(table[start : start + _ITEMS]) @ vector
    others = np.delete(np.arange(len(table)), [item, *content.retired])
    best = others[np.argsort(-cosines[others], kind="stable")[:k]]
    return list(zip(best.tolist(), cosines[best].tolist(), strict=True))
