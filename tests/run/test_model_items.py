"""New and retired items of a model that is not trained again: what they change, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from recblr.config.model import RecBLRConfig
from recblr.errors import InputError
from recblr.nn.model import build_model
from recblr.run.model_content import ServableModel, read_for_serving, write_model_file
from recblr.run.model_file import load_model, save_model
from recblr.run.model_items import with_items, without_items
from recblr.serving import recommend_ids

IDS = ["a", "b", "7", "d", "e"]
D = 4


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> ServableModel:
    path = tmp_path_factory.mktemp("saved") / "m.safetensors"
    save_model(build_model(5, RecBLRConfig(d_model=D, num_layers=1)), path, IDS, fingerprint="ab", epoch=3)
    return read_for_serving(path)


def test_items_are_appended_with_their_vectors(saved: ServableModel, tmp_path: Path) -> None:
    vectors = np.arange(2 * D).reshape(2, D)
    more = with_items(saved, ["x", 12], vectors)
    assert (more.item_ids, more.num_items) == ([*IDS, "x", "12"], 7)
    assert (more.fingerprint, more.epoch, more.digest) == ("ab", 3, None)
    write_model_file(tmp_path / "m.safetensors", more)
    found = read_for_serving(tmp_path / "m.safetensors")
    assert found.item_ids == more.item_ids
    assert np.array_equal(found.table[:5], saved.table)
    assert np.array_equal(found.table[5:], vectors)
    assert found.tensors.keys() == saved.tensors.keys()
    model = load_model(tmp_path / "m.safetensors").model
    assert np.array_equal(model.item_embedding.weight.detach(), found.table)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(groups=st.lists(st.lists(st.integers(0, 4), min_size=1, max_size=6), min_size=1, max_size=3))
def test_a_new_item_is_the_mean_of_similar_ones(saved: ServableModel, groups: list[list[int]]) -> None:
    names = [f"new {number}" for number in range(len(groups))]
    like = ((IDS[item] for item in group) for group in groups)
    more = with_items(saved, names, like=like)
    for row, group in zip(more.table[5:], groups, strict=True):
        expected = np.sum([saved.table[item].astype(np.float64) for item in group], 0) / len(group)
        assert row == pytest.approx(expected, rel=1e-6, abs=1e-12)
        assert row.dtype == np.float32


def test_retired_items_are_only_in_histories(saved: ServableModel, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write_model_file(path, saved)
    before = recommend_ids(load_model(path), ["a", "7"], 5, mask_seen=False)
    best = before[0][0]
    write_model_file(path, without_items(saved, [best]))
    model = load_model(path)
    assert recommend_ids(model, ["a", "7"], 5, mask_seen=False) == before[1:]
    assert len(recommend_ids(model, ["a", best], 5)) == 5 - len({"a", best})
    few = without_items(without_items(saved, ["b", 7]), ["7", "e", "d"])
    assert few.retired == (1, 2, 3, 4)
    write_model_file(path, few)
    assert recommend_ids(load_model(path), ["7"], 5)[0][0] == "a"
    assert recommend_ids(load_model(path), ["a"], 5) == []


def test_retired_and_new_items_go_together(saved: ServableModel, tmp_path: Path) -> None:
    changed = without_items(with_items(without_items(saved, ["b"]), ["x"], like=[["b"]]), ["a"])
    assert changed.retired == (0, 1)
    write_model_file(tmp_path / "m.safetensors", changed)
    assert read_for_serving(tmp_path / "m.safetensors").retired == (0, 1)


NAN, INF = np.full((1, D), np.nan), np.full((1, D), np.inf)
MISTAKES: dict[str, tuple[Callable[[ServableModel], Any], str]] = {
    "NaN": (lambda s: with_items(s, ["x"], NAN), "vector of new item 0 holds NaN"),
    "infinite": (lambda s: with_items(s, ["x"], INF), "infinite in float32"),
    "too large": (lambda s: with_items(s, ["x"], np.full((1, D), 1e39)), "infinite in float32"),
    "width": (
        lambda s: with_items(s, ["x"], np.ones((1, 5))),
        "have the shape (1, 5), but 1 new item(s) of the width 4",
    ),
    "one row": (lambda s: with_items(s, ["x"], np.ones(D)), "have the shape (4,)"),
    "rows": (lambda s: with_items(s, ["x"], np.ones((2, D))), "have the shape (2, 4)"),
    "ragged": (lambda s: with_items(s, ["x"], [[1.0], [1.0, 2.0]]), "not an array of real numbers"),
    "words": (lambda s: with_items(s, ["x"], [["1"] * D]), "not an array of real numbers"),
    "complex": (lambda s: with_items(s, ["x"], np.ones((1, D)) * 1j), "not an array of real numbers"),
    "exists": (lambda s: with_items(s, ["x", "b"], np.ones((2, D))), "has an item 'b' already"),
    "exists as a number": (lambda s: with_items(s, [7], np.ones((1, D))), "has an item '7' already"),
    "twice": (lambda s: with_items(s, ["9", 9], np.ones((2, D))), "new item '9' is given twice"),
    "no ids": (lambda s: with_items(s, [], np.ones((0, D))), "list of new items is empty"),
    "a text": (lambda s: with_items(s, "xy", np.ones((2, D))), "must be a list of ids, but are 'xy'"),
    "a number": (lambda s: with_items(s, 9, np.ones((1, D))), "must be a list of ids, but are 9"),
    "a broken id": (
        lambda s: with_items(s, [1.5], np.ones((1, D))),
        "neither a text nor a whole number, but 1.5",
    ),
    "a bool": (lambda s: with_items(s, [True], np.ones((1, D))), "neither a text nor a whole number"),
    "half a character": (lambda s: with_items(s, ["\ud800"], np.ones((1, D))), "half of a surrogate pair"),
    "no rows": (lambda s: with_items(s, ["x"]), "need either vectors or similar items"),
    "both": (lambda s: with_items(s, ["x"], np.ones((1, D)), like=[["a"]]), "either vectors or similar"),
    "unknown similar": (
        lambda s: with_items(s, ["x"], like=[["a", "q"]]),
        "no item 'q' among its 5 items",
    ),
    "similar to itself": (lambda s: with_items(s, ["x"], like=[["x"]]), "no item 'x'"),
    "no similar": (lambda s: with_items(s, ["x"], like=[[]]), "list of like= of 'x' is empty"),
    "similar as a text": (
        lambda s: with_items(s, ["x"], like=["ab"]),
        "like= of 'x' must be a list of ids",
    ),
    "similar lacks": (lambda s: with_items(s, ["x", "y"], like=[["a"]]), "2 new items, but 1 lists"),
    "similar is more": (lambda s: with_items(s, ["x"], like=[["a"], ["a"]]), "1 new items, but 2 lists"),
    "similar by id": (lambda s: with_items(s, ["x"], like={"x": ["a"]}), "must be a list with a list"),
    "retire unknown": (lambda s: without_items(s, ["a", "q"]), "no item 'q' among its 5 items"),
    "retire none": (lambda s: without_items(s, []), "list of items to retire is empty"),
    "retire all": (lambda s: without_items(s, IDS), "all 5 items of the model would be retired"),
    "retire a text": (lambda s: without_items(s, "ab"), "the items to retire must be a list of ids"),
}


@pytest.mark.parametrize(("change", "says"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_gives_one_sentence_and_changes_nothing(
    saved: ServableModel, change: Callable[[ServableModel], Any], says: str
) -> None:
    ids, retired = list(saved.item_ids), saved.retired
    tensors = {name: array.copy() for name, array in saved.tensors.items()}
    with pytest.raises(InputError) as raised:
        change(saved)
    assert says in raised.value.problem
    assert raised.value.remedy
    assert "\n" not in str(raised.value)
    assert (saved.item_ids, saved.retired) == (ids, retired)
    assert saved.tensors.keys() == tensors.keys()
    assert all(np.array_equal(array, tensors[name]) for name, array in saved.tensors.items())


def test_wrong_retired_items_are_not_saved(saved: ServableModel, tmp_path: Path) -> None:
    write_model_file(tmp_path / "m.safetensors", without_items(saved, ["b"]))
    model = load_model(tmp_path / "m.safetensors").model
    with pytest.raises(InputError, match="retired must hold ascending numbers"):
        save_model(model, tmp_path / "n.safetensors", IDS, retired=(9,))
    assert not (tmp_path / "n.safetensors").exists()
