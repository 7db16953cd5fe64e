"""Claim: one event and the exact ten best of 3,416 items take 16 µs, 1/90 of recomputing 200 events.

The claims are for two Zen 4 cores with AVX-512.  One event with the ten best, for any of 100,000 users,
takes at most 16 µs (median) and 25 µs (99th percentile) inside the engine, and 22 µs from Python.  An event
alone takes 11 µs, and 6 µs in batches of 8 or more.  Two threads take in 250,000 events a second.  PyTorch
takes 90 times as long to recompute 200 events, and 400 times for 1,000.  ONNX Runtime takes 20 times as long
for 200 events of a SASRec of the same size.
The exact ten best of a million items of width 64 take 3.5 ms on one thread and 2.6 ms on two; in batches of
64, 0.55 and 0.3 ms a query.  faiss and usearch, exact, on the same data and threads, take 3 times as long,
and 4 times in batches.
A user takes 4.8 KiB, or 2.5 KiB with bfloat16 states.  A fresh process recommends within 0.4 s, and takes
60 MB beyond tables and states.
Beside the figures are the machine's own rates: how long it takes at least to read the weights, and to
multiply by them.  On another machine, compare these ratios.  "inside" is timed in C++
(benchmarks/engine.cpp), the rest in Python.  Users have as many items as those of MovieLens-1M.
--model adds a trained model, and may be given several times.  --million loads a million users, in 5 GB.
--docs only writes the figures of docs/benchmarks into docs/performance-engine.md and -serving.md.
Run: python benchmarks/engine.py [--out DIR] [--model FILE ...] [--million]
Peers: pip install faiss-cpu usearch onnx onnxruntime
"""

import argparse
import os
import sys
from pathlib import Path
from statistics import median

import engine_peers as peers
from engine_inside import NOT_BUILT, PROGRAM
from engine_measures import (
    EVENT,
    MODELS,
    MULTIPLIES,
    PYTHON,
    RANDOM,
    READS,
    TABLES,
    UPDATE,
    USERS,
    cores,
    measure,
    table_read,
    trained_models,
)
from engine_peers import FAISS, ONNX, USEARCH
from figure import Figure
from measuring import Spread
from reporting import COLOURS, main
from serving_tables import write_docs

from recblr.system.machine import usable_cores

US, MS, KIB, MB = (1e6, "µs"), (1e3, "ms"), (1 / 1024, "KiB"), (1e-6, "MB")
EVENTS_A_SECOND = 250_000
# To reach: figure -> (number, whether it is the most).
TO_REACH = {
    f"inside, {EVENT}, p50": 16, f"inside, {EVENT}, p99": 25, f"inside, {UPDATE}, p50": 11,
    f"inside, {UPDATE} of 8": 6, f"inside, {UPDATE} of 64": 6, f"{PYTHON}, p50": 22,
}  # fmt: skip
TIMES_FASTER = {"PyTorch, 200 events": 90, "PyTorch, 1,000 events": 400, f"{ONNX}, 200 events": 20}
SEARCH_MS = {(1, 1): 3.5, (2, 1): 2.6, (1, 64): 0.55, (2, 64): 0.3}  # (threads, batch) -> ms a query
SEARCH_TIMES = {1: 3, 64: 4}  # batch -> times as fast as faiss and usearch
USER_KIB = {"float32": 4.8, "bfloat16": 2.5}
START_SECONDS, START_MB = 0.4, 60
DEFAULT_TABLE = "int8"  # of Engine.load


def cases(quick):
    models = [RANDOM, *trained_models()]
    both = sorted({1, usable_cores()})
    return [
        *({"measured": "by the event", "model": model, "threads": 1} for model in models),
        {"measured": "many events at once", "model": RANDOM, "threads": usable_cores()},
        *(
            {"measured": "ten best of a large table", "batch": batch, "threads": threads}
            for batch in SEARCH_TIMES
            for threads in both
        ),
        *(
            {"measured": "survivors of the bound", "table": table}
            for table in ("random", "uneven", *models[1:])
        ),
        *({"measured": "memory of users", "states": states} for states in USER_KIB),
        {"measured": "start"},
        *({"measured": "the machine", "core": core} for core in cores()),
        {"measured": "the machine", "core": "all at once"},
    ]


def figures(result):
    case = result.case
    return FIGURES[case["measured"]](result, case) or [
        Figure(
            "inside",
            "",
            None,
            note=NOT_BUILT if not PROGRAM.exists() else "the catalogue does not count them",
        )
    ]


def absolute(result, name, unit, bar=None, beside="", at_most=True):
    """A contender's own figure, in a unit."""
    return Figure(
        name, beside if result.has(beside) else "", scaled(result.of(name), unit[0]), bar, at_most=at_most,
        unit=unit, value_unit=unit[1],
    )  # fmt: skip


def scaled(spread, factor):
    return Spread(factor * spread.median, factor * spread.low, factor * spread.high)


def times(result, ours, beside, bar=None, unit=US):
    return Figure(ours, beside, result.times_faster(ours, beside), bar, unit=unit, value_unit="×")


def missing(ours, peer, name):
    """The row of a peer that did not run."""
    return Figure(ours, name, None, note=peers.why_not(peer) or "not measured")


