"""The printed table: its rows, its figures, and its width."""

import io
from typing import Any

import pytest
from evaluation.reports import figures, report
from rich.console import Console

from recblr.evaluation.report_file import Report
from recblr.evaluation.report_table import print_report, render_report


def lines(report: Report, width: int = 100) -> list[str]:
    console = Console(width=width, record=True, file=io.StringIO())
    print_report(report, console)
    return [line.rstrip() for line in console.export_text().splitlines()]


def test_each_masking_has_ours_first_then_the_baselines() -> None:
    first_words = [line.split()[0] for line in lines(report()) if line.strip()]
    rows = [word for word in first_words if word in {"all", "unseen", "RecBLR", "successor", "popular"}]
    assert rows[:8] == ["all", "RecBLR", "successor", "popular", "unseen", "RecBLR", "successor", "popular"]


def test_our_row_has_the_name_of_the_model() -> None:
    shown = "\n".join(lines(report(model={"name": "SASRec"})))
    assert shown.count("SASRec") == 2
    assert "RecBLR" not in shown


def test_figures_have_four_decimals_and_are_below_their_names() -> None:
    metrics = figures()
    metrics["test"]["unmasked"]["ndcg@20"] = 0.123456
    shown = lines(report(ours={0: metrics}))
    header = next(line for line in shown if "HR@10" in line)
    assert header.split() == ["HR@10", "NDCG@10", "MRR@10", "HR@20", "NDCG@20", "MRR@20"]
    row = next(line for line in shown if "RecBLR" in line)
    assert row.split() == ["RecBLR", "0.2500", "0.2500", "0.2500", "0.2500", "0.1235", "0.2500"]
    assert row.index("0.1235") + len("0.1235") == header.index("NDCG@20") + len("NDCG@20")


def test_our_row_is_bold_and_the_baselines_are_not() -> None:
    console = Console(
        width=100, file=io.StringIO(), force_terminal=True, color_system="standard", record=True
    )
    console.print(render_report(report()))
    styled = console.export_text(styles=True).splitlines()
    bold = "\x1b[1m"
    assert bold in next(line for line in styled if "RecBLR" in line)
    assert bold not in next(line for line in styled if "successor" in line)


def test_the_caption_names_dataset_sizes_and_protocol() -> None:
    text = "\n".join(lines(report()))
    assert "films: 6,040 users, 3,416 items, 999,611 interactions" in text
    assert "leave-one-out, whole catalogue, pessimistic ties" in text


def test_the_caption_of_a_split_by_time_has_the_number_of_users() -> None:
    text = "\n".join(lines(report(protocol={"split": "time", "test_users": 1180})))
    assert "split by time (1,180 users), whole catalogue, pessimistic ties" in text


@pytest.mark.parametrize(
    ("short", "words"),
    [
        (0, "leave-one-out, whole"),
        (1, "leave-one-out, without 1 user of fewer than 3 events, whole"),
        (1234, "leave-one-out, without 1,234 users of fewer than 3 events, whole"),
    ],
)
def test_the_caption_says_how_many_users_were_too_short_to_test(short: int, words: str) -> None:
    protocol = {"split": "leave-one-out", "valid_users": 9, "test_users": 9, "short_users": short}
    assert words in " ".join(lines(report(protocol=protocol)))


@pytest.mark.parametrize(
    ("asked", "words"),
    [(604, "leave-one-out (validated on 604 of 6,040 users), "), (6040, "leave-one-out, ")],
)
def test_the_caption_says_if_validation_used_a_share_of_the_users(asked: int, words: str) -> None:
    protocol = {"split": "leave-one-out", "valid_users": asked, "test_users": 6040}
    assert f"{words}whole catalogue, pessimistic ties" in " ".join(lines(report(protocol=protocol)))


def test_several_seeds_show_their_deviation() -> None:
    text = "\n".join(lines(report(ours={0: figures(0.2), 1: figures(0.3), 2: figures(0.4)})))
    assert "0.3000 ±.1000" in text
    assert "standard deviation of 3 seeds" in text
    assert "±" not in "\n".join(lines(report()))


