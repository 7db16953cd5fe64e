"""`recblr train` and `recblr evaluate`: their output, their files, and that their figures agree."""

from __future__ import annotations

import gzip
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
from cli.command import SMALL, recblr, shell, succeeds
from training.tiny_runs import assert_same_run, contents, tiny_dataset

from recblr.data import SyntheticParameters, best_possible, last_item_only, read_dataset
from recblr.evaluation import KS, read_report
from recblr.io.titles import read_titles
from recblr.training import Run, curves, tensorboard

OPTIONS = ["--k-core", "0", "--epochs", "2", *SMALL]


def test_a_run_has_the_documented_files(finished: Path) -> None:
    assert sorted(path.name for path in finished.iterdir()) == [
        "checkpoints",
        "config.toml",
        "curves.png",
        "dataset",
        "log.jsonl",
        "model.safetensors",
        "report.json",
        "run.json",
    ]


def test_it_prints_the_data_a_line_for_each_epoch_and_the_table(data: Path, tmp_path: Path) -> None:
    out = succeeds("train", data, "--out", tmp_path / "run", *OPTIONS)
    assert "\x1b" not in out
    lines = out.splitlines()
    assert re.fullmatch(
        r"read [\d,]+ events, dropped none; ordered by timestamp, whose unit is unknown", lines[0]
    )
    assert re.fullmatch(r"shop: 60 users, 129 items, [\d,]+ interactions, \d+\.\d per user", lines[1])
    assert lines.pop(2) == (
        "the model uses only the order of the events: the unit of their times is unknown (--time-unit)"
    )
    for number in (1, 2):
        assert re.match(
            rf"epoch   {number}  loss \d\.\d{{4}}  NDCG@10 0\.\d{{4}}  unseen 0\.\d{{4}}  [\d,]+ tokens/s",
            lines[1 + number],
        )
    assert re.fullmatch(r"best validation NDCG@10 0\.\d{4} in epoch \d", lines[4])
    assert lines[5] == f"learning curves are in {tmp_path / 'run' / 'curves.png'}"
    for row in ("RecBLR", "successor", "popular"):
        assert sum(line.strip().startswith(row) for line in lines) == 3  # unmasked, masked, lists
    assert lines[-1] == f"written to {tmp_path / 'run' / 'report.json'}"


def test_it_says_how_many_events_were_dropped_and_why(data: Path, tmp_path: Path) -> None:
    rows = [f"{user},{item},{3 + (user + item) % 3}" for user in range(9) for item in range(9)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,rating", *rows, ",,", "99,99,5"]))
    words = ["train", tmp_path / "log.csv", "--out", tmp_path / "run", "--min-rating", "4", "--k-core", "3"]
    out = succeeds(*words, "--epochs", "1", *SMALL)
    assert out.splitlines()[0] == (
        "read 83 events, dropped 29 (1 without any value, 27 rated below 4, "
        "1 of users or items with fewer than 3 events); in file order: no time column"
    )
    again = succeeds("train", "--out", tmp_path / "run", "--resume")
    assert "read 83 events" not in again  # the data are read from the run's folder, without dropped events


def test_the_first_line_says_the_unit_of_times_and_a_flag_gives_it(tmp_path: Path) -> None:
    rows = [f"u{user},i{(user + time) % 9},{19_700 + time}" for user in range(20) for time in range(6)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    words = ["train", tmp_path / "log.csv", "--epochs", "1", "--k-core", "0", *SMALL]
    unknown = succeeds(*words, "--out", tmp_path / "unknown").splitlines()[0]
    given = succeeds(*words, "--out", tmp_path / "given", "--time-unit", "d").splitlines()[0]
    assert unknown == f"{given}, whose unit is unknown"
    stored = Run(tmp_path / "given").dataset()
    assert stored.seconds is not None
    assert stored.seconds.min() == 19_700 * 86_400
    assert Run(tmp_path / "unknown").dataset().seconds is None
    again = recblr(*words, "--out", tmp_path / "given", "--time-unit", "h", "--resume")
    assert "was started on other data" in again.err
    assert succeeds(*words, "--out", tmp_path / "given", "--resume").splitlines()[0] == given
    late = recblr(*words, "--out", tmp_path / "unknown", "--time-unit", "d", "--resume")
    assert "on these data without the unit of their times; resume without DATA" in late.err


@pytest.mark.parametrize("samples", ["positions", "prefixes"])
def test_users_with_few_events_train_and_are_recommended_to_but_not_tested(
    tmp_path: Path, samples: str
) -> None:
    rows = [f"u{user},i{(user + time) % 9},{time}" for user in range(20) for time in range(6)]
    rows += ["one,i1,0", "two,i1,0", "two,i2,1", "rare,i3,0", "rare,only,1"]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows]))
    run = tmp_path / "run"
    filters = ["--k-core", "0", "--min-user-events", "1", "--min-item-events", "2"]
    words = ["--epochs", "2", "--samples", samples, "--keep-short", "--valid-share", "0.5", *filters, *SMALL]
    lines = succeeds("train", tmp_path / "log.csv", "--out", run, *words).splitlines()
    assert "dropped 1 (1 of items with fewer than 2 events)" in lines[0]
    assert lines[1].startswith("log: 23 users, 9 items, 124 interactions")
    assert lines[2] == "3 users have fewer than 3 events: they train, and are not tested"
    caption = "(validated on 10 of 20 users), without 3 users of fewer than 3 events, whole catalogue"
    assert caption in " ".join(" ".join(lines).split())

    report = read_report(run / "report.json")
    assert report["dataset"]["users"] == 23
    counts = [report["protocol"][f"{name}_users"] for name in ("valid", "test", "short")]
    assert counts == [10, 20, 3]
    # Of six events, two or one are held out, and the first has none before it. User two has one target.
    targets = 10 * 3 + 10 * 4 + 1
    assert [json.loads(line)["targets"] for line in (run / "log.jsonl").open()] == [targets] * 2
    for user, events in (("one", 1), ("rare", 1), ("two", 2)):
        out = succeeds("recommend", run, "--user", user)
        assert out.startswith(f"for user {user} after {events} events\n")

    again = succeeds("train", "--out", run, "--resume").splitlines()
    assert again[1] == lines[2]
    assert again[-2:] == lines[-2:]  # nothing is left to train, and the evaluation is the same


