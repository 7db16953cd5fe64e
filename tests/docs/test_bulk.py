"""The examples of docs/bulk.md."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
from cli.command import SMALL, at, succeeds
from docs.shell import type_in
from training.tiny_runs import one_thread, tiny_dataset

from recblr.data import write_inter


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the run of the examples; they run in this folder."""
    folder = tmp_path_factory.mktemp("bulk")
    write_inter(tiny_dataset(), folder / "shop.inter")
    (folder / "users.txt").write_text("u7\nu3\n")
    with at(folder), one_thread():
        succeeds("train", "shop.inter", "--out", "run", "--epochs", "1", *SMALL)
        yield folder


def test_all_users(shop: Path) -> None:
    lines = """
    # [all]
    recblr recommend run --all-users -k 20 --out recs.parquet
    recblr recommend run --users users.txt -k 20 --out recs.csv
    # [/all]
    """
    type_in(shop, lines)
    everybody = pl.read_parquet("recs.parquet")
    assert everybody.schema == {
        "user": pl.String, "item": pl.String, "score": pl.Float32, "rank": pl.Int32
    }  # fmt: skip
    assert everybody["user"].n_unique() == 60
    assert pl.read_csv("recs.csv")["user"].unique(maintain_order=True).to_list() == ["u7", "u3"]


def test_from_python(shop: Path) -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        # [python]
        from dataclasses import replace
        from pathlib import Path

        from recblr import Engine
        from recblr.run import Run
        from recblr.serving import recommend_in_bulk

        run = Run(Path("run"))
        dataset, engine = run.dataset(), Engine.load(run.model_file)
        histories = replace(dataset.histories, times=dataset.seconds)
        for part in recommend_in_bulk(engine, histories, k=5):
            for user, items in zip(part.users, part.items, strict=True):
                best = [dataset.item_ids[item] for item in items if item >= 0]
                print(dataset.user_ids[user], best)
        # [/python]
    succeeds("recommend", "run", "--all-users", "-k", "5", "--out", "five.csv")
    lists = pl.read_csv("five.csv").group_by("user", maintain_order=True).agg("item")
    assert printed.getvalue().splitlines() == [f"{user} {items}" for user, items in lists.iter_rows()]


def test_similar_items_and_vectors(shop: Path) -> None:
    lines = """
    # [items]
    recblr similar run s01e12 -k 5
    recblr embeddings run --out items.parquet
    # [/items]
    """
    type_in(shop, lines)
    assert pl.read_parquet("items.parquet").columns == ["item", "vector"]
