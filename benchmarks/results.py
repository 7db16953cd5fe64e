"""Writes a report of `recblr train` or `reproduce` into docs/: JSON, a picture, a table.

python benchmarks/results.py RUN/report.json ml-1m          add the main report of ml-1m
python benchmarks/results.py RUN/report.json ml-1m.sasrec   add a report as one more row of its table: another
                                                            model, other epochs, or the paper's layers
python benchmarks/results.py                                draw and write everything again

The table goes to the page of docs/ that has its mark.
"""

import json
import sys
import textwrap
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from recblr.errors import InputError
from recblr.evaluation import read_report, write_report
from recblr.evaluation.comparison import p_words
from recblr.evaluation.picture import METRIC
from recblr.evaluation.report_table import with_spread
from recblr.experiments import RECIPES

DOCS = Path(__file__).parents[1] / "docs"
RESULTS = DOCS / "results"
PAGES = "results.md", "results-time.md"
METRICS = ("hr@10", "ndcg@10", "mrr@10", "hr@20", "ndcg@20")
BASELINES = ("successor", "popular")
BEGIN, END = "<!-- table:{} -->", "<!-- end -->"


def take(report_file, name):
    """Copy a report into docs/results, and add the paper's figures to it under the key "paper".

    Raises InputError, and copies nothing, if no page has a place for its table.
    """
    report = read_report(report_file)
    page_with(name.split(".")[0], read_pages())
    if report["protocol"].get("time", "none") != "none":
        report.pop("paper", None)  # the paper's model knows no time, so its figures do not compare with these
    elif name in RECIPES:
        report["paper"] = RECIPES[name].paper()
    RESULTS.mkdir(exist_ok=True)
    write_report(report, RESULTS / f"{name}.json")


def beside(name, main):
    """{label: report} of the other reports on the same data. A label says how its run differs from main."""
    others = {}
    for file in sorted(RESULTS.glob(f"{name}.*.json")):
        report = read_report(file)
        label = _label(report, main)
        if label in others:
            raise InputError(f"{file} and another report both give the row {label!r} of {name}", "remove one")
        others[label] = report
    return others


def _label(report, main):
    """The name of the model, and the differences from the main report in words."""
    model, epochs = report["model"], report["training"]["epochs"]
    words = [model["name"]]
    if epochs != main["training"]["epochs"]:
        words.append(f"of {epochs} epochs")
    if model.get("d_model") != main["model"].get("d_model"):
        words.append(f"of width {model['d_model']}")
    if model["dropout"] != main["model"]["dropout"]:
        words.append(f"with dropout {model['dropout']}")
    share, of_main = (one["training"].get("valid_share") or 1 for one in (report, main))
    if share != of_main:
        words.append(f"validated on {100 * share:g} % of users")
    # Old reports do not have this key, because there was no average of the history.
    if model["model"] == "recblr" and not model.get("history_average", False):
        words.append("without average")
    return " ".join(words)


def cost(report):
    """The time to train a seed, with the validation after each epoch."""
    minutes = (report["seconds"]["train"] + report["seconds"]["validate"]) / 60
    threads = report["machine"]["torch_threads"]
    return f"{minutes:.0f} min, {threads} thread{'s' if threads > 1 else ''}"


def table(report, others):
    """The reports' test figures as a Markdown table, with the spread of several seeds."""

    def row(name, figures, took=""):
        cells = [name, *(with_spread(figures[metric]) for metric in METRICS), took]
        return f"| {' | '.join(cells)} |"

    head = [*(metric.upper() for metric in METRICS), "a seed's training"]
    known = report["protocol"].get("time", "none")  # reports of older versions have no such entry
    lines = [f"| time known: {known} | " + " | ".join(head) + " |", "|---|" + "---|" * len(head)]
    for masking, words in (("unmasked", "all items"), ("masked", "unseen items")):
        lines.append(row(f"**RecBLR**, {words}", report["ours"]["test"][masking], cost(report)))
        if masking in report.get("paper", {}).get("test", {}):
            lines.append(row(f"RecBLR, the paper, {words}", report["paper"]["test"][masking]))
        for label, other in others.items():
            lines.append(row(f"{label}, {words}", other["ours"]["test"][masking], cost(other)))
        for name in BASELINES:
            lines.append(row(f"{name}, {words}", report["baselines"][name]["test"][masking]))
    return "\n".join(lines)


def pictured(report, others):
    """{label: test figures} for the bars of the picture: our main run and the other models.

    Other runs of RecBLR are in the table only, which keeps the picture simple.
    """
    models = {label: other["ours"] for label, other in others.items() if other["model"]["model"] != "recblr"}
    rows = {"RecBLR": report["ours"], **models}
    return {label: root["test"]["unmasked"][METRIC] for label, root in rows.items()}


