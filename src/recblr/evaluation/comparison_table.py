"""A report beside the paper: a row a metric, then what the figures cost and where they come from."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from recblr.evaluation.report_table import protocol_words, with_spread
from recblr.evaluation.schema import Report


def print_comparison(report: Report, console: Console | None = None) -> None:
    """Print a report of `combine` that has the roots `paper` and `recipe`, to standard output by default."""
    console = console or Console()
    console.print(_table(report))
    for line in _lines(report):
        console.print(Text(line), soft_wrap=True)


def _table(report: Report) -> Table:
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


def _lines(report: Report) -> list[str]:
    dataset, runs, seconds = report["dataset"], report["runs"], report["seconds"]
    differs = report["recipe"]["differs"]
    changes = [f"--{key} {both['here']} in place of {both['recipe']}" for key, both in differs.items()]
    return [
        f"seeds     {', '.join(runs)}" + (": mean ± sample standard deviation" if len(runs) > 1 else ""),
        f"seconds   {seconds['train']:,.0f} training, {seconds['validate']:,.0f} validation, "
        f"{seconds['evaluate']:,.0f} evaluation" + (", a seed" if len(runs) > 1 else ""),
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
    device = machine.get("device", "cpu")  # a report from before there was a choice does not say
    words += [device] if device != "cpu" else []
    return ", ".join([*words, *(f"{package} {versions[package]}" for package in ("recblr", "torch"))])
