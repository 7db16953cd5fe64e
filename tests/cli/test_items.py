"""`recblr similar` and `recblr embeddings`: what the vectors of the items say."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli.command import SMALL, recblr, succeeds

from recblr.run import Run, save_model
from recblr.serving.engine import Engine


def rows(out: str) -> list[list[str]]:
    return [line.split() for line in out.splitlines()[2:]]


def test_similar_items_are_those_of_the_engine(finished: Path) -> None:
    engine = Engine.load(finished / "model.safetensors")
    item = engine.item_ids[3]
    out = succeeds("similar", finished, item, "-k", "200")
    assert out.startswith(f"most similar to {item}\n")
    best = engine.similar(item, 128)
    assert [row[1] for row in rows(out)] == [other for other, _ in best]
    assert [float(row[2]) for row in rows(out)] == pytest.approx([cosine for _, cosine in best], abs=6e-4)
    assert len(rows(succeeds("similar", finished, item))) == 10


def test_similar_items_have_titles_and_an_unknown_item_is_named(finished: Path, tmp_path: Path) -> None:
    ids = Run(finished).dataset().item_ids
    (tmp_path / "titles").write_text("".join(f"{item}\tTitle of {item}\n" for item in ids))
    out = succeeds("similar", finished, ids[0], "-k", "2", "--titles", tmp_path / "titles")
    assert out.startswith(f"most similar to Title of {ids[0]}\n")
    assert all(row[2:4] == ["Title", "of"] for row in rows(out))
    seen = recblr("similar", finished, "no such item")
    assert (seen.code, "has no item 'no such item'" in seen.err) == (2, True)


def test_a_baseline_has_similar_items_and_vectors_too(data: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "items.parquet"
    succeeds("train", data, "--out", run, "--k-core", "0", "--epochs", "1", "--model", "sasrec", *SMALL)
    assert len(rows(succeeds("similar", run, Run(run).dataset().item_ids[0], "-k", "4"))) == 4
    succeeds("embeddings", run, "--out", out)
    table = Run(run).model().item_embedding.weight.detach().numpy()
    assert np.array_equal(pl.read_parquet(out)["vector"].to_numpy(), table)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_the_file_has_the_vectors_of_the_model(finished: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"items{suffix}"
    assert succeeds("embeddings", finished, "--out", out) == f"{out}: 129 items, 16 numbers each\n"
    content, dataset = Run(finished).content_and_dataset()
    if suffix == ".csv":
        frame = pl.read_csv(out, schema_overrides={f"v{number}": pl.Float32 for number in range(16)})
        vectors = frame.drop("item").to_numpy()
    else:
        frame = pl.read_parquet(out) if suffix == ".parquet" else pl.read_ndjson(out)
        vectors = np.array(frame["vector"].to_list(), np.float32)
    assert frame["item"].to_list() == dataset.item_ids
    assert np.array_equal(vectors, content.table)
    assert os.listdir(tmp_path) == [out.name]


def test_retired_items_are_left_out_and_counted(run: Path, tmp_path: Path) -> None:
    saved, dataset = Run(run).model_and_dataset()
    facts = {"fingerprint": saved.fingerprint, "epoch": saved.epoch, "metrics": saved.metrics}
    save_model(saved.model, run / "model.safetensors", dataset.item_ids, retired=(1, 5), **facts)
    out = tmp_path / "items.csv"
    assert (
        succeeds("embeddings", run, "--out", out) == f"{out}: 127 items, without 2 retired, 16 numbers each\n"
    )
    left = [item for number, item in enumerate(dataset.item_ids) if number not in (1, 5)]
    assert pl.read_csv(out)["item"].to_list() == left
    shown = {row[1] for row in rows(succeeds("similar", run, dataset.item_ids[1], "-k", "200"))}
    assert shown == set(left)


def test_a_wrong_suffix_or_folder_is_named(finished: Path, tmp_path: Path) -> None:
    for out, words in (
        (tmp_path / "items.npy", "does not say"),
        (tmp_path / "none" / "i.csv", "cannot write"),
    ):
        seen = recblr("embeddings", finished, "--out", out)
        assert (seen.code, words in seen.err) == (2, True)
    assert os.listdir(tmp_path) == []
