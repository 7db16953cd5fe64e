"""Claim: a model that knows the request uses its time; this program shows what that time tells it.

RUN is a run of `recblr train --time request`, or a folder of `recblr reproduce` with its seeds.  The test
items are ranked with the true times of the requests, and with three others.  The model is the same, and has
not been trained on these:
  shuffled   the gap from the last event to the request is that of another user, drawn at random
  at once    the request comes at the time of the last event
  days       all gaps are rounded down to whole days
Run: python benchmarks/time_ablation.py RUN --out FILE.json
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from recblr.data.packed import DAY
from recblr.evaluation import rank_targets
from recblr.run.folder import runs_in, split_for
from recblr.serving import model_scorer
from recblr.system.build import commit
from recblr.system.machine import describe_machine

METRICS = "hr@10", "ndcg@10", "mrr@10"


def request_gaps(histories):
    return histories.request_times - histories.last_times


def asked_after(histories, gaps):
    return histories.asked_at(histories.last_times + gaps)


def rounded(histories):
    """The same histories with every gap rounded down to whole days."""
    past = histories.has_past
    gaps = np.diff(histories.times, prepend=histories.times[:1])
    days = np.where(past, np.floor(np.maximum(gaps, 0) / DAY) * DAY, 0)
    total = np.cumsum(days)
    starts = np.repeat(histories.offsets[:-1], histories.lengths)
    times = histories.times[starts] + total - total[starts]
    whole = replace(histories, times=times)
    return asked_after(whole, np.floor(request_gaps(histories) / DAY) * DAY)


def ways(histories, seed):
    """{name: histories}, with the true times first."""
    gaps = request_gaps(histories)
    return {
        "true": histories,
        "shuffled": asked_after(histories, np.random.default_rng(seed).permutation(gaps)),
        "at once": asked_after(histories, np.zeros_like(gaps)),
        "days": rounded(histories),
    }


def figures_of(run):
    """{way: metrics} of a run, over all items."""
    dataset, config = run.dataset(), run.config()
    scorer, test = model_scorer(run.model()), split_for(dataset, config).test
    found = {}
    for way, histories in ways(test.histories, config.seed).items():
        ranks = rank_targets(scorer, replace(test, histories=histories), dataset.num_items)
        metrics = ranks.metrics()["unmasked"]
        found[way] = {metric: metrics[metric] for metric in METRICS}
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    runs = runs_in(options.run)
    for run in runs:
        if (use := run.config().model.time_use) != "request":
            raise SystemExit(f"{run.folder} was trained with --time {use}: give a run of --time request")
    seeds = {str(run.config().seed): figures_of(run) for run in runs}
    means = {
        way: {metric: fmean(found[way][metric] for found in seeds.values()) for metric in METRICS}
        for way in next(iter(seeds.values()))
    }
    result = {"claim": __doc__.splitlines()[0], "test": means, "seeds": seeds, "commit": commit()}
    result["machine"] = describe_machine()
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    table = Table("gaps", *(metric.upper() for metric in METRICS), box=SIMPLE_HEAD)
    for way, metrics in means.items():
        table.add_row(way, *(f"{metrics[metric]:.4f}" for metric in METRICS))
    Console().print(table)


if __name__ == "__main__":
    main()