def test_without_keep_short_the_first_such_user_is_named_with_both_remedies(tmp_path: Path) -> None:
    rows = [f"u{user},i{time}" for user in range(9) for time in range(6)]
    (tmp_path / "log.csv").write_text("\n".join(["user_id,item_id", *rows, "two,i1", "two,i2"]))
    words = ["train", tmp_path / "log.csv", "--out", tmp_path / "run", "--k-core", "0", "--epochs", "1"]
    refused = recblr(*words, *SMALL)
    assert refused.code == 2
    assert "user 'two' of log has 2 event(s)" in refused.err
    for remedy in (["--min-user-events", "3"], ["--keep-short"]):
        assert " ".join(remedy) in refused.err
        succeeds(*words, *SMALL, *remedy)
        shutil.rmtree(tmp_path / "run")


def test_the_report_follows_the_schema(finished: Path) -> None:
    report = read_report(finished / "report.json")
    metrics = {f"{name}@{k}" for k in KS for name in ("hr", "ndcg", "mrr")}
    for root in (report["ours"], report["baselines"]["popular"], report["baselines"]["successor"]):
        for masking in ("unmasked", "masked"):
            assert root["test"][masking].keys() == metrics
            assert root["test"][masking]["hr@10"].keys() == {"mean", "std", "seeds"}
    assert report["ours"]["test"]["masked"]["hr@10"]["seeds"].keys() == {"0"}
    assert report["command"].startswith("recblr train ")
    assert report["protocol"]["k_core"] == 0
    assert report["machine"]["cores"] >= 1
    assert report["dataset"]["name"] == "shop"


def test_the_table_shows_the_reports_figures(finished: Path) -> None:
    out = succeeds("evaluate", finished)
    report = read_report(finished / "report.json")
    for row, root in (("RecBLR", report["ours"]), ("popular", report["baselines"]["popular"])):
        shown = [line.split()[1:] for line in out.splitlines() if line.strip().startswith(row)]
        *of_maskings, of_lists = shown
        assert f"{100 * root['test']['lists']['coverage@10']['mean']:.1f}" == of_lists[0]
        for figures, masking in zip(of_maskings, ("unmasked", "masked"), strict=True):
            names = [f"{metric}@{k}" for k in (10, 20) for metric in ("hr", "ndcg", "mrr")]
            assert figures == [f"{root['test'][masking][name]['mean']:.4f}" for name in names]


