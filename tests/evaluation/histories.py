"""Histories for tests, from lists or from Hypothesis."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from recblr.data.packed import Packed


def pack(histories: Sequence[Sequence[int]]) -> Packed:
    offsets = np.cumsum([0, *map(len, histories)], dtype=np.int64)
    return Packed(np.array([item for history in histories for item in history], dtype=np.int64), offsets)


def unpack(histories: Packed) -> list[tuple[int, ...]]:
    return [tuple(histories.history(s).tolist()) for s in range(len(histories))]


def histories(num_items: int, max_size: int = 6) -> st.SearchStrategy[list[list[int]]]:
    return st.lists(st.lists(st.integers(0, num_items - 1), max_size=6), max_size=max_size)
