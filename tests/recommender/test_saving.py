"""A saved recommender answers as before, and so does one that was pickled; damage gives one sentence."""

from __future__ import annotations

import copy
import json
import pickle
import shutil
from pathlib import Path

import polars as pl
import pytest
from cli.command import items_in, succeeds
from recommender.shop import NAMES, SMALL, pandas_log, polars_log, rows
from training.tiny_runs import contents

from recblr import Engine, InputError, Recommender


@pytest.fixture
def saved(shop: Recommender, tmp_path: Path) -> Path:
    shop.save(tmp_path / "saved")
    return tmp_path / "saved"


def test_it_answers_as_before(shop: Recommender, saved: Path) -> None:
    again = Recommender.load(saved)
    assert shop.recommend(k=4).equals(again.recommend(k=4))
    assert again.describe() == shop.describe()
    assert (again.user_ids, again.item_ids) == (shop.user_ids, shop.item_ids)


def test_a_run_with_its_folder_knows_the_types_too(tmp_path: Path) -> None:
    recommender = Recommender().fit(pandas_log(), **NAMES, **SMALL, out=tmp_path / "run")
    again = Recommender.load(tmp_path / "run")
    assert again.recommend(k=2).equals(recommender.recommend(k=2))


def test_the_commands_take_it(shop: Recommender, saved: Path) -> None:
    lines = succeeds("recommend", saved, "--user", "3", "-k", "4").splitlines()
    best = items_in("\n".join(line for line in lines if not line.startswith("asked for")))
    assert best == shop.recommend([3], 4)["item"].tolist()
    succeeds("evaluate", saved)
    succeeds("export", saved, saved.parent / "model.safetensors")


def test_pickle_and_copy(shop: Recommender) -> None:
    right = shop.recommend(k=2)
    for again in (pickle.loads(pickle.dumps(shop)), copy.deepcopy(shop)):
        assert again.recommend(k=2).equals(right)
    assert repr(pickle.loads(pickle.dumps(Recommender()))) == repr(Recommender())


class Shop(Recommender):
    """Somebody's own class."""


def test_the_choices_of_the_class_stay(tmp_path: Path) -> None:
    ours = Shop(frames="polars", threads=1).fit(pandas_log(), **NAMES, **SMALL)
    ours.save(tmp_path / "saved")
    assert isinstance(Recommender.load(tmp_path / "saved").recommend([3], 1), pl.DataFrame)
    copied = pickle.loads(pickle.dumps(ours))
    assert type(copied) is Shop
    for one in (ours, copied, Recommender.load(tmp_path / "saved", threads=1)):
        assert one._now().answers.engine.threads == 1


def test_a_folder_that_is_gone_is_named(saved: Path, tmp_path: Path) -> None:
    recommender = Recommender.load(saved)
    shutil.rmtree(saved)
    assert len(recommender.recommend([3], 2)) == 2
    with pytest.raises(InputError, match="holds no run"):
        recommender.save(tmp_path / "again")


def test_the_file_for_a_server(own: Recommender, tmp_path: Path) -> None:
    event = pandas_log()[:1].assign(sku="new", ts=1_700_000_000)
    own.fit_more(event).export(tmp_path / "model.safetensors")
    engine = Engine.load(tmp_path / "model.safetensors")
    assert engine.item_ids == own.item_ids
    with pytest.raises(InputError, match=r"does not look like a model file; end it in \.safetensors"):
        own.export(tmp_path / "model.bin")


def test_nothing_is_overwritten(shop: Recommender, saved: Path, tmp_path: Path) -> None:
    before = contents(saved)
    with pytest.raises(InputError, match="exists already; choose another path, or remove it first"):
        shop.save(saved)
    assert contents(saved) == before
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="exists already"):
        shop.save(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    shop.save(tmp_path / "empty")
    shop.save(tmp_path / "in" / "new" / "folders")
    with pytest.raises(InputError, match="cannot make the folder"):
        shop.save(tmp_path / "file" / "in it")


def test_a_later_version_is_named(saved: Path) -> None:
    file = saved / "recommender.json"
    about = json.loads(file.read_text())
    file.write_text(json.dumps({**about, "format": 2, "version": "9.1", "what": "is new"}))
    with pytest.raises(InputError) as raised:
        Recommender.load(saved)
    assert "was saved by recblr 9.1 in format 2, but this recblr" in raised.value.problem
    assert raised.value.remedy == "install a later recblr, or fit again"


@pytest.mark.parametrize("cut", range(0, 300, 7))
def test_a_damaged_file_gives_one_sentence(cut: int, saved: Path) -> None:
    file = saved / "recommender.json"
    text = file.read_bytes()
    file.write_bytes(text[: min(cut, len(text) - 3)])
    with pytest.raises(InputError, match=r"recommender.json is damaged; restore it"):
        Recommender.load(saved)


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "x"},
        {"format": 0},
        {"format": True},
        {"format": "1"},
        {"frames": "spark"},
        {"more": 1},
        {"read": 3},
        {"user": {}, "item": None},
        {"item": {"polars": "Float64"}},
        {"item": {"column": 3}},
        {"item": {"what": 3}},
    ],
)
def test_wrong_values_give_one_sentence(change: dict[str, object], saved: Path) -> None:
    file = saved / "recommender.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(InputError, match=r"recommender.json is damaged; restore it"):
        Recommender.load(saved)


def test_missing_parts_are_named(shop: Recommender, saved: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        Recommender.load(tmp_path / "nowhere")
    with pytest.raises(InputError, match="there is no folder"):
        Recommender.load(saved / "run.json")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"holds no run \(there is no run.json\)"):
        Recommender.load(tmp_path / "empty")
    shutil.rmtree(saved / "dataset")
    with pytest.raises(InputError, match="dataset"):
        Recommender.load(saved)


def test_more_of_another_recommender_is_refused(own: Recommender, tmp_path: Path) -> None:
    import polars as pl

    event = pl.DataFrame({"uid": [3], "sku": own.item_ids[:1], "ts": [1_700_000_000]})
    own.fit_more(event)
    own.save(tmp_path / "a")
    other = Recommender().fit(polars_log(), **NAMES, **SMALL, seed=1).fit_more(event)
    other.save(tmp_path / "b")
    shutil.rmtree(tmp_path / "a" / "more")
    shutil.copytree(tmp_path / "b" / "more", tmp_path / "a" / "more")
    with pytest.raises(InputError, match="do not belong to the run"):
        Recommender.load(tmp_path / "a")
    assert rows(Recommender.load(tmp_path / "b").recommend([3], 2)) == rows(other.recommend([3], 2))
