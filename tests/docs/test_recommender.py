"""The examples of docs/recommender.md, and the first one of README.md."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli.command import at
from recommender.shop import columns
from training.tiny_runs import one_thread

from recblr import Recommender

LATER = 1_700_000_000


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The folder that the examples run in, with a log and a table of items."""
    folder = tmp_path_factory.mktemp("recommender")
    log = pl.DataFrame(columns()).with_columns(pl.format("u{}", pl.col("uid")).alias("uid"))
    log.write_csv(folder / "log.csv")
    items = log["sku"].unique().sort()
    catalogue = {"sku": [*items, "not in the log"], "price": np.arange(len(items) + 1) % 30}
    pl.DataFrame(catalogue).write_csv(folder / "catalogue.csv")
    with at(folder), one_thread():
        yield folder


@pytest.fixture(scope="module")
def recommender(shop: Path) -> Recommender:
    return Recommender().fit(
        "log.csv",
        user="uid",
        item="sku",
        time="ts",
        k_core=0,
        epochs=1,
        d_model=16,
        num_layers=1,
        device="cpu",
    )


def test_the_first_lines(shop: Path) -> None:
    # [first]
    import polars as pl

    from recblr import Recommender

    log = pl.read_csv("log.csv")  # who did what, and when; a frame of pandas is as good
    recommender = Recommender().fit(log, user="uid", item="sku", time="ts", epochs=10)
    best = recommender.recommend(["u3", "u10"], k=5)  # a frame: user, item, score, rank
    # [/first]
    assert best.columns == ["user", "item", "score", "rank"]
    assert best["user"].to_list() == ["u3"] * 5 + ["u10"] * 5


def test_options(shop: Path) -> None:
    log = pl.read_csv("log.csv")
    # [options]
    recommender = Recommender().fit(
        log,
        user="uid",
        item="sku",
        time="ts",
        valid=0.1,  # a tenth of the users choose the best epoch
        k_core=0,  # keep rare users and items
        epochs=2,
        d_model=32,
        device="cpu",
        out="runs/first",  # keep the run: its log, its checkpoints, its report
    )
    print(recommender.describe())
    report = recommender.evaluate()  # a notebook shows a table
    # [/options]
    assert (shop / "runs" / "first" / "model.safetensors").exists()
    assert report["ours"]["test"]["masked"]["ndcg@10"]["mean"] >= 0
    assert len(recommender.item_ids) == log["sku"].n_unique()


def test_asking(recommender: Recommender) -> None:
    guests = {"ada": (["s01e12", "s02e01"], [LATER, LATER + 60])}
    # [ask]
    everyone = recommender.recommend(k=3)  # all users of the log
    tonight = recommender.recommend(["u3"], times="2026-11-27T20:00")
    again = recommender.recommend(["u3"], filter_viewed=False)  # also items that u3 has
    mixed = recommender.recommend(["u3", "new"], unknown="popular")
    # [/ask]
    assert len(everyone) == 3 * len(recommender.user_ids)
    assert tonight.columns == again.columns == mixed.columns
    assert mixed["user"].n_unique() == 2
    assert guests


def test_guests(recommender: Recommender) -> None:
    # [guests]
    best = recommender.recommend_histories(
        {"guest 1": ["s01e12", "s02e01"], "guest 2": ["s03e07"]},
        k=3,
        times={"guest 1": ["2026-11-27T20:00", "2026-11-27T20:05"], "guest 2": ["2026-11-27T21:30"]},
    )
    # [/guests]
    assert best["user"].to_list() == ["guest 1"] * 3 + ["guest 2"] * 3


def test_filters(recommender: Recommender) -> None:
    # [filters]
    catalogue = pl.read_csv("catalogue.csv")
    cheap = recommender.recommend(["u3"], items=catalogue.filter(pl.col("price") < 20))
    without = recommender.recommend(["u3"], exclude=["s01e12", "s01e13"])
    own = recommender.recommend(["u3", "u10"], exclude_for={"u10": ["s02e01"]})
    unusual = recommender.recommend(["u3"], popularity_cap=0.3)
    mixed = recommender.recommend(["u3"], diversity=0.3)
    # [/filters]
    prices = dict(catalogue.iter_rows())
    assert all(prices[item] < 20 for item in cheap["item"])
    assert not {"s01e12", "s01e13"} & set(without["item"])
    assert "s02e01" not in own.filter(user="u10")["item"].to_list()
    assert len(unusual) == len(mixed) == 10


def test_why(recommender: Recommender) -> None:
    # [why]
    alike = recommender.similar_items(["s01e12"], k=5)  # item, similar, score, rank
    why = recommender.explain("u3", "s01e12")  # position, item, change
    scores = recommender.score(["u3"], ["s01e12", "s01e13"])  # user, item, score
    table = recommender.item_vectors()  # (items, width), in the order of recommender.item_ids
    # [/why]
    assert len(alike) == 5
    assert why.columns == ["position", "item", "change"]
    assert len(scores) == 2
    assert table.shape == (len(recommender.item_ids), 16)


def test_later(recommender: Recommender, shop: Path) -> None:
    recommender.save("before")
    recommender = Recommender.load("before")
    today = pl.DataFrame({"uid": ["u3", "eve"], "sku": ["s01e12", "s01e13"], "ts": [LATER, LATER]})
    # [more]
    recommender.fit_more(today, user="uid", item="sku", time="ts")
    best = recommender.recommend(["eve"], k=5)  # a user who is new today
    # [/more]
    assert len(best) == 5
    # [save]
    recommender.save("shop")
    recommender = Recommender.load("shop")
    recommender.export("model.safetensors")  # for a server
    # [/save]
    from recblr import Engine

    assert Engine.load("model.safetensors").item_ids == recommender.item_ids
    assert recommender.recommend(["eve"], k=5).equals(best)
