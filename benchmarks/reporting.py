"""The command line of every benchmark: it prints a table, and with --out writes a JSON file and a picture."""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import measuring
from figure import as_json
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from recblr.errors import InputError
from recblr.io.atomic import atomic_path
from recblr.system.build import commit
from recblr.system.machine import describe_machine

ROOT = Path(__file__).parents[1]
WIDTH = 150
MICROSECONDS = 1e6, "µs"
MEGABYTES = 1.0, "MB"
COLOURS = ("#4477aa", "#cc6677", "#228833", "#ccbb44", "#66ccee", "#aa3377", "#bbbbbb", "#222222")


def main(doc, cases, measure, figures, draw=None, value="times as fast", summary=lambda results: ()):
    """The command line of a benchmark.

    doc: the docstring of the module; its first paragraph is the claim.
    cases(quick): the cases, as dictionaries of labels.
    measure(case, quick=): the samples of a case, as contender -> list.
    figures(result): the figures of a case.
    draw(picture, results, figures, value): draws on a matplotlib Figure; by default the figures with a bar.
    value: the meaning of the figures' value, for headings.
    summary(results): sentences about all cases together.
    """
    if sys.argv[1:] == [measuring.MEASURE]:
        measuring.measure_here(cases(False), measure)
        return
    name = Path(sys.argv[0]).stem
    claim, _, rest = doc.partition("\n\n")
    claim = " ".join(claim.split())
    parser = argparse.ArgumentParser(
        description=f"{claim}\n\n{rest}", formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", metavar="DIR", type=Path, help=f"write {name}.json and {name}.svg there")
    parser.add_argument("--quick", action="store_true", help="tiny shapes and one process: a smoke test")
    options = parser.parse_args()
    if options.out:
        prepare(options.out)
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDTH)  # a file is not limited to the width of a terminal
    load = os.getloadavg()
    results = _measured(cases(options.quick), measure, options.quick)
    shown = [figures(result) for result in results]
    console.print(table(claim, results, shown, value))
    sentences = list(summary(results))
    for sentence in sentences:
        console.print(sentence, highlight=False)
    if options.out:
        document = {
            "benchmark": name,
            "claim": claim,
            "command": f"python benchmarks/{name}.py" + (" --quick" if options.quick else ""),
            "commit": source_commit(),
            "machine": describe_machine(),
            "load_average": {"before": load, "after": os.getloadavg()},
            "processes": 1 if options.quick else measuring.PROCESSES,
            "value": value,
            "summary": sentences,
            "results": [as_json(*each) for each in zip(results, shown, strict=True)],
        }
        with atomic_path(options.out / f"{name}.json") as draft:
            draft.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        draw_picture(options.out / f"{name}.svg", claim, draw or draw_bars, results, shown, value)


