"""Times on the command line: what train says of them, and recommendations at a time."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
from cli.command import SMALL, items_in, recblr, succeeds
from training.test_times import WEEK, told_by_gaps

from recblr.evaluation import read_report
from recblr.serving import recommend
from recblr.training import Run


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("times") / "log.csv"
    told_by_gaps(users=40, events=8).write_csv(path)
    return path


@pytest.fixture(scope="module")
def trained(log: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run with the default use of times, and what its training printed."""
    folder = tmp_path_factory.mktemp("run") / "run"
    out = succeeds("train", log, "--out", folder, "--k-core", "0", "--epochs", "1", *SMALL)
    return folder, out


def train_on(log: Path, folder: Path, *options: str) -> str:
    return succeeds("train", log, "--out", folder, "--k-core", "0", "--epochs", "1", *options, *SMALL)


def test_training_says_what_it_learns_of_time(trained: tuple[Path, str]) -> None:
    folder, out = trained
    assert "the model learns from the gaps between events, and from when the next item is asked for" in out
    assert "time of the request known" in " ".join(out.split())
    assert read_report(folder / "report.json")["protocol"]["time"] == "request"


def test_training_says_when_the_unit_of_times_is_unknown_and_how_to_name_it(
    log: Path, tmp_path: Path
) -> None:
    counted = tmp_path / "counted.csv"
    pl.read_csv(log).with_columns(pl.col("timestamp") - 1_600_000_000).write_csv(counted)
    out = train_on(counted, tmp_path / "run")
    assert "uses only the order of the events: the unit of their times is unknown (--time-unit)" in out
    assert read_report(tmp_path / "run" / "report.json")["protocol"]["time"] == "none"
    assert "the model learns from the gaps" in train_on(counted, tmp_path / "again", "--time-unit", "s")


def test_training_says_that_its_times_are_all_the_same_even_if_later_ones_differ(
    log: Path, tmp_path: Path
) -> None:
    same = tmp_path / "same.csv"
    last = pl.int_range(pl.len()).over("user_id") >= pl.len().over("user_id") - 2
    times = 1_600_000_000 + 100 * last.cast(pl.Int64)
    pl.read_csv(log).with_columns(timestamp=times).write_csv(same)
    out = train_on(same, tmp_path / "run")
    assert "only the order of the events, because all times of the training are the same" in out
    assert read_report(tmp_path / "run" / "report.json")["protocol"]["time"] == "none"


def test_training_says_that_only_dates_count(log: Path, tmp_path: Path) -> None:
    dated = tmp_path / "dated.csv"
    pl.read_csv(log).with_columns(pl.col("timestamp") // 86400 * 86400).write_csv(dated)
    assert "the times are dates, so a request counts as one, too" in train_on(dated, tmp_path / "run")


def test_a_chosen_use_is_not_explained(log: Path, tmp_path: Path) -> None:
    out = train_on(log, tmp_path / "run", "--time", "past")
    assert "the model learns from" not in out
    assert "gaps between past events known" in " ".join(out.split())


def test_items_are_asked_for_right_after_the_last_event_by_default(trained: tuple[Path, str]) -> None:
    dataset = Run(trained[0]).dataset()
    out = succeeds("recommend", trained[0], "--user", "3", "--include-seen")
    assert dataset.seconds is not None
    start, end = dataset.histories.offsets[3:5]
    times, history = dataset.seconds[start:end], dataset.histories.history(3)
    moment = pl.from_epoch(pl.Series([int(times[-1])])).dt.strftime("%Y-%m-%d %H:%M:%S UTC")[0]
    assert f"asked for right after the last event, at {moment} (--at gives another time)" in out
    best = recommend(Run(trained[0]).model(), history.tolist(), 10, times=times.tolist(), mask_seen=False)
    assert items_in(out.partition("\n")[2]) == [dataset.item_ids[item] for item, _ in best]


def test_at_takes_dates_with_zones_and_seconds(trained: tuple[Path, str]) -> None:
    texts = ("2026-11-01T12:00", "2026-11-01 13:00:00+01:00", "1793534400")
    printed = {succeeds("recommend", trained[0], "--user", "3", "--at", text) for text in texts}
    assert len(printed) == 1
    assert "asked for at 2026-11-01 12:00:00 UTC" in printed.pop()


def test_a_typed_history_has_typed_times(trained: tuple[Path, str]) -> None:
    dataset = Run(trained[0]).dataset()
    assert dataset.seconds is not None
    start, end = dataset.histories.offsets[3:5]
    history = ",".join(dataset.item_ids[item] for item in dataset.histories.history(3))
    times = ",".join(f"{second:.0f}" for second in dataset.seconds[start:end])
    at = f"{dataset.seconds[end - 1] + WEEK:.0f}"
    by_user = succeeds("recommend", trained[0], "--user", "3", "--at", at)
    typed = succeeds("recommend", trained[0], "--history", history, "--times", times, "--at", at)
    assert by_user.splitlines()[1:] == typed.splitlines()[1:]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--history", "1,2"], "so it needs the times of the history; give them with --times, one for each"),
        (["--history", "1,2", "--times", "1600000000"], "has 2 event(s), but 1 time(s); give one for each"),
        (["--user", "3", "--times", "1600000000"], "the times of --user are known; leave it out"),
        (["--user", "3", "--at", "noon"], "--at is no time: 'noon'; give a date such as 2026-11-01T12:00"),
        (
            ["--user", "3", "--at", "1793534400000"],
            "--at must be in seconds, but 1793534400000 seems to be in ms",
        ),
        (
            ["--user", "3", "--at", "20260101"],
            "the request is at 1970-08-23 11:48:21 UTC, but the last event is later, at 20",
        ),
    ],
)
def test_times_that_do_not_fit_are_refused(
    trained: tuple[Path, str], options: list[str], message: str
) -> None:
    seen = recblr("recommend", trained[0], *options)
    assert seen.code == 2
    assert seen.out == ""
    assert message in " ".join(seen.err.split())


def test_a_model_without_the_request_refuses_at(finished: Path) -> None:
    item = Run(finished).dataset().item_ids[0]
    for flag, words in (("--at", ["--user", "u7"]), ("--times", ["--item", item])):
        seen = recblr("recommend", finished, *words, flag, "2026-11-01")
        assert seen.code == 2
        said = f"{flag} has no effect, because the model was trained with --time none; leave it out"
        assert said in " ".join(seen.err.split())
