"""A report as a table in the terminal, alone or beside the paper's figures."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recblr.evaluation.report_file import Report

_SPLITS = {"test": "test item", "valid": "validation item"}
_SECTIONS = {"unmasked": "all items", "masked": "unseen items"}
_TIME = {
    "none": "no time known",
    "past": "gaps between past events known",
    "request": "gaps between past events and time of the request known",
}
_LISTS = {
    "coverage@10": "shown",
    "novelty@10": "novelty",
    "popularity@10": "popularity",
    "simple@10": "by simple",
    "beyond-simple@10": "beyond simple",
}
"""What the table of the lists calls its columns; docs/run-folder.md explains them."""
_COLUMNS = [f"{metric}@{k}" for k in (10, 20) for metric in ("hr", "ndcg", "mrr")]


def render_report(report: Report) -> Table:
    """The table of the test figures, at most 100 columns wide.  Without test figures, another split is shown.

    report: from `build_report` or `read_report`.
    """
    split = "test" if "test" in report["ours"] else next(iter(report["ours"]))
    ours = {masking: figures for masking, figures in report["ours"][split].items() if masking != "lists"}
    baselines = report["baselines"]
    names = _names(baselines)
    metrics = next(iter(ours.values()))
    columns = [column for column in _COLUMNS if column in metrics] or list(metrics)[:6]
    seeds = len(next(iter(metrics.values()))["seeds"])
    spread = seeds > 1

    table = Table(
        title=Text(f"Each user's {_SPLITS.get(split, split)} among all {report['dataset']['items']:,} items"),
        caption=_caption(report, split, list(ours), seeds),
        caption_justify="left",
        box=SIMPLE_HEAD,
        # With several seeds, the standard deviations need the space between the columns.
        padding=(0, 0 if spread else 1),
        pad_edge=False,
    )
    table.add_column("")
    for column in columns:
        # Only our rows have standard deviations.  Aligned on the left, all means are below each other.
        table.add_column(column.upper(), justify="left" if spread else "right", no_wrap=True)
    for masking, figures in ours.items():
        table.add_row(Text(_SECTIONS.get(masking, masking), style="dim italic"))
        table.add_row(Text(_model_name(report)), *_cells(figures, columns), style="bold")
        for name in names:
            table.add_row(Text(name), *_cells(baselines[name].get(split, {}).get(masking, {}), columns))
        table.add_section()
    return table


def render_lists(report: Report) -> Table | None:
    """The table of what accuracy does not say of the test lists, or None for a report of an older version."""
    ours = report["ours"].get("test", {}).get("lists")
    if ours is None:
        return None
    columns = [column for column in _LISTS if column in ours]
    table = Table(
        title=Text("Lists of 10 unseen items: how varied they are, and who is right"),
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("")
    for column in columns:
        # Wide enough for 100.0 %, so that tables of several reports have the same width.
        table.add_column(_LISTS[column], justify="right", no_wrap=True, min_width=7)
    rows = {_model_name(report): ours}
    baselines = report["baselines"]
    rows |= {name: baselines[name].get("test", {}).get("lists", {}) for name in _names(baselines)}
    for number, (name, figures) in enumerate(rows.items()):
        cells = [_list_cell(figures, column) for column in columns]
        table.add_row(Text(name), *cells, style=None if number else "bold")
    return table


def _list_cell(figures: Mapping[str, Any], column: str) -> Text:
    if column not in figures:
        return Text("–")
    mean = figures[column]["mean"]
    if column.startswith("novelty"):
        return Text(f"{mean:.2f} bits")
    return Text(f"{mean:.2f} ×" if column.startswith("popularity") else f"{100 * mean:.1f} %")


def _interval_lines(report: Report, split: str) -> list[str]:
    """The intervals of the figures of a split, a line for each metric."""
    found: dict[str, list[str]] = {}
    for masking, metrics in report.get("intervals", {}).get(split, {}).items():
        for metric, both in metrics.items():
            words = _SECTIONS.get(masking, masking).removesuffix(" items")
            found.setdefault(metric, []).append(f"{words} {both['low']:.4f}–{both['high']:.4f}")
    return [f"95 % interval of {metric.upper()}: {', '.join(words)}" for metric, words in found.items()]


def print_report(report: Report, console: Console | None = None) -> None:
    """Print the tables of the report.  The default console is standard output."""
    console = console or Console()
    console.print(render_report(report))
    lists = render_lists(report)
    if lists is not None:
        console.print(lists)


def _names(baselines: Mapping[str, Any]) -> list[str]:
    """The simple models in the order of the tables."""
    names = [name for name in ("successor", "popular") if name in baselines]
    return names + [name for name in baselines if name not in names]


def _model_name(report: Report) -> str:
    """The name of the model.  An old report has no name: RecBLR was the only model then."""
    model = report.get("model")
    return str(model.get("name", "RecBLR")) if isinstance(model, Mapping) else "RecBLR"


def _cells(figures: Mapping[str, Any], columns: list[str]) -> list[Text]:
    return [_cell(figures[column]) if column in figures else Text("–") for column in columns]


def with_spread(leaf: Mapping[str, Any]) -> str:
    """The mean of a figure as text.  With several seeds, also their sample standard deviation."""
    return f"{leaf['mean']:.4f}" + (f" ± {leaf['std']:.4f}" if len(leaf["seeds"]) > 1 else "")


def _cell(leaf: Mapping[str, Any]) -> Text:
    text = Text(f"{leaf['mean']:.4f}")
    if len(leaf["seeds"]) > 1:
        text.append(f" ±{leaf['std']:.4f}".replace("±0.", "±."), style="not bold dim")
    return text


def _caption(report: Report, split: str, maskings: list[str], seeds: int) -> Text:
    dataset, protocol = report["dataset"], report["protocol"]
    lines = [
        f"{dataset['name']}: {dataset['users']:,} users, {dataset['items']:,} items, "
        f"{dataset['interactions']:,} interactions",
        ", ".join(protocol_words(protocol)),
    ]
    if "masked" in maskings:
        lines.append("unseen items: those in the user's own history are left out")
    lines += _interval_lines(report, split)
    if seeds > 1:
        lines.append(f"mean ± sample standard deviation of {seeds} seeds")
    return Text("\n".join(line for line in lines if line), style="dim")


def protocol_words(protocol: Mapping[str, Any]) -> list[str]:
    """The conditions that the figures depend on, each in a few words."""
    split = protocol.get("split")
    words = [{"time": "split by time"}.get(split, str(split))] if split else []
    if split == "time" and "test_users" in protocol:
        words[0] += f" ({protocol['test_users']:,} users)"
    elif split == "leave-one-out" and {"valid_users", "test_users"} <= protocol.keys():
        asked, users = protocol["valid_users"], protocol["test_users"]
        words[0] += f" (validated on {asked:,} of {users:,} users)" if asked != users else ""
    short = protocol.get("short_users", 0)  # reports of older versions have no such entry
    words += [f"without {short:,} user{'s' if short > 1 else ''} of fewer than 3 events"] if short else []
    words += [str(protocol["candidates"])] if "candidates" in protocol else []
    words += [f"{protocol['ties']} ties"] if "ties" in protocol else []
    time = str(protocol.get("time", "none"))  # reports of older versions have no such entry
    return [*words, _TIME.get(time, f"time known: {time}")]


def print_comparison(report: Report, console: Console | None = None) -> None:
    """Print a report beside the paper's figures.  The default console is standard output.

    report: from `combined_report`, with the entries `paper` and `recipe`.
    """
    console = console or Console()
    console.print(_comparison(report))
    for line in _comparison_lines(report):
        console.print(Text(line), soft_wrap=True)


def _comparison(report: Report) -> Table:
    ours, paper = report["ours"]["test"], report["paper"]["test"]["unmasked"]
    table = Table(
        title=Text(f"{report['dataset']['name']}: the paper ({report['paper']['source']}), and here"),
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    table.add_column("")
    for name in ("paper, all items", "here, all items", "difference", "here, unseen items"):
        table.add_column(name, justify="right")
    for metric, theirs in paper.items():
        here = ours["unmasked"][metric]
        table.add_row(
            metric.upper(),
            f"{theirs['mean']:.4f}",
            Text(with_spread(here), style="bold"),
            f"{here['mean'] - theirs['mean']:+.4f}",
            with_spread(ours["masked"][metric]),
        )
    return table


def _comparison_lines(report: Report) -> list[str]:
    dataset, runs, seconds = report["dataset"], report["runs"], report["seconds"]
    differs = report["recipe"]["differs"]
    changes = [f"--{key} {both['here']} in place of {both['recipe']}" for key, both in differs.items()]
    return [
        f"seeds     {', '.join(runs)}" + (": mean ± sample standard deviation" if len(runs) > 1 else ""),
        f"seconds   {seconds['train']:,.0f} training, {seconds['validate']:,.0f} validation, "
        f"{seconds['evaluate']:,.0f} evaluation" + (", per seed" if len(runs) > 1 else ""),
        *(f"machine   {words}" for words in dict.fromkeys(_machine(run["machine"]) for run in runs.values())),
        f"dataset   {dataset['users']:,} users, {dataset['items']:,} items, "
        f"{dataset['interactions']:,} interactions, fingerprint {dataset['fingerprint'][:16]}",
        f"protocol  {', '.join(protocol_words(report['protocol']))}; "
        "unseen items: those of the user's own history are left out",
        f"recipe    {report['recipe']['name']}, but {'; '.join(changes)}"
        if changes
        else f"recipe    {report['recipe']['name']}",
    ]


def _machine(machine: Mapping[str, Any]) -> str:
    versions = machine["versions"]
    words = [f"{machine['cpu']}, cores {machine['cores']}, torch threads {machine['torch_threads']}"]
    device = machine.get("device", "cpu")  # an old report has no device: it was always the CPU
    words += [device] if device != "cpu" else []
    return ", ".join([*words, *(f"{package} {versions[package]}" for package in ("recblr", "torch"))])
