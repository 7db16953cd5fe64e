"""The one check that every part of the evaluation needs: item indices lie in the catalogue.

Out-of-range indices would otherwise surface as a scatter error on some device, or silently
count for another item where the index is negative.
"""

import numpy as np
import numpy.typing as npt

from recblr.errors import InputError


def check_catalogue(num_items: int) -> None:
    """Raise InputError unless the catalogue has at least one item."""
    if num_items < 1:
        raise InputError(
            f"the catalogue has {num_items} items, so there is nothing to rank; give at least one"
        )


def check_items(items: npt.NDArray[np.int64], num_items: int, name: str) -> None:
    """Raise InputError, naming the array and the first offender, if an item is not in [0, num_items)."""
    outside = np.flatnonzero((items < 0) | (items >= num_items))
    if outside.size:
        first = int(outside[0])
        raise InputError(
            f"{name}[{first}] is item {int(items[first])}, outside the catalogue of {num_items} items "
            f"(0 to {num_items - 1}); use the catalogue that the histories were indexed with"
        )
