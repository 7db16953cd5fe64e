"""`recblr recommend` for many users: the lists of single users, in one file, whole or not at all."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from cli.command import SMALL, items_in, recblr, shell, succeeds
from cli.test_interrupt import stop_when

from recblr import Recommender
from recblr.run import Run, save_model
from recblr.serving import bulk

READ = {".parquet": pl.read_parquet, ".csv": pl.read_csv, ".jsonl": pl.read_ndjson}


def users_file(folder: Path, *users: str) -> Path:
    (folder / "users.txt").write_text("".join(f"{user}\n" for user in users))
    return folder / "users.txt"


def lists(file: Path) -> dict[str, list[str]]:
    frame = READ[file.suffix](file)
    assert frame.columns == ["user", "item", "score", "rank"]
    assert frame["rank"].to_list() == [
        rank for _, part in frame.group_by("user", maintain_order=True) for rank in range(1, len(part) + 1)
    ]
    return {
        str(user): part["item"].to_list() for (user,), part in frame.group_by("user", maintain_order=True)
    }


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose model knows the time of the request."""
    folder = tmp_path_factory.mktemp("timed")
    generator = np.random.default_rng(0)
    gaps = generator.choice([5, 600, 90_000], (60, 12))
    frame = {
        "user": [f"u{user}" for user in np.repeat(np.arange(60), 12)],
        "item": [f"i{item}" for item in generator.integers(0, 20, 720)],
        "time": 1_600_000_000 + gaps.cumsum(1).reshape(-1),
    }
    pl.DataFrame(frame).write_csv(folder / "log.csv")
    succeeds("train", folder / "log.csv", "--out", folder / "run", "--k-core", "0", "--epochs", "1", *SMALL)
    return folder / "run"


