"""Claim: a learned repeat bias ranks better where items never repeat, and no worse where many repeat.

There are two datasets, both from MovieLens-1M.  In the first, the items are the films that a user rated; no
user rates a film twice.  In the second, the items are the genres of these films ("Comedy|Drama" is one
genre), which repeat all the time.  A model is trained on each dataset with the bias and without it.  It knows
no time.  All other options, except the number of epochs, are the defaults of `recblr train`.  The figures
rank the test item among all items, including those that the user already has.  After an interruption, the
same command continues.
Run: python benchmarks/repeats.py INTERACTIONS movies.dat [--epochs N] [--out DIR]
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import polars as pl
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from recblr.cli.display import TrainingDisplay
from recblr.config import TrainingConfig
from recblr.data import Dataset, read_dataset
from recblr.data.packed import repeat_log_odds
from recblr.errors import InputError
from recblr.system.machine import describe_machine, keep_freed_memory
from recblr.training import Run, train
from recblr.training.evaluate import evaluate_run

METRICS = "hr@10", "ndcg@10", "mrr@10"


def genres_of(films, file):
    """The dataset of films, with each film replaced by its genres."""
    try:
        lines = [line.split("::") for line in Path(file).read_text("latin-1").splitlines()]
        genres = {film: words for film, _, words in lines}
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {file} ({error}); give MovieLens-1M's movies.dat") from None
    missing = [film for film in films.item_ids if film not in genres]
    if missing:
        raise InputError(
            f"{file} lacks {len(missing)} films, for example {missing[0]}; give MovieLens-1M's movies.dat"
        )
    frame = pl.DataFrame(
        {
            "user": np.repeat(films.user_ids, films.histories.lengths),
            "item": [genres[films.item_ids[film]] for film in films.histories.items],
        }
    )
    return Dataset.from_frame(frame, user="user", item="item", name=f"{films.name}, genres")


def share_repeated(dataset):
    """The share of repeats: events whose item came before, among all events but the first of each history."""
    histories = [dataset.histories.history(user) for user in range(dataset.num_users)]
    distinct = sum(np.unique(history).size for history in histories)
    return 1 - (distinct - len(histories)) / (dataset.num_interactions - len(histories))


def train_and_evaluate(dataset, folder, config, console):
    """Train a run, or continue it; return its report."""
    run = Run(folder)
    display = TrainingDisplay(console)
    console.rule(f"{dataset.name}, {'with' if config.repeat_bias else 'without'} the bias")
    with display:
        train(dataset, run, config, resume=True, listener=display)
    return evaluate_run(run)


def compare(dataset, config, folder, console):
    """The figures of one dataset, with the bias and without it."""
    result = {
        "dataset": dataset.name,
        "fingerprint": dataset.fingerprint,
        "items": dataset.num_items,
        "repeated": share_repeated(dataset),
        "log_odds": repeat_log_odds(dataset.histories, dataset.num_items),
    }
    for name, learned in (("with", True), ("without", False)):
        options = TrainingConfig.from_options({**config, "time": "none", "repeat-bias": learned})
        report = train_and_evaluate(dataset, folder / f"{dataset.name}, {name}", options, console)
        result[name] = {metric: report["ours"]["test"]["unmasked"][metric]["mean"] for metric in METRICS}
        result[name]["seconds"] = report["seconds"]["train"]
        if learned:
            result["bias"] = report["training"]["learned_repeat_bias"]
    return result


def show(results, console):
    table = Table("", "repeated", "bias", *(f"{m}\nwithout → with" for m in METRICS), box=SIMPLE_HEAD)
    for r in results:
        figures = [f"{r['without'][metric]:.4f} → {r['with'][metric]:.4f}" for metric in METRICS]
        table.add_row(r["dataset"], f"{r['repeated']:.0%}", f"{r['bias']:+.1f}", *figures)
    console.print(table)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("interactions", metavar="INTERACTIONS", help="MovieLens-1M, as recblr train reads it")
    parser.add_argument("movies", metavar="movies.dat")
    parser.add_argument("--epochs", metavar="N", type=int, default=12)
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("repeats"), help="for the results")
    options = parser.parse_args()
    keep_freed_memory()
    console = Console()
    config = {"epochs": options.epochs}
    try:
        TrainingConfig.from_options(config)
        films = read_dataset(options.interactions)
        datasets = films, genres_of(films, options.movies)
    except InputError as error:
        sys.exit(str(error))
    results = [compare(dataset, config, options.out, console) for dataset in datasets]
    document = {
        "claim": __doc__.split("\n")[0],
        "command": f"python benchmarks/repeats.py INTERACTIONS movies.dat --epochs {options.epochs}",
        "machine": describe_machine(),
        "results": results,
    }
    (options.out / "repeats.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    show(results, console)


if __name__ == "__main__":
    main()