def _measured(cases, measure, quick):
    with Progress(
        TextColumn("measuring"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(compact=True),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as bar:
        task = bar.add_task("", total=len(cases) * measuring.PROCESSES)
        return measuring.in_processes(cases, measure, quick, lambda: bar.advance(task))


def table(claim, results, shown, value):
    """A table with a heading for each case, and below it one row for each figure."""
    result = Table("ours", "", "beside", "", value, "from … to", "to reach", title=claim, box=SIMPLE_HEAD)
    for column in (0, 5, 6):
        result.columns[column].no_wrap = True
    for column in (1, 3, 4):
        result.columns[column].justify = "right"
    for each, figures in zip(results, shown, strict=True):
        result.add_section()
        result.add_row(f"[bold]{_words(each.case)}[/]")
        for figure in figures:
            result.add_row(*_cells(each, figure))
    return result


def _words(case):
    """A case in words."""
    return ", ".join(
        f"{value} thread" + "s" * (value != 1)
        if label == "threads"
        else f"{label} {value}"
        if isinstance(value, int) or label == "under"
        else value
        for label, value in case.items()
    )


def _cells(result, figure):
    factor, unit = figure.unit

    def took(name):
        return f"{_digits(factor * result.of(name).median)} {unit}" if result.has(name) else ""

    texts = [f"  {figure.ours}", took(figure.ours), figure.beside, took(figure.beside)]
    if figure.value is None:
        return [*texts, "", figure.note]
    v = figure.value
    unit = f" {figure.value_unit.strip()}" if figure.value_unit else ""
    texts += [_digits(v.median) + unit, f"{_digits(v.low)} … {_digits(v.high)}"]
    if figure.bar is None:
        return texts
    verdict = "[green]reached[/]" if figure.verdict() else "[red]missed[/]"
    return [*texts, f"{'≤' if figure.at_most else '≥'} {figure.bar:g} {verdict}"]


def _digits(x):
    """A number with three digits, or with all digits before the point if they are more."""
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"


def prepare(folder):
    """Exit now if results could not be written into the folder, before minutes of measuring."""
    try:
        import matplotlib  # noqa: F401

        folder.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder / ".writable"):
            pass
        (folder / ".writable").unlink()
    except ModuleNotFoundError:
        sys.exit("--out draws pictures, which needs matplotlib: pip install 'recblr[plot]'")
    except (OSError, InputError) as error:
        sys.exit(f"cannot write to --out {folder}: {error}")


def source_commit():
    """The commit of these sources; if git cannot tell it, the commit of the native library."""
    described = subprocess.run(
        ["git", "-C", ROOT, "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or commit()


def draw_picture(path, claim, draw, results, shown, value):
    """Write the picture that draw(picture, results, shown, value) draws; equal figures give equal bytes."""
    import matplotlib

    # Not pyplot, because it would choose a window system.
    from matplotlib.figure import Figure as Picture

    with matplotlib.rc_context({"svg.hashsalt": path.stem, "svg.fonttype": "none", "font.size": 9}):
        picture = Picture(figsize=(9, 4), layout="constrained")
        picture.suptitle(claim, wrap=True)
        draw(picture, results, shown, value)
        for axes in picture.axes:
            axes.spines[["top", "right"]].set_visible(False)
        with atomic_path(path) as draft:
            picture.savefig(draft, format="svg", metadata={"Date": None})


def draw_bars(picture, results, shown, value):
    """Draw the figures with a bar: a panel for each direction, a row for each shape, colours for the rest."""
    panels, rows, series = {}, {}, {}
    for result, figures in zip(results, shown, strict=True):
        labels = dict(result.case)
        panel, row = labels.pop("direction"), labels.pop("shape")
        for figure in figures:
            if figure.bar is not None and figure.value is not None:
                key = ", ".join(filter(None, (f"{figure.ours} beside {figure.beside}", _words(labels))))
                series.setdefault(key, COLOURS[len(series) % len(COLOURS)])
                panels.setdefault(panel, []).append((rows.setdefault(row, len(rows)), key, figure))
    picture.set_figheight(1.8 + 0.12 * len(rows) * (1 + len(series)))
    offsets = {key: 0.7 * (i / max(1, len(series) - 1) - 0.5) for i, key in enumerate(series)}
    for axes, (panel, points) in zip(
        picture.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels.items(), strict=True
    ):
        for bar in {figure.bar for *_, figure in points}:
            axes.axvline(bar, color="#222222", linewidth=0.8, linestyle=":")
        for key, colour in series.items():
            own = [(row, figure.value) for row, name, figure in points if name == key]
            axes.errorbar(
                [v.median for _, v in own],
                [row + offsets[key] for row, _ in own],
                xerr=[[v.median - v.low for _, v in own], [v.high - v.median for _, v in own]],
                fmt="o",
                markersize=4,
                color=colour,
                label=key,
            )
        axes.set(title=panel, xlabel=value, xlim=(0, None))
    axes = picture.axes[0]
    axes.set_yticks(range(len(rows)), rows)
    axes.invert_yaxis()
    handles, names = axes.get_legend_handles_labels()
    picture.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
