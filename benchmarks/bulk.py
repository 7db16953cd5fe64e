"""Claim: a million users get the 20 best of 12,101 items at 8,000 users a second, in at most 1 GB.

The claims are for two idle Zen 4 cores with AVX-512.  `recblr recommend RUN --all-users` reads the histories
of all users, which are as long as those of Amazon Beauty, and writes Parquet.  "seconds" are those of the
whole command.  "seconds of work" do not count the start and the reading of the run; the command prints them.
"seconds of a processor" are those of all threads, which other programs on the machine change less.  "GB" is
the most memory of the process.  With --run, a trained run is measured too.  `Recommender.recommend` then
gives all of its users their 10 best in a frame, from states that it keeps: at most 1 s for the 6,040 users of
MovieLens-1M.
The model of the million users has random weights.  They do not change the time much.
Run: python benchmarks/bulk.py [--out FILE.json] [--users N] [--run RUN]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np
import torch
from reporting import ROOT
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from recblr import Recommender
from recblr.config import RecBLRConfig, TrainingConfig
from recblr.data import Dataset, Packed
from recblr.nn.model import build_model
from recblr.run import Run, save_model
from recblr.system.build import commit
from recblr.system.machine import describe_machine

USERS, ITEMS, LENGTHS, K = 1_000_000, 12_101, (5, 3.9), 20  # a history has 5 events and 3.9 more on average
TO_REACH = {"users a second": 8_000, "GB": 1.0, "seconds from kept states": 1.0, "seconds with items=": 1.0}
COMMAND = """
import time
from measuring import peak_memory
from recblr.cli import main
try:
    main()
except SystemExit as end:
    print(end.code or 0, peak_memory(), time.process_time())
"""


def made_run(folder, users, items=ITEMS, seed=0):
    """A run whose users have histories as long as those of Amazon Beauty, and a model with random weights."""
    generator = np.random.default_rng(seed)
    lengths = LENGTHS[0] + generator.geometric(1 / (1 + LENGTHS[1]), users) - 1
    histories = Packed.from_lengths(generator.integers(0, items, int(lengths.sum())), lengths)
    ids = [f"item-{number}" for number in range(items)]
    dataset = Dataset("many", histories, [f"user-{number}" for number in range(users)], ids)
    run, config = Run(folder), TrainingConfig(model=RecBLRConfig(time="none"))
    run.create(dataset, config.settled(histories.items.size, times=False))
    torch.manual_seed(seed)
    model = build_model(items, run.config().model).eval()
    save_model(model, run.model_file, ids, fingerprint=dataset.fingerprint, epoch=1)


def whole_command(run, k, suffix=".parquet"):
    """What `recblr recommend` needs for all users of a run."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / f"recs{suffix}"
        words = ["recommend", str(run), "--all-users", "-k", str(k), "--out", str(out)]
        started = perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", COMMAND, *words], capture_output=True, text=True, cwd=ROOT / "benchmarks",
            check=True,
        )  # fmt: skip
        seconds = perf_counter() - started
        *printed, last = done.stdout.splitlines()
        code, peak, processor = map(float, last.split())
        if code:
            sys.exit(f"recblr {' '.join(words)} ended with {code}: {done.stderr}")
        work = float(printed[-1].split(" in ")[-1].split(" s:")[0].replace(",", ""))
        megabytes = out.stat().st_size / 1e6
    return {
        "seconds": seconds,
        "seconds of work": work,
        "seconds of a processor": processor,
        "GB": peak / 1e9,
        "MB of the file": megabytes,
    }


def in_a_frame(run, k=10):
    """Seconds in which a recommender gives the lists of all users of a run in a frame.

    The first call after loading passes all histories.  Later ones begin from the states that are kept.  With
    items=, nine tenths of the items may be recommended.
    """
    started, before = perf_counter(), process_time()
    recommender = Recommender.load(run.folder)
    recommender.recommend(k=k)
    result = {"seconds of the first call": perf_counter() - started}
    result["of a processor, the first call"] = process_time() - before
    items = list(recommender.item_ids)
    for words, filters in (("from kept states", {}), ("with items=", {"items": items[len(items) // 10 :]})):
        rounds = []
        for _ in range(5):
            started, before = perf_counter(), process_time()
            recommender.recommend(k=k, **filters)
            rounds.append((perf_counter() - started, process_time() - before))
        result[f"seconds {words}"], result[f"of a processor, {words}"] = map(min, zip(*rounds, strict=True))
    return result


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--users", type=int, default=USERS)
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    rows = []
    with TemporaryDirectory() as folder:
        made_run(Path(folder) / "run", options.users)
        figures = whole_command(Path(folder) / "run", K)
        rows.append(
            {"run": f"{options.users:,} users, {ITEMS:,} items", "users": options.users, "k": K, **figures}
        )
    if options.run:
        run = Run(options.run)
        users = run.dataset().num_users
        figures = whole_command(options.run, 10) | in_a_frame(run)
        rows.append({"run": f"{options.run.name}, {users:,} users", "users": users, "k": 10, **figures})
    for row in rows:
        row["users a second"] = row["users"] / max(row["seconds of work"], 0.1)  # it is printed in tenths
        row["users a second of a processor"] = row["users"] / row["seconds of a processor"]
    result = {"claim": __doc__.splitlines()[0], "rows": rows, "to reach": TO_REACH, "commit": commit()}
    result["machine"] = describe_machine()
    if options.out:
        options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    table = Table("", *(row["run"] for row in rows), "to reach", box=SIMPLE_HEAD)
    for name in dict.fromkeys(name for row in rows for name in row):
        if name not in ("run", "users"):
            cells = [f"{row[name]:,.2f}" if name in row else "" for row in rows]
            table.add_row(name, *cells, f"{TO_REACH[name]:,}" if name in TO_REACH else "")
    Console().print(table)


if __name__ == "__main__":
    main()