@pytest.mark.parametrize("suffix", READ)
def test_all_users_get_the_items_of_single_users(finished: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"recs{suffix}"
    printed = succeeds("recommend", finished, "--all-users", "-k", "5", "--out", out)
    assert printed.startswith(f"{out}: 300 rows for 60 users, in ")
    assert printed.endswith(" users a second\n")
    found = lists(out)
    assert list(found) == Run(finished).dataset().user_ids
    for user in ("u1", "u7", "u60"):
        assert found[user] == items_in(succeeds("recommend", finished, "--user", user, "-k", "5"))
    assert os.listdir(tmp_path) == [out.name]


def test_the_time_and_the_seen_items_are_as_for_a_single_user(timed: Path, tmp_path: Path) -> None:
    out = tmp_path / "recs.csv"
    for words in ([], ["--at", "2021-01-01"], ["--include-seen"], ["--include-seen", "--at", "2021-01-01"]):
        file = users_file(tmp_path, "u9", "u3")
        succeeds("recommend", timed, "--users", file, "-k", "4", "--out", out, *words)
        found = lists(out)
        assert list(found) == ["u9", "u3"]
        for user, items in found.items():
            single = succeeds("recommend", timed, "--user", user, "-k", "4", *words)
            rows = [line.split() for line in single.splitlines()[3:]]
            assert items == [row[1] for row in rows], words
            scores = pl.read_csv(out).filter(pl.col("user") == user)["score"]
            assert scores.to_list() == pytest.approx([float(row[2]) for row in rows], abs=6e-4)


@pytest.mark.parametrize("model", [["--model", "sasrec"], ["--model", "recblr", "--max-length", "6"]])
def test_a_model_without_a_state_recommends_to_many_users_too(
    model: list[str], data: Path, tmp_path: Path
) -> None:
    run, out = tmp_path / "run", tmp_path / "recs.parquet"
    succeeds("train", data, "--out", run, "--k-core", "0", "--epochs", "1", *SMALL, *model)
    succeeds("recommend", run, "--all-users", "-k", "3", "--out", out)
    found = lists(out)
    assert len(found) == 60
    for user in ("u1", "u30"):
        assert found[user] == items_in(succeeds("recommend", run, "--user", user, "-k", "3"))


def test_users_are_read_once_each_in_the_order_of_the_file(finished: Path, tmp_path: Path) -> None:
    file = tmp_path / "users.txt"
    file.write_bytes(b"\xef\xbb\xbfu9\r\n  u3 \r\n \r\nu9\t\r\nu5")
    succeeds("recommend", finished, "--users", file, "-k", "1", "--out", tmp_path / "recs.csv")
    assert list(lists(tmp_path / "recs.csv")) == ["u9", "u3", "u5"]


def test_unknown_users_stop_are_left_out_or_get_popular_items(finished: Path, tmp_path: Path) -> None:
    file, out = users_file(tmp_path, "nobody", "u3", "none"), tmp_path / "recs.parquet"
    words: list[str | Path] = ["recommend", finished, "--users", file, "-k", "4", "--out", out]
    seen = recblr(*words)
    assert (seen.code, out.exists()) == (2, False)
    assert f"2 of the 3 users in {file} are not in the data, such as 'nobody'" in seen.err

    seen = recblr(*words, "--unknown", "skip")
    assert (seen.code, list(lists(out))) == (0, ["u3"])
    assert seen.err == (
        f"recblr: 2 user(s) of {file}, such as 'nobody', are not in the data: they were left out\n"
    )

    seen = recblr(*words, "--unknown", "popular")
    found = lists(out)
    assert (seen.code, list(found)) == (0, ["u3", "nobody", "none"])
    assert seen.out.startswith(f"{out}: 12 rows for 3 users")
    assert "given the most popular items" in seen.err
    assert found["nobody"] == found["none"]
    scores = pl.read_parquet(out).filter(pl.col("user") != "u3")["score"].to_list()
    recommender = Recommender.load(finished)
    for name in ("nobody", "none"):
        expected = recommender.recommend([name], k=4, unknown="popular")
        assert found[name] == expected["item"].to_list()
        assert scores[:4] == scores[4:] == expected["score"].to_list()


def test_only_unknown_users_may_get_popular_items_but_not_an_empty_file(
    finished: Path, tmp_path: Path
) -> None:
    file, out = users_file(tmp_path, "nobody"), tmp_path / "recs.csv"
    words: list[str | Path] = ["recommend", finished, "--users", file, "-k", "2", "--out", out]
    assert recblr(*words, "--unknown", "popular").code == 0
    assert len(lists(out)["nobody"]) == 2
    out.unlink()
    seen = recblr(*words, "--unknown", "skip")
    assert (seen.code, out.exists()) == (2, False)
    assert "none of the 1 users" in seen.err


def test_lists_of_many_unknown_users_are_made_in_parts(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows: list[int] = []

    def write(path: Path, schema: object, frames: Iterable[pl.DataFrame]) -> None:
        rows.extend(map(len, frames))

    monkeypatch.setattr("recblr.io.tables.write_table", write)
    monkeypatch.setattr("recblr.cli.bulk._STRANGERS", 3)
    file = users_file(tmp_path, *(f"nobody {number}" for number in range(7)))
    seen = recblr(
        "recommend", finished, "--users", file, "-k", "2", "--out", tmp_path / "r.csv", "--unknown", "popular"
    )
    assert (seen.code, rows) == (0, [6, 6, 2])
    assert "14 rows for 7 users" in seen.out


def test_retired_items_are_recommended_to_nobody_and_lists_may_be_shorter(run: Path, tmp_path: Path) -> None:
    saved, dataset = Run(run).model_and_dataset()
    best = lists(_all(run, tmp_path, "1"))
    gone = sorted({dataset.item_ids.index(items[0]) for items in best.values()})
    facts = {"fingerprint": saved.fingerprint, "epoch": saved.epoch, "metrics": saved.metrics}
    save_model(saved.model, run / "model.safetensors", dataset.item_ids, retired=tuple(gone), **facts)
    left = dataset.num_items - len(gone)
    out = tmp_path / "recs.csv"
    seen = recblr("recommend", run, "--all-users", "-k", str(left), "--out", out)
    assert (seen.code, seen.err) == (
        0, f"recblr: 60 user(s) have fewer than {left} items left, so their lists are shorter\n"
    )  # fmt: skip
    assert not {dataset.item_ids[item] for item in gone} & set(pl.read_csv(out)["item"])
    seen = recblr("recommend", run, "--all-users", "--include-seen", "-k", str(left + 1), "--out", out)
    assert seen.out.startswith(f"{out}: {60 * left:,} rows for 60 users")
    assert f"60 user(s) have fewer than {left + 1} items left" in seen.err
    strangers = users_file(tmp_path, "nobody")
    recblr("recommend", run, "--users", strangers, "--unknown", "popular", "-k", str(left), "--out", out)
    assert not {dataset.item_ids[item] for item in gone} & set(pl.read_csv(out)["item"])


def _all(run: Path, folder: Path, k: str) -> Path:
    succeeds("recommend", run, "--all-users", "-k", k, "--out", folder / "recs.csv")
    return folder / "recs.csv"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--all-users"], "the lists of many users need a file; give --out FILE"),
        (["--all-users", "--out", "recs.xlsx"], "recs.xlsx does not say what kind of table it is"),
        (["--all-users", "--out", "none/recs.csv"], "cannot write none/recs.csv"),
        (["--all-users", "--users", "f", "--out", "r.csv"], "give either --user"),
        (["--all-users", "--user", "u1", "--out", "r.csv"], "give either --user"),
        (["--users", "nowhere.txt", "--out", "r.csv"], "nowhere.txt"),
        (["--user", "u1", "--out", "r.csv"], "--out does not go with a single history"),
        (["--all-users", "--out", "r.csv", "--titles", "t"], "--titles does not go with many users"),
        (["--all-users", "--out", "r.csv", "--times", "5"], "--times does not go with many users"),
        (["--all-users", "--out", "r.csv", "--unknown", "skip"], "--unknown has an effect only with --users"),
        (["--all-users", "--out", "r.csv", "--at", "2030-01-01"], "--at has no effect"),
    ],
)
def test_a_mistake_gives_one_sentence_and_no_file(
    words: list[str], says: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    seen = recblr("recommend", finished, *words)
    assert (seen.code, seen.out, seen.err.count("\n")) == (2, "", 1)
    assert says in seen.err
    assert os.listdir(tmp_path) == []


def test_a_wrong_word_for_unknown_users_is_refused(finished: Path, tmp_path: Path) -> None:
    words = ["--users", users_file(tmp_path, "u1"), "--unknown", "ignore", "--out", tmp_path / "r.csv"]
    seen = recblr("recommend", finished, *words)
    assert (seen.code, "--unknown must be one of stop, skip, popular, but is 'ignore'" in seen.err) == (
        2,
        True,
    )


def test_a_time_before_a_users_last_event_names_the_user(timed: Path, tmp_path: Path) -> None:
    seen = recblr("recommend", timed, "--all-users", "--at", "2020-09-14", "--out", tmp_path / "r.csv")
    assert seen.code == 2
    assert "at 2020-09-14 00:00:00 UTC, but the last event of user 'u0' is later, at 2020" in seen.err
    assert ", and so for 60 users" in seen.err


@pytest.mark.parametrize("suffix", READ)
def test_a_file_that_cannot_be_finished_leaves_the_old_one(
    suffix: str, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "_USERS", 10)
    out, calls = tmp_path / f"recs{suffix}", 0
    out.write_text("old")
    original = bulk._as_arrays

    def interrupted(*arguments: object) -> bulk.Lists:
        nonlocal calls
        calls += 1
        if calls == 4:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(bulk, "_as_arrays", interrupted)
    seen = recblr("recommend", finished, "--all-users", "--out", out)
    assert (seen.code, calls) == (143, 4)
    assert seen.err.startswith("recblr: stopped: start again with recblr recommend ")
    assert out.read_text() == "old"
    assert os.listdir(tmp_path) == [out.name]


def test_a_process_that_is_stopped_while_it_writes_leaves_no_file(finished: Path, tmp_path: Path) -> None:
    run, out = tmp_path / "run", tmp_path / "out" / "recs.parquet"
    shutil.copytree(finished, run)
    out.parent.mkdir()
    words = ["recommend", str(run), "--all-users", "--out", str(out)]
    assert shell(*words).code == 0
    out.unlink()
    # The draft is there before the first user is done.
    code, printed, err = stop_when(words, tmp_path, lambda: bool(os.listdir(out.parent)), signal.SIGINT)
    assert (code, printed) == (130, "") or out.exists(), err
    assert os.listdir(out.parent) in ([], [out.name])