def draw(report, others, path):
    """Test figures over all items: bars for RecBLR and for other models, a line for the paper."""
    bars = pictured(report, others)
    means = [leaf["mean"] for leaf in bars.values()]
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.55 * len(bars)), layout="constrained")
    axes.barh(range(len(bars)), means, 0.6, xerr=[leaf["std"] for leaf in bars.values()],
              color=["#4477aa"] + ["#888888"] * (len(bars) - 1))  # fmt: skip
    for place, mean in enumerate(means):
        axes.text(0.005 * max(means), place, f"{mean:.3f}", color="white", va="center", fontweight="bold")
    if "paper" in report:
        value = report["paper"]["test"]["unmasked"][METRIC]["mean"]
        axes.axvline(value, color="#cc6677", linestyle="--", label=f"RecBLR, the paper: {value:.3f}")
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
    axes.set_yticks(range(len(bars)), [textwrap.fill(label, 24) for label in bars])
    axes.invert_yaxis()
    dataset = report["dataset"]
    axes.set(xlabel=f"test {METRIC.upper()} on {dataset['name']}, all {dataset['items']:,} items ranked")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def variants_table(lines):
    """The variants of benchmarks/time_variants.py as a Markdown table, the best first."""
    variants = sorted(map(json.loads, lines), key=lambda variant: -variant["valid"][-1][METRIC])
    rows = ["| variant | HR@10 | NDCG@10 | seconds of training |", "|---|---|---|---|"]
    for variant in variants:
        hr, ndcg = (f"{variant['valid'][-1][metric]:.4f}" for metric in ("hr@10", METRIC))
        words = variant["variant"].replace("+", " + ")
        rows.append(f"| {words} | {hr} | {ndcg} | {variant['seconds']:.0f} |")
    return "\n".join(rows)


def ablation_table(result):
    """The figures of benchmarks/time_ablation.py as a Markdown table."""
    metrics = ("hr@10", METRIC, "mrr@10")
    rows = ["| gaps to the request | " + " | ".join(map(str.upper, metrics)) + " |", "|---|---|---|---|"]
    for way, figures in result["test"].items():
        rows.append(f"| {way} | " + " | ".join(f"{figures[metric]:.4f}" for metric in metrics) + " |")
    return "\n".join(rows)


def comparison_table(result):
    """The figures of `recblr compare` as a Markdown table."""
    first = result["rows"][0]
    rows = [
        "| model | time known | HR@10 | NDCG@10 | the first row is ahead in NDCG@10 by | p |",
        "|---|---|---|---|---|---|",
        f"| **{first['model']}** | {first['time']} | {first['hr@10']:.4f} | {first[METRIC]:.4f} | | |",
    ]
    for row in result["rows"][1:]:
        ahead = row[f"first ahead in {METRIC}"]
        rows.append(
            f"| {row['model']} | {row['time']} | {row['hr@10']:.4f} | {row[METRIC]:.4f} "
            f"| {ahead['mean']:.4f} ({ahead['low']:.4f} to {ahead['high']:.4f}) | {p_words(ahead)} |"
        )
    return "\n".join(rows)


def read_pages():
    """{path: text} of the pages with tables."""
    return {
        path: path.read_text(encoding="utf-8") for path in (DOCS / name for name in PAGES) if path.exists()
    }


def page_with(name, pages):
    """The page that has a place for the table of this name."""
    mark = BEGIN.format(name)
    for path, text in pages.items():
        if mark in text:
            return path
    raise InputError(
        f"no page has a place for the table of {name}",
        f"write {mark} and {END} into one of {', '.join(PAGES)}",
    )


def put(pages, name, new):
    """Write a table between its marks."""
    path = page_with(name, pages)
    before, rest = pages[path].split(BEGIN.format(name), 1)
    pages[path] = before + BEGIN.format(name) + f"\n{new}\n" + END + rest.split(END, 1)[1]


def refresh():
    """Draw every report's picture, and write its table between its marks."""
    pages = read_pages()
    variants, ablation = (RESULTS / "search" / name for name in ("time.jsonl", "time-ablation.json"))
    if variants.exists():
        put(pages, variants.stem, variants_table(variants.read_text(encoding="utf-8").splitlines()))
    if ablation.exists():
        put(pages, ablation.stem, ablation_table(json.loads(ablation.read_text(encoding="utf-8"))))
    for file in sorted((RESULTS / "compared").glob("*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        put(pages, f"compared-{file.stem}", comparison_table(result))
    for file in sorted(RESULTS.glob("*.json")):
        name = file.stem
        if "." in name:  # this report is a row of another table
            continue
        report = read_report(file)
        others = beside(name, report)
        if "paper" in report or len(pictured(report, others)) > 1:  # one bar says no more than the table
            draw(report, others, file.with_suffix(".png"))
        put(pages, name, table(report, others))
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) not in (1, 3):
        sys.exit(__doc__)
    try:
        if len(sys.argv) == 3:
            take(*sys.argv[1:])
        refresh()
    except InputError as error:
        sys.exit(str(error))
