"""The examples of the how-to pages and of docs/run-folder.md."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli.command import SMALL, at
from data.publisher import publish
from docs.shell import type_in
from integrations.recbole_checkpoints import N_ITEMS, released_model, save
from training.tiny_runs import assert_same_run, one_thread, tiny_config, tiny_dataset

import recblr
from recblr.data import download, write_inter
from recblr.evaluation import read_report
from recblr.experiments import RECIPES
from recblr.training import EpochRecord, Run, train
from recblr.training.progress import Listener

# With the defaults, a test would take too long.
SMALLER = {"train": ["--epochs", "2", *SMALL]}


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


def events() -> pl.DataFrame:
    """A log like that of a shop: one row for each event, with a rating."""
    dataset = tiny_dataset()
    users = np.repeat(np.array(dataset.user_ids), dataset.histories.lengths)
    items = np.array(dataset.item_ids)[dataset.histories.items]
    stars = np.where(np.arange(len(items)) % 9 == 0, 2, 5)
    return pl.DataFrame({"uid": users, "sku": items, "ts": np.arange(len(items)), "stars": stars})


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A folder with the files of the examples."""
    table = events()
    table.write_csv(tmp_path / "log.csv")
    for month, part in (("may", table[:400]), ("june", table[400:])):
        part.rename({"uid": "user_id", "sku": "item_id", "ts": "timestamp"}).write_parquet(
            tmp_path / f"{month}.parquet"
        )
    return tmp_path


def test_a_csv(shop: Path) -> None:
    lines = r"""
    # [csv]
    recblr train log.csv --user-column uid --item-column sku --time-column ts --out run
    recblr evaluate run
    recblr recommend run --user u7
    # [/csv]
    """
    type_in(shop, lines, SMALLER)
    assert (shop / "run" / "report.json").exists()


def test_comparing_runs(shop: Path) -> None:
    pytest.importorskip("matplotlib")
    lines = r"""
    # [compare]
    recblr train log.csv --user-column uid --item-column sku --time-column ts --model gru4rec --out other
    recblr compare run other --out both.json --plot both.png
    # [/compare]
    """
    one = "recblr train log.csv --user-column uid --item-column sku --time-column ts --out run\n"
    type_in(shop, one + lines, SMALLER)
    assert "GRU4Rec" in (shop / "both.json").read_text()
    assert (shop / "both.png").exists()


def test_ratings_and_several_files(shop: Path) -> None:
    lines = r"""
    # [ratings]
    recblr train log.csv --user-column uid --item-column sku --time-column ts \
        --rating-column stars --min-rating 4 --out liked
    # [/ratings]
    # [files]
    recblr train may.parquet june.parquet --out both
    # [/files]
    """
    type_in(shop, lines, SMALLER)
    liked, both = (Run(shop / name).dataset() for name in ("liked", "both"))
    assert liked.num_interactions < both.num_interactions
    assert both.num_users == 60


def test_a_file_without_a_header_and_a_time_in_two_columns(tmp_path: Path) -> None:
    log = events()
    moments = pl.datetime(2016, 5, 9) + pl.duration(seconds="ts")
    clicks = log.select("uid", moments.dt.strftime("%FT%TZ").alias("at"), "sku", zero=pl.lit(0))
    clicks.write_csv(tmp_path / "clicks.dat", include_header=False)
    views = log.select(
        sessionId="uid",
        userId=None,
        itemId="sku",
        timeframe=pl.col("ts") * 1000,
        eventdate=pl.lit("2016-05-09"),
    )
    views.write_csv(tmp_path / "train-item-views.csv", separator=";")
    lines = r"""
    # [columns]
    recblr train clicks.dat --columns user,time,item,- --out clicks
    # [/columns]
    # [offset]
    recblr train train-item-views.csv --user-column sessionId --item-column itemId \
        --time-column eventdate+timeframe --offset-unit ms --out sessions
    # [/offset]
    """
    type_in(tmp_path, lines, SMALLER)
    assert Run(tmp_path / "clicks").dataset().fingerprint == Run(tmp_path / "sessions").dataset().fingerprint


def test_gaps_of_the_past_alone(tmp_path: Path) -> None:
    events().with_columns(pl.col("ts") * 3600 + 1_600_000_000).write_csv(tmp_path / "log.csv")
    lines = r"""
    # [time]
    recblr train log.csv --user-column uid --item-column sku --time-column ts --time past --out lists
    # [/time]
    """
    type_in(tmp_path, lines, SMALLER)
    assert read_report(tmp_path / "lists" / "report.json")["protocol"]["time"] == "past"


