"""Recommendations by item ids, from the model file alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from serving.test_scorer import NUM_ITEMS, model

from recblr.errors import InputError
from recblr.run import SavedModel, load_model, save_model
from recblr.serving import recommend, recommend_ids

IDS = [f"item {number}" for number in range(NUM_ITEMS)]


@pytest.fixture
def saved(tmp_path: Path) -> SavedModel:
    save_model(model(), tmp_path / "m.safetensors", IDS)
    return load_model(tmp_path / "m.safetensors")


@pytest.mark.parametrize("mask_seen", [True, False])
def test_the_best_items_have_the_ids_of_the_model_file(saved: SavedModel, mask_seen: bool) -> None:
    best = recommend(model(), [3, 1, 4], 5, mask_seen=mask_seen)
    expected = [(f"item {item}", score) for item, score in best]
    assert recommend_ids(saved, ["item 3", "item 1", "item 4"], 5, mask_seen=mask_seen) == expected


def test_the_error_names_an_unknown_item(saved: SavedModel) -> None:
    with pytest.raises(InputError) as raised:
        recommend_ids(saved, ["item 3", "item 99"], 5)
    assert raised.value.problem == "the model has no item 'item 99' among its 9 items"
    assert recommend_ids(saved, ["item 0"], 1)  # the remedy names this item
    assert "'item 0'" in raised.value.remedy


def test_a_model_of_an_old_file_works_once_its_ids_are_given(saved: SavedModel) -> None:
    old = replace(saved, item_ids=None)
    with pytest.raises(InputError, match="has no item ids"):
        recommend_ids(old, ["item 3"], 5)
    assert recommend_ids(replace(old, item_ids=IDS), ["item 3"], 5) == recommend_ids(saved, ["item 3"], 5)