@pytest.mark.parametrize(("seeds", "width"), [(1, 100), (5, 100), (1, 70)])
def test_nothing_is_cut_off_within_the_width(seeds: int, width: int) -> None:
    shown = lines(
        report(name="a-dataset-with-quite-a-long-name " * 5, ours={s: figures(s / 10) for s in range(seeds)}),
        width,
    )
    assert max(map(len, shown)) <= width
    assert "…" not in "\n".join(shown)
    assert [line.split()[0] for line in shown if "0.0100" in line] == ["popular", "popular"]
    assert all(line.count("0.0100") == 6 for line in shown if line.strip().startswith("popular"))


def test_a_name_with_markup_is_printed_unchanged() -> None:
    assert any("[bold]x[/bold]" in line for line in lines(report(name="[bold]x[/bold]")))


def test_a_missing_figure_of_a_baseline_is_a_dash() -> None:
    shown = lines(report(baselines={"popular": {"valid": figures(0.01)["valid"]}}))
    assert next(line for line in shown if "popular" in line).split() == ["popular", *"––––––"]


def test_without_test_figures_validation_is_shown() -> None:
    shown = lines(report(ours={0: {"valid": figures(0.5)["valid"]}}))
    assert "validation item" in shown[0]
    assert any("0.5000" in line for line in shown)


def test_without_the_usual_metrics_others_are_shown() -> None:
    ours = {0: {"test": {"unmasked": {"hr@1": 0.5, "hr@2": 0.75}}}}
    shown = lines(report(ours=ours, baselines={}))
    assert any(line.split() == ["HR@1", "HR@2"] for line in shown)
    assert any(line.split() == ["RecBLR", "0.5000", "0.7500"] for line in shown)


def with_lists(**changes: Any) -> Report:
    ours = figures()
    ours["test"]["lists"] = {
        "coverage@10": 0.6424, "novelty@10": 2.7249, "popularity@10": 1.1249, "simple@10": 0.1908,
        "beyond-simple@10": 0.1651,
    }  # fmt: skip
    popular = figures(0.01)
    popular["test"]["lists"] = {"coverage@10": 0.067, "novelty@10": 1.2, "popularity@10": 2.5}
    return report(ours={0: ours}, baselines={"popular": popular, "successor": figures(0.1)}, **changes)


def test_the_lists_have_a_table_of_their_own() -> None:
    shown = lines(with_lists())
    at = next(number for number, line in enumerate(shown) if "Lists of 10 unseen items" in line)
    rows = [line.split() for line in shown[at:] if line.strip()]
    assert rows[1] == ["shown", "novelty", "popularity", "by", "simple", "beyond", "simple"]
    assert rows[3] == ["RecBLR", "64.2", "%", "2.72", "bits", "1.12", "×", "19.1", "%", "16.5", "%"]
    assert rows[4] == ["successor", "–", "–", "–", "–", "–"]  # of an earlier version
    assert rows[5] == ["popular", "6.7", "%", "1.20", "bits", "2.50", "×", "–", "–"]
    assert sum("HR@10" in line for line in shown) == 1  # lists are no masking of the first table
    assert not any("Lists" in line for line in lines(report()))


def test_the_caption_has_the_intervals() -> None:
    both = {"hr@10": {"low": 0.1, "high": 0.2}, "ndcg@10": {"low": 0.03, "high": 0.04}}
    made = {**with_lists(), "intervals": {"test": {"unmasked": both, "masked": both}}}
    shown = lines(made, width=78)
    assert "95 % interval of HR@10: all 0.1000–0.2000, unseen 0.1000–0.2000" in shown
    assert "95 % interval of NDCG@10: all 0.0300–0.0400, unseen 0.0300–0.0400" in shown
    assert max(map(len, shown)) <= 78
    assert not any("interval" in line for line in lines(report()))
    valid = {**made, "ours": {"valid": made["ours"]["valid"]}}
    assert not any("interval" in line for line in lines(valid))  # those are of the test
