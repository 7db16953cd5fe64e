"""Training with times: a gap that decides the next item is learned, and the unit of times changes nothing."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from rich.console import Console
from training.tiny_runs import assert_same_run, tiny_config, trained_to

from recblr.config import GRU4RecConfig, SASRecConfig
from recblr.config.model import ModelConfig, TimeUse
from recblr.data import Dataset, leave_one_out, packed_batches, prefix_batches
from recblr.data.packed import time_range
from recblr.errors import InputError
from recblr.evaluation import print_report
from recblr.nn import RecBLR, RecBLRConfig
from recblr.nn.losses import linear_cross_entropy
from recblr.run.folder import settled_for, split_for
from recblr.serving import recommend
from recblr.serving.scorer import model_scorer
from recblr.training import Run, train
from recblr.training.evaluate import evaluate_run
from recblr.training.learner import Learner

MINUTE, WEEK = 60, 7 * 86400


def told_by_gaps(users: int = 80, events: int = 16) -> pl.DataFrame:
    """A log in which the gap before an event decides its item: a minute, one of 0..2; a week, one of 3..5."""
    random = np.random.default_rng(7)
    gaps = random.choice([MINUTE, WEEK], (users, events))
    items = random.integers(3, size=gaps.shape) + 3 * (gaps == WEEK)
    # Times of day, so that the times are not only dates.
    times = 1_600_000_000 + random.integers(10**6, size=(users, 1)) + gaps.cumsum(1)
    owners = np.repeat(np.arange(users), events)
    return pl.DataFrame({"user_id": owners, "item_id": items.ravel(), "timestamp": times.ravel()})


def read(frame: pl.DataFrame) -> Dataset:
    return Dataset.from_frame(frame, k_core=0, name="gaps")


def model_with(use: TimeUse | None, config: type[ModelConfig] = RecBLRConfig) -> ModelConfig:
    return config(d_model=16, num_layers=1, dropout=0.0, time=use)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[TimeUse, Run]:
    made: dict[TimeUse, Run] = {}
    for use in ("none", "past", "request"):
        made[use] = Run(tmp_path_factory.mktemp("times") / use)
        train(read(told_by_gaps()), made[use], tiny_config(epochs=8, model=model_with(use)))
    return made


def test_only_a_model_that_knows_the_request_learns_what_the_gap_decides(runs: dict[TimeUse, Run]) -> None:
    hits = {use: evaluate_run(run)["ours"]["test"]["unmasked"]["hr@5"]["mean"] for use, run in runs.items()}
    # Of six items, three are possible after each gap.  Without the gap, one of six is not among five.
    model = runs["request"].model()
    dataset = runs["request"].dataset()
    holdout = split_for(dataset, runs["request"].config()).test
    best = model_scorer(model)(holdout.histories).topk(3).indices
    asked = holdout.histories.request_times
    assert asked is not None
    ends = holdout.histories.times
    assert ends is not None
    gaps = asked - ends[holdout.histories.offsets[1:] - 1]
    late = np.array([dataset.item_ids[item] >= "3" for item in best.flatten()]).reshape(best.shape)
    assert (late == (gaps == WEEK)[:, None]).mean() > 0.95
    assert hits["request"] == 1.0
    assert max(hits["none"], hits["past"]) < 0.95


def test_the_report_says_what_is_known_of_time(runs: dict[TimeUse, Run]) -> None:
    words = {
        "none": "no time known",
        "past": "gaps between past events known",
        "request": "gaps between past events and time of the request known",
    }
    for use, run in runs.items():
        report = evaluate_run(run)
        assert report["protocol"]["time"] == use
        out = io.StringIO()
        print_report(report, Console(file=out, width=120))
        assert words[use] in " ".join(out.getvalue().split())


def in_milliseconds(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col("timestamp") * 1000)


def as_dates(frame: pl.DataFrame) -> pl.DataFrame:
    """ISO texts in the zone of Nepal."""
    moments = pl.from_epoch(pl.col("timestamp") + 20_700).dt.strftime("%Y-%m-%dT%H:%M:%S+05:45")
    return frame.with_columns(moments.alias("timestamp"))


@pytest.mark.parametrize("change", [in_milliseconds, as_dates])
def test_the_unit_of_the_times_does_not_change_the_model(
    tmp_path: Path, runs: dict[TimeUse, Run], change: type
) -> None:
    run = Run(tmp_path / "run")
    train(read(change(told_by_gaps())), run, tiny_config(epochs=8, model=model_with("request")))
    ours, theirs = run.model().state_dict(), runs["request"].model().state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert run.dataset().fingerprint == runs["request"].dataset().fingerprint


@pytest.mark.parametrize("config", [RecBLRConfig, SASRecConfig, GRU4RecConfig])
@pytest.mark.parametrize("use", ["past", "request"])
def test_every_model_trains_with_times(tmp_path: Path, config: type[ModelConfig], use: TimeUse) -> None:
    run = Run(tmp_path / "run")
    train(read(told_by_gaps()), run, tiny_config(epochs=1, model=model_with(use, config)))
    model = run.model()
    assert model.time is not None
    assert model.time.longest_gap.item() == WEEK
    assert evaluate_run(run)["protocol"]["time"] == use


def test_a_resumed_run_equals_one_without_a_stop(tmp_path: Path, runs: dict[TimeUse, Run]) -> None:
    config = tiny_config(epochs=8, model=model_with("request"))
    run = trained_to(tmp_path / "run", 3, read(told_by_gaps()), config)
    train(read(told_by_gaps()), run, config, resume=True)
    assert_same_run(run.folder, runs["request"].folder)


def test_times_are_used_by_default_where_they_tell_something() -> None:
    config, frame = tiny_config(model=model_with(None)), told_by_gaps()
    cases = {
        "request": frame,
        "none": frame.with_columns(timestamp=pl.int_range(pl.len())),  # numbers of an unknown unit
    }
    same = frame.with_columns(timestamp=pl.lit(1_600_000_000))
    for use, log in [*cases.items(), ("none", frame.drop("timestamp")), ("none", same)]:
        train_part = leave_one_out(read(log)).train
        assert settled_for(train_part, config).model.time == use


@pytest.mark.parametrize(
    ("timestamp", "what"),
    [
        (pl.int_range(pl.len()), "are missing, or have an unknown unit"),
        (pl.lit(1_600_000_000), "are all the same"),
    ],
)
def test_a_use_of_times_that_are_not_known_is_refused(tmp_path: Path, timestamp: pl.Expr, what: str) -> None:
    log = read(told_by_gaps().with_columns(timestamp=timestamp))
    with pytest.raises(
        InputError, match=f"--time past needs the times of the events, but they {what}"
    ) as raised:
        train(log, Run(tmp_path / "run"), tiny_config(model=model_with("past")))
    assert not (tmp_path / "run").exists()
    assert "--time none" in raised.value.remedy
    train(log, Run(tmp_path / "run"), tiny_config(epochs=1, model=model_with("none")))


def test_the_unit_that_the_remedy_names_lets_the_times_be_used(tmp_path: Path) -> None:
    log = told_by_gaps().with_columns(pl.col("timestamp") - 1_600_000_000)  # from 1970 on: of an unknown unit
    dataset = Dataset.from_frame(log, k_core=0, time_unit="s")
    train(dataset, Run(tmp_path / "run"), tiny_config(epochs=1, model=model_with("past")))


def test_a_prefix_and_a_whole_history_give_the_same_hidden_vectors() -> None:
    dataset = read(told_by_gaps(users=6))
    histories = leave_one_out(dataset).train
    config = tiny_config(model=model_with("request"))
    learner = Learner(dataset.num_items, config, linear_cross_entropy, time_range=time_range(histories))
    model = learner.model.eval()

    def hidden(batch: object) -> dict[tuple[int, ...], torch.Tensor]:
        items, offsets, times, asked = (
            torch.from_numpy(getattr(batch, name)) for name in ("inputs", "offsets", "times", "request_times")
        )
        out = model(items, offsets=offsets, times=times, request_times=asked)
        rows = {}
        for start, end in zip(offsets[:-1].tolist(), offsets[1:].tolist(), strict=True):
            for row in range(start, end):
                rows[(*items[start : row + 1].tolist(), times[row].item())] = out[row]
        return rows

    whole: dict[tuple[int, ...], torch.Tensor] = {}
    for batch in packed_batches(histories, tokens=1000, seed=0, epoch=1):
        whole |= hidden(batch)
    for batch in prefix_batches(histories, sequences=1000, seed=0, epoch=1):
        for key, row in hidden(batch).items():
            torch.testing.assert_close(row, whole[key])


def test_what_is_served_by_steps_is_what_the_evaluation_ranks(runs: dict[TimeUse, Run]) -> None:
    """Events one by one and a request at the time of the target, against the scores of the evaluation."""
    model = runs["request"].model()
    assert isinstance(model, RecBLR)
    histories = split_for(runs["request"].dataset(), runs["request"].config()).test.histories
    ranked = model_scorer(model)(histories)
    times, asked = histories.times, histories.request_times
    assert times is not None
    assert asked is not None
    with torch.no_grad():
        for user in (0, 7):
            start, end = histories.offsets[user : user + 2]
            state = None
            for event in range(start, end):
                item, time = torch.tensor([histories.items[event]]), torch.tensor([times[event]])
                _, state = model.step(item, state, time=time, request_time=time)
            assert state is not None
            answer = model.hidden_at(state, torch.tensor([asked[user]]))
            seen = torch.zeros(model.num_items, dtype=torch.bool)
            seen[histories.items[start:end]] = True
            torch.testing.assert_close(model.scores(answer[0], seen), ranked[user], rtol=1e-4, atol=1e-5)


def test_recommendations_follow_the_time_of_the_request(runs: dict[TimeUse, Run]) -> None:
    model, dataset = runs["request"].model(), runs["request"].dataset()
    history, ids = dataset.histories.history(0).tolist(), dataset.item_ids
    assert dataset.seconds is not None
    times = dataset.seconds[: len(history)].tolist()

    def best(request_time: float | None) -> list[tuple[int, float]]:
        return recommend(model, history, 3, times=times, request_time=request_time, mask_seen=False)

    for gap, expected in ((MINUTE, {"0", "1", "2"}), (WEEK, {"3", "4", "5"})):
        assert {ids[item] for item, _ in best(times[-1] + gap)} == expected
    assert best(None) == best(times[-1])


GOOD_TIMES = [1.6e9, 1.6e9 + 5, 1.6e9 + 5]


@pytest.mark.parametrize(
    ("times", "request_time", "message"),
    [
        (None, None, "trained with --time request, so it needs the times of the history; give them"),
        (GOOD_TIMES[:2], None, r"has 3 event\(s\), but 2 time\(s\); give one for each"),
        (GOOD_TIMES[::-1], None, "the times of the history decrease; give the events oldest first"),
        ([*GOOD_TIMES[:2], np.nan], None, "a time is NaN or infinite"),
        (GOOD_TIMES, np.inf, "a time is NaN or infinite"),
        (GOOD_TIMES, 1.6e9, "the request is at 2020-09-13 12:26:40 UTC, but the last event is"),
        (
            GOOD_TIMES,
            1.6e9 + 4.75,
            r"at 2020-09-13 12:26:44.75 UTC, but .* later, at .*:45 UTC; give a later",
        ),
    ],
)
def test_times_that_do_not_fit_a_request_are_refused(
    runs: dict[TimeUse, Run], times: list[float] | None, request_time: float | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        recommend(runs["request"].model(), [0, 1, 2], 3, times=times, request_time=request_time)


def test_a_scorer_refuses_histories_without_times(runs: dict[TimeUse, Run]) -> None:
    histories = split_for(runs["request"].dataset(), runs["request"].config()).test.histories
    without = (replace(histories, times=None), histories.asked_at(None))
    for part, name in zip(without, ("times", "request times"), strict=True):
        with pytest.raises(
            InputError, match=f"trained with --time request, but the histories have no {name}"
        ):
            model_scorer(runs["request"].model())(part)