def event_figures(result, case):
    names = list(result.processes[0])
    ours = [name for name in names if name.startswith("inside") or "from Python" in name]
    own_bars = case["model"] == RANDOM
    found = []
    for name in ours:
        floor = "" if EVENT not in name and UPDATE not in name else MULTIPLIES if " of " in name else READS
        found.append(absolute(result, name, US, TO_REACH.get(name) if own_bars else None, floor))
    if not PROGRAM.exists():
        found.append(Figure("inside", "", None, note=NOT_BUILT))
    for beside, bar in TIMES_FASTER.items():
        ran = result.has(beside)
        bar = bar if own_bars else None
        row = times(result, f"{PYTHON}, p50", beside, bar) if ran else missing(PYTHON, ONNX, beside)
        found.append(row)
    return found


def many_figures(result, case):
    def a_second(name, bar):
        rate = Spread.of([1 / median(samples[name]) for samples in result.processes])
        return Figure(name, "", rate, bar, unit=US, value_unit=" events/s")

    two = case["threads"] > 1
    return [
        a_second(name, EVENTS_A_SECOND if two and name == "inside, 8,192 events" else None)
        for name in result.processes[0]
    ] + ([] if PROGRAM.exists() else [Figure("inside", "", None, note=NOT_BUILT)])


def search_figures(result, case):
    ours = [table for table in TABLES if result.has(f"{table} table")]
    if not ours:
        return []
    bar, default = SEARCH_MS.get((case["threads"], case["batch"])), f"{DEFAULT_TABLE} table"
    found = [
        absolute(result, f"{table} table", MS, bar if table == DEFAULT_TABLE else None, table_read(table))
        for table in ours
    ]
    for peer in (FAISS, USEARCH):
        if result.has(peer):
            found.append(times(result, default, peer, SEARCH_TIMES[case["batch"]], MS))
        else:
            found.append(missing(default, peer, peer))
    return found


def survivor_figures(result, case):
    return [absolute(result, name, (1, "items")) for name in result.processes[0]]


def memory_figures(result, case):
    return [
        absolute(result, "bytes a user", KIB, USER_KIB[case["states"]], "state"),
        *(
            absolute(result, name, US)
            for name in ("loading an event, its lists included", "recommend, from Python")
        ),
    ]


def start_figures(result, case):
    return [
        absolute(result, "start to first recommendation", MS, 1000 * START_SECONDS, "Python and NumPy alone"),
        absolute(result, "memory beyond tables and states", MB, START_MB),
    ]


def machine_figures(result, case):
    return [
        absolute(result, name, (1e-9, "G/s" if name == "multiply-adds" else "GB/s"), at_most=False)
        for name in result.processes[0]
    ]


FIGURES = {
    "by the event": event_figures, "many events at once": many_figures,
    "ten best of a large table": search_figures, "survivors of the bound": survivor_figures,
    "memory of users": memory_figures, "start": start_figures, "the machine": machine_figures,
}  # fmt: skip


def summary(results):
    """How often the peers find the same items in the same order."""
    for result in results:
        for name in result.processes[0]:
            if name.endswith(": same answer"):
                share = median(samples[name][0] for samples in result.processes)
                case = result.case
                yield (
                    f"{name.partition(':')[0]}, batch {case['batch']}, threads {case['threads']}:"
                    f" {share:.1%} of the answers have the same items in the same order as ours"
                )


def draw(picture, results, shown, value):
    """The figures with a bar: the share of what they may be at most, or of what they must be at least."""
    shares = {}
    for result, figures in zip(results, shown, strict=True):
        for figure in figures:
            if figure.bar is None or figure.value is None:
                continue
            beside = f" beside {figure.beside}" if figure.value_unit == "×" else ""
            case = ", ".join(str(label) for label in result.case.values())
            share = figure.value.median / figure.bar
            shares[f"{case}: {figure.ours}{beside}"] = share if figure.at_most else 1 / share
    picture.set_figheight(1.5 + 0.25 * len(shares))
    axes = picture.subplots()
    axes.barh(list(shares), list(shares.values()), color=COLOURS[0])
    axes.axvline(1, color="#222222", linewidth=0.8, linestyle=":")
    axes.set_xlabel("share of what is allowed; reached below 1")
    axes.invert_yaxis()


def arguments():
    """Take this benchmark's own options out of sys.argv; the processes find them in the environment."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--model", type=Path, action="append", default=[])
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--docs", action="store_true")
    own, rest = parser.parse_known_args()
    if own.docs:
        write_docs()
        sys.exit()
    for path in own.model:
        if not path.is_file():
            sys.exit(f"--model {path} is no file")
    if len({path.stem for path in own.model}) < len(own.model):
        sys.exit("two files of --model have the same name: rename one, because the tables show the names")
    if own.model:  # else this may be a process of a run that has them
        os.environ[MODELS] = os.pathsep.join(str(path.resolve()) for path in own.model)
    if own.million:
        os.environ[USERS] = "1000000"
    sys.argv[1:] = rest


if __name__ == "__main__":
    arguments()
    main(__doc__, cases, measure, figures, draw, "figure", summary)
