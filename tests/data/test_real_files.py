"""The readers on published datasets, where somebody has them at hand."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from recblr.data import leave_one_out, read_dataset

FOLDER = Path(os.environ.get("RECBLR_TEST_DATA", Path(__file__).parents[2].parent / "shared" / "data"))


def at_hand(name: str) -> Path:
    path = FOLDER / name
    if not path.is_file():
        pytest.skip(f"{name} is not in {FOLDER}; RECBLR_TEST_DATA names the folder that has it")
    return path


@pytest.mark.parametrize(
    ("name", "k_core", "users", "items", "interactions"),
    [
        ("ml-1m/ml-1m.inter.gz", 5, 6040, 3416, 999_611),
        ("beauty/Beauty.txt", 5, 22_363, 12_101, 198_502),
        ("ml-100k/ml-100k.inter", 0, 943, 1682, 100_000),
    ],
)
def test_it_has_its_known_size(name: str, k_core: int, users: int, items: int, interactions: int) -> None:
    dataset = read_dataset(at_hand(name), k_core=k_core)
    assert (dataset.num_users, dataset.num_items, dataset.num_interactions) == (users, items, interactions)
    assert len(leave_one_out(dataset).test.targets) == users


def test_movielens_histories_keep_file_order_in_ties() -> None:
    path = at_hand("ml-100k/ml-100k.inter")
    expected: dict[str, list[tuple[float, str]]] = {}
    for line in path.read_text().splitlines()[1:]:
        user, item, _, time = line.split("\t")
        expected.setdefault(user, []).append((float(time), item))
    dataset = read_dataset(path, k_core=0)
    assert dataset.user_ids == list(expected)
    for s, events in enumerate(expected.values()):
        ordered = [item for _, item in sorted(events, key=lambda event: event[0])]
        assert np.array(dataset.item_ids)[dataset.histories.history(s)].tolist() == ordered