def test_evaluate_gives_the_same_figures_as_train(run: Path) -> None:
    before = read_report(run / "report.json")
    (run / "report.json").unlink()
    untouched = contents(run)
    succeeds("evaluate", run)
    after = read_report(run / "report.json")
    for part in (
        "schema",
        "ours",
        "baselines",
        "dataset",
        "protocol",
        "model",
        "training",
        "command",
        "intervals",
        "curve",
    ):
        assert after[part] == before[part], part
    assert {name: text for name, text in contents(run).items() if name != "report.json"} == untouched


def test_a_run_can_be_moved_and_its_data_deleted(data: Path, tmp_path: Path) -> None:
    own = Path(shutil.copy(data, tmp_path / "own.inter"))
    succeeds("train", own, "--out", tmp_path / "run", *OPTIONS)
    own.unlink()
    (tmp_path / "run").rename(tmp_path / "moved")
    succeeds("evaluate", tmp_path / "moved")
    succeeds("recommend", tmp_path / "moved", "--user", "u1")


def test_every_form_of_the_same_data_trains_the_same_model(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    rows = [line.split("\t") for line in data.read_text().splitlines()[1:]]
    csv = "\n".join(["who,what,when", *(",".join(row) for row in rows)])
    (tmp_path / "shop.csv").write_text(csv + "\n")
    (tmp_path / "shop.inter.gz").write_bytes(gzip.compress(data.read_bytes()))
    pairs = "".join(f"{user} {item}\n" for user, item, _ in rows)
    (tmp_path / "pairs.log").write_text(pairs)
    histories: dict[str, list[str]] = {}
    for user, item, _ in rows:
        histories.setdefault(user, []).append(item)
    (tmp_path / "shop.txt").write_text("".join(f"{u} {' '.join(i)}\n" for u, i in histories.items()))
    columns = ["--user-column", "who", "--item-column", "what", "--time-column", "when"]
    for name, more in {
        "shop.csv": columns,
        "shop.inter.gz": [],
        "pairs.log": ["--format", "pairs"],
        "shop.txt": [],
    }.items():
        succeeds("train", tmp_path / name, "--out", tmp_path / f"{name}.run", *OPTIONS, *more)
        assert_same_run(tmp_path / f"{name}.run", finished)


def test_a_resumed_run_ends_with_the_same_bits(data: Path, finished: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    # A job that a cluster starts again has --resume from the first time on.
    out = succeeds("train", data, "--out", run, *OPTIONS, "--resume")
    assert out.startswith(f"{run} holds no run yet, so a new one starts\nread ")
    assert_same_run(run, finished)
    before = contents(run)
    out = succeeds(
        "train", data, "--out", run, *OPTIONS, "--resume"
    )  # the run is done, so only the report is new
    assert out.splitlines()[1].startswith("shop: 60 users")
    assert "epoch  " not in out
    after = contents(run)
    del before["report.json"], after["report.json"]
    assert after == before


def test_without_a_terminal_the_output_is_plain_and_not_wrapped(data: Path, tmp_path: Path) -> None:
    run = tmp_path / ("a-long-name-" * 12)
    seen = shell("train", data, "--out", run, *OPTIONS)
    assert (seen.code, seen.err) == (0, "")
    assert "\x1b" not in seen.out
    assert "\r" not in seen.out
    assert f"written to {run / 'report.json'}\n" in seen.out


def test_names_that_look_like_markup_are_shown_unchanged(data: Path, tmp_path: Path) -> None:
    own = Path(shutil.copy(data, tmp_path / "[b]shop[red] :heart:.inter"))
    out = succeeds("train", own, "--out", tmp_path / "[red]run", *OPTIONS)
    assert out.splitlines()[1].startswith("[b]shop[red] :heart:: 60 users")
    assert f"written to {tmp_path / '[red]run' / 'report.json'}" in out


def test_a_column_with_another_name_can_be_given(tmp_path: Path) -> None:
    rows = [f"{user},{item},{item}" for user in range(9) for item in range(user % 3, 9)]
    (tmp_path / "log.csv").write_text("\n".join(["uid,item_id,timestamp", *rows]))
    seen = recblr("train", tmp_path / "log.csv", "--out", tmp_path / "run", *OPTIONS)
    assert (seen.code, "--user-column" in seen.err) == (2, True)
    succeeds("train", tmp_path / "log.csv", "--out", tmp_path / "run", *OPTIONS, "--user-column", "uid")


def test_the_built_in_data_are_the_same_every_time(tmp_path: Path) -> None:
    for name in ("one.inter", "two.inter", "one.inter.gz", "two.inter.gz"):
        succeeds("synth", tmp_path / name, "--users", "50")
    succeeds("synth", tmp_path / "other.inter", "--users", "50", "--seed", "1")
    one = (tmp_path / "one.inter").read_bytes()
    assert (tmp_path / "two.inter").read_bytes() == one
    assert (tmp_path / "one.inter.gz").read_bytes() == (tmp_path / "two.inter.gz").read_bytes()
    assert gzip.decompress((tmp_path / "one.inter.gz").read_bytes()) == one
    assert (tmp_path / "other.inter").read_bytes() != one


def test_synth_prints_the_best_possible_scores(tmp_path: Path) -> None:
    out = succeeds("synth", tmp_path / "d.inter", "--users", "50", "--seed", "3")
    dataset, parameters = read_dataset(tmp_path / "d.inter", k_core=0), SyntheticParameters(users=50, seed=3)
    assert out.startswith(f"{tmp_path / 'd.inter'}: 50 users, {dataset.num_items} items, ")
    columns = ("hr@1", "hr@5", "hr@10", "ndcg@10", "mrr@10")
    for row, expected in (
        ("the best possible predictor", best_possible(dataset, parameters)),
        ("the best that sees only the last item", last_item_only(dataset, parameters)),
    ):
        line = next(line for line in out.splitlines() if line.startswith(row))
        assert line.removeprefix(row).split() == [f"{expected[column]:.4f}" for column in columns]


def test_titles_of_the_built_in_data_name_the_item_that_comes_before(tmp_path: Path) -> None:
    file, titles = tmp_path / "d.inter", tmp_path / "titles.tsv"
    succeeds("synth", file, "--users", "200", "--titles", titles)
    dataset, says = read_dataset(file, k_core=0), read_titles(titles)
    assert sorted(says) == sorted(dataset.item_ids)
    followed = 0
    for user in range(dataset.num_users):
        history = [dataset.item_ids[item] for item in dataset.histories.history(user)]
        for place, item in enumerate(history):
            if item.startswith("x"):
                assert says[item] == "noise, in no series"
                continue
            series, before = re.fullmatch(r"next in series (\d+) after (s\d+e\d+)", says[item]).groups()  # type: ignore[union-attr]
            assert item.startswith(f"s{int(series):02d}e")
            earlier = [one for one in history[:place] if one.startswith(item[:4])]
            if earlier:  # else this is the user's first item of the series
                assert before == earlier[-1]
                followed += 1
    assert followed > 1000


def test_the_command_in_the_report_can_be_typed_again(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "with space"
    succeeds("train", data, "--out", out, *OPTIONS)
    words = shlex.split(json.loads((out / "report.json").read_text())["command"])
    assert words == ["recblr", "train", str(data), "--out", str(out), *OPTIONS]


def test_the_data_file_of_these_tests_holds_the_tiny_dataset(data: Path) -> None:
    assert read_dataset(data, k_core=0).fingerprint == tiny_dataset().fingerprint


def test_without_matplotlib_a_line_says_how_to_get_curves_and_training_continues(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves, "find_spec", lambda name: None)
    seen = recblr("train", data, "--out", tmp_path / "run", *OPTIONS)
    assert (seen.code, seen.err) == (
        0,
        "recblr: there will be no curves.png, because matplotlib is not installed: "
        "pip install 'recblr[plot]'\n",
    )
    assert not (tmp_path / "run" / "curves.png").exists()


def test_without_tensorboard_the_option_is_refused_before_any_work(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    seen = recblr("train", data, "--out", tmp_path / "run", "--tensorboard", *OPTIONS)
    assert (seen.code, seen.out) == (2, "")
    assert seen.err.startswith(
        "recblr: --tensorboard needs TensorBoard; install it with pip install 'recblr[tensorboard]'"
    )
    assert not (tmp_path / "run").exists()


def test_scalars_for_tensorboard_are_written_with_the_option(data: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="scalars need tensorboard, the extra of that name")
    succeeds("train", data, "--out", tmp_path / "run", "--tensorboard", *OPTIONS)
    (events,) = (tmp_path / "run" / "tensorboard").iterdir()
    assert events.name.startswith("events.out.tfevents.")
