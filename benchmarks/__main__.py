"""Run every benchmark of kernels, models and serving, each in its own process, and keep their results.

This takes about 25 minutes on two idle cores.  Each benchmark prints its table and writes NAME.json and
NAME.svg.  A table at the end shows, for each benchmark, how long it took and how many bars it reached.  When
a benchmark fails, the others still run, and the exit status is 1.  A missed bar is a result, not a failure.
Run: python benchmarks [--out DIR] [--data INTERACTIONS] [--quick]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from time import perf_counter

from reporting import ROOT, prepare
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
BENCHMARKS = (
    *("memory", "peers", "fused", "scaling", "overhead", "encoder", "loss", "layouts"),
    *("engine", "durable"),
)


def main():
    parser = argparse.ArgumentParser(
        "python benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", metavar="DIR", type=Path, default=ROOT / "docs" / "benchmarks")
    parser.add_argument(
        "--data", metavar="INTERACTIONS", type=Path, help="also time an epoch of training on this file"
    )
    parser.add_argument("--quick", action="store_true", help="tiny shapes and one process: a smoke test")
    options = parser.parse_args()
    if options.data and not options.data.exists():
        sys.exit(f"--data {options.data} does not exist")
    prepare(options.out)
    jobs = {name: ["--out", options.out, *["--quick"] * options.quick] for name in BENCHMARKS}
    if options.data:
        steps = ["--steps", "1"] if options.quick else []
        jobs["epoch"] = [options.data, "--out", options.out / "epoch.json", *steps]
    console = Console()
    overview = Table("benchmark", "seconds", "bars reached", box=SIMPLE_HEAD)
    failed = []
    for number, (name, arguments) in enumerate(jobs.items(), 1):
        console.rule(f"{name}, {number} of {len(jobs)}")
        started = perf_counter()
        status = subprocess.run([sys.executable, HERE / f"{name}.py", *arguments], check=False).returncode
        if status:
            failed.append(name)
        bars = "failed" if status else bars_reached(options.out / f"{name}.json")
        overview.add_row(name, f"{perf_counter() - started:.0f}", bars)
    console.print(overview)
    print(f"results are in {options.out}")
    if failed:
        sys.exit(f"failed, see above: {', '.join(failed)}")


def bars_reached(file):
    """How many of a benchmark's bars are reached, in words."""
    results = json.loads(file.read_text(encoding="utf-8")).get("results", [])
    verdicts = [figure["reached"] for result in results for figure in result["figures"]]
    verdicts = [verdict for verdict in verdicts if verdict is not None]
    return f"{sum(verdicts)} of {len(verdicts)}" if verdicts else "no bars"


if __name__ == "__main__":
    main()
