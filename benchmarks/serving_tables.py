"""The tables of docs/performance-engine.md and docs/performance-serving.md, from docs/benchmarks.

A mark in a page, `<!-- table:NAME:PART -->`, is followed by the table of a part of NAME.json.  NAME is
engine, durable or serve; serve has one part.  This module imports only the standard library.
"""

import json
import re
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [DOCS / "performance-engine.md", DOCS / "performance-serving.md"]
MARK = re.compile(r"(<!-- table:(engine|durable|serve):([^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
NOT_YET = "Not measured yet.\n"
# What the page leaves out of a trained model: it hardly differs from another row.  The file has it.
LEFT_OUT = re.compile("bfloat16 states| of (64|1024)$|^ten best, from Python")


def write_docs():
    """Write the figures of docs/benchmarks into the pages."""
    for page in PAGES:
        page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")


def results_of(name):
    """The results of docs/benchmarks/NAME.json; none if nothing is measured."""
    path = DOCS / "benchmarks" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))["results"] if path.exists() else []


def rendered(page, results_of=results_of):
    """The page with the table of each mark."""

    def table(match):
        begin, name, part, end = match.groups()
        found = results_of(name)
        if name == "serve":
            lines = _requests(found)
        else:
            lines = _table([result for result in found if result["case"]["measured"] == part])
        return begin + ("\n" + lines + "\n" if found else NOT_YET) + end

    return MARK.sub(table, page)


def _requests(results):
    """A table with a row for each kind of request."""
    lines = [["", "a second", "p50", "p90", "p99", "failed", "to reach"], ["---"] * 7]
    for result in results:
        if "per_second" not in result:
            continue
        rate = f"{result['per_second']:,.0f}"
        times = [f"{result[name]:.1f} ms" for name in ("p50_ms", "p90_ms", "p99_ms")]
        bar = result["at_least"]
        lines.append([
            result["what"],
            f"**{rate}**" if not result["reached"] else rate,
            *times,
            str(result["errors"]),
            f"≥ {bar:,} a second, p99 ≤ {result['p99_at_most']} ms" if bar else "",
        ])  # fmt: skip
    return _joined(lines)


def _table(results):
    """A table with a row for each figure; a column says which case it is from, if there are several."""
    several = len(results) > 1
    heads = [*(["case"] if several else []), "", "figure", "from … to", "to reach", "beside it"]
    lines = [heads, ["---"] * len(heads)]
    for result in results:
        case = ", ".join(_words(key, value) for key, value in result["case"].items() if key != "measured")
        trained = result["case"].get("model", "random weights") != "random weights"
        for figure in result["figures"]:
            if trained and LEFT_OUT.search(figure["ours"]):
                continue
            lines.append([*([case] if several else []), *_cells(figure, result["took"])])
    return _joined(lines)


def _joined(lines):
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _words(key, value):
    if key == "threads":
        return f"{value} thread{'s' if value != 1 else ''}"
    return f"{key} {value}" if isinstance(value, int) else str(value)


def _cells(figure, took):
    value, unit = figure["value"], figure.get("unit", "")
    if value is None:
        return [figure["ours"], "", "", "", f"{figure['beside']} {figure['note']}".strip()]
    bar = ""
    if figure["bar"] is not None:
        bar = f"{'≤' if figure['bar_is'] == 'at most' else '≥'} {figure['bar']:,g}"
    median = f"{digits(value['median'])} {unit}".strip()
    if figure["reached"] is False:
        median = f"**{median}**"
    beside = figure["beside"]
    if beside and unit != "×":
        share = took[beside]["median"] / took[figure["ours"]]["median"]
        beside = f"{beside}: {share:.0%} of it"
    return [figure["ours"], median, f"{digits(value['low'])} … {digits(value['high'])}", bar, beside]


def digits(x):
    """A number with three digits, or with all digits before the point if they are more."""
    return f"{x:,.0f}" if abs(x) >= 100 else f"{x:.3g}"
