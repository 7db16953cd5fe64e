"""Claim: ten million interactions become batches in under a minute and 4 GB on 2 cores, in every format.

The interactions are read, filtered, sorted, packed, split and cut into batches.  Each run has its own
process, so that its memory peak is that of one run alone.  The data are random: the popularity of users and
items is as skewed as in a shop, ids are as long as Amazon's, and times are unordered.
Run: python benchmarks/data.py [OUT.json]
"""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter

import numpy as np
import polars as pl
from measuring import peak_memory
from rich.console import Console
from rich.table import Table

from recblr.data import leave_one_out, packed_batches, read_dataset, split_by_time

INTERACTIONS, USERS, ITEMS = 10_000_000, 500_000, 200_000
ROUNDS = 3
SECONDS, GIGABYTES = 60, 4  # the claim
FORMATS = ("ratings.csv", "ratings.csv.gz", "ratings.dat", "ratings.parquet", "numbers.parquet")


def write_all(folder):
    """The same interactions in every format; in numbers.parquet ids are integers and times datetimes."""
    rng = np.random.default_rng(0)
    users = (USERS * rng.random(INTERACTIONS) ** 2).astype(np.int64)
    items = (ITEMS * rng.random(INTERACTIONS) ** 4).astype(np.int64)
    seconds = rng.integers(1_500_000_000, 1_600_000_000, INTERACTIONS)
    numbers = pl.DataFrame({"user_id": users, "item_id": items, "rating": 4.0, "timestamp": seconds})
    numbers.with_columns(pl.from_epoch("timestamp")).write_parquet(folder / "numbers.parquet")
    texts = numbers.with_columns(
        pl.format("A{}", pl.col("user_id").cast(pl.String).str.zfill(13)).alias("user_id"),
        pl.format("B{}", pl.col("item_id").cast(pl.String).str.zfill(9)).alias("item_id"),
    )
    texts.write_parquet(folder / "ratings.parquet")
    texts.write_csv(folder / "ratings.csv")
    colons = pl.format("{}::{}::{}::{}", *texts.columns).alias("line")
    texts.select(colons).write_csv(folder / "ratings.dat", include_header=False, quote_style="never")
    with (folder / "ratings.csv.gz").open("wb") as out:
        subprocess.run(["gzip", "-c", "-1", str(folder / "ratings.csv")], stdout=out, check=True)


def measure(path):
    """Time and memory from a file to the batches of the first epoch; call it in a fresh process."""
    started = perf_counter()
    dataset = read_dataset(path)
    read = perf_counter()
    by_user, by_time = leave_one_out(dataset), split_by_time(dataset)
    split = perf_counter()
    batches = sum(1 for _ in packed_batches(by_user.train, tokens=8192, seed=0, epoch=1))
    done = perf_counter()
    return {
        "interactions": dataset.num_interactions,
        "batches": batches,
        "tested_by_time": len(by_time.test.targets),
        "seconds": {"read": read - started, "split": split - read, "batches": done - split},
        "gigabytes": peak_memory() / 1e9,
    }


def in_a_process(path):
    done = subprocess.run([sys.executable, __file__, "--measure", str(path)], capture_output=True, check=True)
    return json.loads(done.stdout)


def main():
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(sys.argv[2])))
        return
    # Imported here because it imports torch, whose memory must not count in the measured processes.
    from recblr.system.machine import describe_machine

    headings = ("format", "MB", "read", "split", "batches", "total", "worst", "peak GB", "claim")
    table = Table(*headings, title="seconds: medians, and the worst total", box=None, pad_edge=False)
    results = []
    with TemporaryDirectory() as folder:
        write_all(Path(folder))
        for name in FORMATS:
            path = Path(folder, name)
            runs = [in_a_process(path) for _ in range(ROUNDS)]
            parts = {part: median(run["seconds"][part] for run in runs) for part in runs[0]["seconds"]}
            totals = [sum(run["seconds"].values()) for run in runs]
            peak = max(run["gigabytes"] for run in runs)
            holds = max(totals) < SECONDS and peak < GIGABYTES
            table.add_row(
                name,
                f"{path.stat().st_size / 1e6:,.0f}",
                *(f"{seconds:.1f}" for seconds in parts.values()),
                f"{median(totals):.1f}",
                f"{max(totals):.1f}",
                f"{peak:.2f}",
                "holds" if holds else "fails",
            )
            results.append(
                {
                    "format": name,
                    "bytes": path.stat().st_size,
                    "seconds": parts,
                    "total_seconds": totals,
                    "peak_gigabytes": peak,
                    "holds": holds,
                    "interactions": runs[0]["interactions"],
                }
            )
    Console().print(table)
    if len(sys.argv) > 1:
        about = {"interactions": INTERACTIONS, "rounds": ROUNDS, "machine": describe_machine()}
        Path(sys.argv[1]).write_text(json.dumps({**about, "formats": results}, indent=2) + "\n")
    sys.exit(not all(result["holds"] for result in results))


if __name__ == "__main__":
    main()