def test_a_unit_of_times(tmp_path: Path) -> None:
    events().rename({"ts": "day"}).write_csv(tmp_path / "visits.csv")
    lines = r"""
    # [unit]
    recblr train visits.csv --user-column uid --item-column sku --time-column day --time-unit d --out visits
    # [/unit]
    """
    type_in(tmp_path, lines, SMALLER)
    dataset = Run(tmp_path / "visits").dataset()
    assert dataset.seconds is not None
    assert dataset.seconds.max() >= 86_400
    assert not (dataset.seconds % 86_400).any()


def test_lists_of_objects(tmp_path: Path) -> None:
    grouped = events().rename({"uid": "session", "sku": "aid"}).group_by("session", maintain_order=True)
    sessions = grouped.agg(events=pl.struct("aid", "ts"))
    sessions.write_ndjson(tmp_path / "otto.jsonl")
    lines = r"""
    # [nested]
    recblr train otto.jsonl --user-column session --item-column aid --time-column ts --out sessions
    # [/nested]
    """
    type_in(tmp_path, lines, SMALLER)
    expected = recblr.Dataset.from_frame(events(), user="uid", item="sku", time="ts")
    assert Run(tmp_path / "sessions").dataset().fingerprint == expected.fingerprint


def test_a_frame(tmp_path: Path) -> None:
    log = events()
    with at(tmp_path):
        # [frame]
        from pathlib import Path

        import recblr
        from recblr.training import Run, TrainingConfig, train

        # log: a polars or pandas frame, an event a row.
        dataset = recblr.Dataset.from_frame(log, user="uid", item="sku", time="ts")
        print(dataset.describe())  # counts, lengths of histories, the span of times

        run = Run(Path("run"))
        train(dataset, run, TrainingConfig(epochs=1))
        # [/frame]
        assert run.model().num_items == dataset.num_items
        assert run.data() is None


def test_users_with_few_events(shop: Path) -> None:
    with (shop / "log.csv").open("a") as log:
        log.write("new,s01e12,9999,5\n")
    lines = r"""
    # [short]
    recblr train log.csv --user-column uid --item-column sku --time-column ts \
        --min-user-events 1 --keep-short --out everyone
    # [/short]
    """
    type_in(shop, lines, SMALLER)
    assert Run(shop / "everyone").dataset().num_users == 61


def test_the_split_by_time(shop: Path) -> None:
    lines = r"""
    # [split]
    recblr train log.csv --user-column uid --item-column sku --time-column ts \
        --split time --test-share 0.2 --out later
    # [/split]
    """
    # All users begin at the same time, and some have events for longer.
    both_sides = events().with_columns(pl.int_range(pl.len()).over("uid").alias("ts"))
    both_sides.write_csv(shop / "log.csv")
    type_in(shop, lines, SMALLER)
    assert read_report(shop / "later" / "report.json")["protocol"]["split"] == "time"


def test_a_config_file(shop: Path) -> None:
    text = """
    # [toml]
    [data]
    paths = ["log.csv"]
    user-column = "uid"
    item-column = "sku"
    time-column = "ts"

    [model]
    d-model = 128
    dropout = 0.5

    [optimisation]
    epochs = 10
    warmup = 0.05
    weight-decay = 0.01

    [loss]
    loss = "sampled-softmax"
    negatives = 1024
    # [/toml]
    """
    lines = r"""
    # [config]
    recblr train --config shop.toml --out run                  # the file's options
    recblr train --config shop.toml --epochs 2 --out shorter   # a flag goes before the file
    recblr train --config run/config.toml --out again          # the first run once more
    # [/config]
    """
    (shop / "shop.toml").write_text(text)
    type_in(shop, lines, {"train": ["--num-layers", "1"]})
    assert Run(shop / "shorter").config().epochs == 2
    assert Run(shop / "run").config().model.d_model == 128
    assert_same_run(shop / "again", shop / "run")


def test_resuming(shop: Path) -> None:
    write_inter(tiny_dataset(), shop / "shop.inter")
    lines = r"""
    # [resume]
    recblr train --out run --resume
    # [/resume]
    """
    with at(shop), pytest.raises(KeyboardInterrupt):
        train(tiny_dataset(), Run(Path("run")), tiny_config(), listener=_StopAfterOneEpoch())
    type_in(shop, lines)
    assert len(Run(shop / "run").log()) == tiny_config().epochs


