"""The tables of docs/performance-engine.md, from the results of benchmarks/engine.py.

This module imports only the standard library.
"""

import json
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
PAGE, RESULTS = DOCS / "performance-engine.md", DOCS / "benchmarks" / "engine.json"
MARK = re.compile(r"(<!-- table:engine:([^>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)
NOT_YET = "Not measured yet.\n"
# What the page leaves out of a trained model: it hardly differs from another row.  The file has it.
LEFT_OUT = re.compile("bfloat16 states| of (64|1024)$|^ten best, from Python")


def write_docs():
    """Write the figures of docs/benchmarks/engine.json into the page."""
    if not RESULTS.exists():
        sys.exit(
            f"{RESULTS} does not exist; measure first: python benchmarks/engine.py --out {RESULTS.parent}"
        )
    document = json.loads(RESULTS.read_text(encoding="utf-8"))
    PAGE.write_text(rendered(PAGE.read_text(encoding="utf-8"), document), encoding="utf-8")


def rendered(page, document):
    """The page with the table of each mark; `document` is None if nothing is measured."""

    def table(match):
        begin, measured, end = match.groups()
        found = [r for r in (document or {"results": []})["results"] if r["case"]["measured"] == measured]
        return begin + ("\n" + _table(found) + "\n" if found else NOT_YET) + end

    return MARK.sub(table, page)


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
