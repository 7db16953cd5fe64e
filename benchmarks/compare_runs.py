"""Claim: one model ranks the test items of the same users better than another, beyond chance.

Each RUN is a folder of `recblr train`, or one of `recblr reproduce` with its seeds, on the same data and the
same split.  The first one is compared with each of the others by a paired bootstrap over the users, on HR@10
and NDCG@10 over all items.  With several seeds, the metric of a user is the mean over the seeds.
Run: python benchmarks/compare_runs.py RUN RUN … --out FILE.json
"""

import argparse
import json
from pathlib import Path

import numpy as np
from finished_runs import runs_in
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from recblr.evaluation import paired_bootstrap, rank_targets, users_metric
from recblr.run.folder import split_for
from recblr.serving import model_scorer
from recblr.system.build import commit
from recblr.system.machine import describe_machine

METRICS = "hr", "ndcg"
K = 10


def figures_of(run):
    """(the test of the run, {metric: its value for each user})."""
    dataset = run.dataset()
    test = split_for(dataset, run.config()).test
    ranks = rank_targets(model_scorer(run.model()), test, dataset.num_items).unmasked
    return test, {metric: users_metric(ranks, metric, K) for metric in METRICS}


def means_of(folder, first=None):
    """(the test, what is compared, {metric: the mean over seeds for each user}) of the runs in a folder.

    first: the test that all runs must have; None for that of the first run.
    """
    runs, found = runs_in(folder), []
    for run in runs:
        test, figures = figures_of(run)
        first = first or test
        if not (np.array_equal(first.users, test.users) and np.array_equal(first.targets, test.targets)):
            raise SystemExit(
                f"{run.folder} has another test than the first run: give runs on the same data and split"
            )
        found.append(figures)
    config = runs[0].config()
    facts = {
        "run": folder.name,
        "model": type(runs[0].model()).__name__,
        "time": config.model.time_use,
        "seeds": len(runs),
        "users": len(first.targets),
        "command": runs[0].facts().get("command", ""),
    }
    return first, facts, {metric: np.mean([one[metric] for one in found], 0) for metric in METRICS}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    test, facts, ours = means_of(options.runs[0])
    rows = [facts | {f"{metric}@{K}": float(ours[metric].mean()) for metric in METRICS}]
    for folder in options.runs[1:]:
        _, facts, theirs = means_of(folder, test)
        for metric in METRICS:
            facts[f"{metric}@{K}"] = float(theirs[metric].mean())
            facts[f"first ahead in {metric}@{K}"] = vars(paired_bootstrap(ours[metric], theirs[metric]))
        rows.append(facts)
    result = {"claim": __doc__.splitlines()[0], "rows": rows, "commit": commit()}
    result["machine"] = describe_machine()
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    table = Table("run", "time known", "HR@10", "NDCG@10", "first ahead by", "p", box=SIMPLE_HEAD)
    for row in rows:
        cells = [row["run"], row["time"], f"{row['hr@10']:.4f}", f"{row['ndcg@10']:.4f}"]
        ahead = row.get(f"first ahead in ndcg@{K}")
        if ahead:
            cells += [f"{ahead['low']:.4f} to {ahead['high']:.4f}", f"{ahead['p_value']:.4f}"]
        table.add_row(*cells)
    Console().print(table)


if __name__ == "__main__":
    main()