class _StopAfterOneEpoch(Listener):
    def end_epoch(self, record: EpochRecord) -> None:
        raise KeyboardInterrupt


def test_the_baselines(shop: Path) -> None:
    lines = r"""
    # [baselines]
    recblr train log.csv --user-column uid --item-column sku --time-column ts --model sasrec --out sasrec
    recblr train --config sasrec/config.toml --model gru4rec --out gru4rec
    # [/baselines]
    """
    type_in(shop, lines, {"train": ["--epochs", "1", *SMALL]})
    for model, name in (("sasrec", "SASRec"), ("gru4rec", "GRU4Rec")):
        assert read_report(shop / model / "report.json")["model"]["name"] == name


def test_the_report(shop: Path) -> None:
    type_in(shop, "recblr train may.parquet june.parquet --out run", SMALLER)
    with at(shop):
        # [report]
        from recblr.evaluation import read_report

        report = read_report("run/report.json")
        ours = report["ours"]["test"]["unmasked"]["ndcg@10"]  # {"mean": …, "std": …, "seeds": {"0": …}}
        popular = report["baselines"]["popular"]["test"]["unmasked"]["ndcg@10"]
        # [/report]
    assert ours["seeds"]["0"] == ours["mean"]
    assert popular["seeds"] == {}
    assert set(report) == {
        "schema", "ours", "baselines", "dataset", "protocol", "model", "training", "curve",
        "intervals", "command", "commit", "machine", "seconds", "date",
    }  # fmt: skip


def test_reproducing_the_paper(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = r"""
    # [reproduce]
    recblr reproduce ml-1m
    recblr reproduce beauty --data Beauty.txt --seeds 1
    # [/reproduce]
    """
    monkeypatch.setattr(download, "PUBLISHER", str(publish(tmp_path_factory.mktemp("films"), monkeypatch)))
    for name in RECIPES:
        few = replace(RECIPES[name], users=9, items=9, interactions=81)
        monkeypatch.setitem(RECIPES, name, few)  # type: ignore[misc]
    (tmp_path / "Beauty.txt").write_text("".join(f"{user} {' '.join('123456789')}\n" for user in range(9)))
    type_in(tmp_path, lines, {"reproduce": ["--epochs", "1", *SMALL]})
    with at(tmp_path):
        # [reproduced]
        from recblr.evaluation import read_report

        report = read_report("reproduce-ml-1m/report.json")
        ours = report["ours"]["test"]["unmasked"]["ndcg@10"]  # {"mean": …, "std": …, "seeds": {"0": …, …}}
        theirs = report["paper"]["test"]["unmasked"]["ndcg@10"]["mean"]
        changed = report["recipe"]["differs"]  # {"epochs": {"recipe": …, "here": …}}
        # [/reproduced]
    assert list(ours["seeds"]) == ["0", "1", "2"]
    assert theirs == 0.1901
    assert changed["epochs"] == {"recipe": RECIPES["ml-1m"].options["epochs"], "here": 1}


def test_recommending(shop: Path) -> None:
    type_in(shop, "recblr train may.parquet june.parquet --out run", SMALLER)
    with at(shop):
        # [recommend]
        from pathlib import Path

        from recblr.serving import recommend
        from recblr.training import Run

        run = Run(Path("run"))
        dataset, model = run.dataset(), run.model()
        history = [dataset.item_index(item) for item in ("s01e12", "s02e01")]
        for item, score in recommend(model, history, k=5):
            print(dataset.item_ids[item], score)
        # [/recommend]


def test_released_options_and_checkpoints(shop: Path) -> None:
    lines = r"""
    # [released]
    recblr train may.parquet june.parquet --max-length 50 --padding-leak --beta-epsilon 1e-8 \
        --lambda-init linspace --no-history-average --label-smoothing 0 --no-repeat-bias \
        --samples prefixes --time none --out as-released
    # [/released]
    """
    type_in(shop, lines, SMALLER)
    config = Run(shop / "as-released").config()
    assert config.model == recblr.nn.RecBLRConfig.released(50, d_model=16, num_layers=1, dropout=0.5)
    save(shop / "RecBLR.pth", released_model())
    with at(shop):
        # [load-released]
        model = recblr.load_released("RecBLR.pth")  # in evaluation mode; item i is RecBole's i + 1
        # [/load-released]
    assert model.num_items == N_ITEMS - 1
