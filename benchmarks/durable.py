"""Claim: 150,000 events a second are durable in groups of 1,024, and one event takes one wait for the disk.

Events go through recblr.serving.Service into a store on disk (`LMDBStore`), which writes each group to the
disk before it answers.  They have ids, and their users are among 20,000 at random, in a model of ML-1M's
size.  Beside each figure is the disk's own: a file that is made longer by as many bytes, and synchronised
(fsync).  On two Zen 4 cores and a virtual disk, groups of 64 reach 50,000 events a second, and groups of
1,024 reach 150,000.  One event alone is acknowledged within 1.5 times the disk's fsync (median).  After a
kill with 1,000,000 events that are in the log only, a new process has all users up to date within 8 s.
With a million users on disk, a new process gives the first answer within 2 s; with all of them loaded, it
takes at most 6 GB.  Pages of mapped files, which the system takes back when it needs memory, are beside
that.  RECBLR_BENCH_DISK names a folder on the disk to measure; it is the folder build of the sources by
default.
--million has a million users on disk, in place of 100,000; it takes 7 GB of memory.
Run: python benchmarks/durable.py [--out DIR] [--million]
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter

import numpy as np
from engine_measures import RANDOM, models
from engine_measures import USERS as MANY_USERS
from figure import Figure
from measuring import Spread
from reporting import ROOT, main

from recblr import Engine
from recblr.run.model_content import write_model_file
from recblr.serving import Service, open_store
from recblr.system.machine import usable_cores

ITEMS, USERS = 3416, 20_000
FSYNC = "the disk: as many bytes, with fsync"
MEMORY, ALONE = "engine and store in memory", "the engine alone"
DURABLE, ONE = "update_many, durable", "one event, acknowledged"
EVENTS_A_SECOND = {64: 50_000, 1024: 150_000}
FIRST, ALL, RESIDENT = (
    "start to first answer",
    "start until all users are up to date",
    "memory, all users loaded",
)
PAGES, WRITTEN = "pages of mapped files, beside that", "bytes on disk"
MS, GB = (1e3, "ms"), (1e-9, "GB")


def cases(quick):
    cores = usable_cores()
    return [
        *({"measured": "many at once", "group": group, "threads": cores} for group in EVENTS_A_SECOND),
        {"measured": "one alone"},
        {
            "measured": "restart after a kill",
            "events": 2000 if quick else 1_000_000,
            "users": 200 if quick else USERS,
        },
        {
            "measured": "restart with users on disk",
            "events": 2,
            "users": 500 if quick else int(os.environ.get(MANY_USERS, 100_000)),
        },
    ]


@contextmanager
def disk():
    """A folder on the disk that is measured."""
    parent = Path(os.environ.get("RECBLR_BENCH_DISK", ROOT / "build"))
    parent.mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="durable-", dir=parent))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def content():
    return models(RANDOM, ITEMS)[1]


def groups(size, count, random):
    """Groups of events with ids: (users, items, times, ids)."""
    ids = content().item_ids
    for number in range(count):
        users = [f"user{user}" for user in random.integers(0, USERS, size)]
        items = [ids[item] for item in random.integers(0, ITEMS, size)]
        yield users, items, [1.7e9 + number] * size, [f"event {number} {at}" for at in range(size)]


@contextmanager
def served(address, threads):
    with Service(Engine(content(), threads=threads, history=True), open_store(address)) as service:
        users = [f"user{user}" for user in range(USERS)]
        service.update_many(users, content().item_ids[:1] * USERS, times=[1e9] * USERS)
        yield service


def timed(call, batches):
    """Seconds for one event, of each call."""
    taken = []
    for batch in batches:
        start = perf_counter()
        call(*batch)
        taken.append((perf_counter() - start) / len(batch[0]))
    return taken


def add(service):
    return lambda users, items, times, ids: service.update_many(users, items, times=times, event_ids=ids)


def many(case, quick):
    size, threads = case["group"], case["threads"]
    count = 2 if quick else 150_000 // size
    random, found = np.random.default_rng(0), {}
    batches = list(groups(size, count, random))
    with disk() as folder:
        engine = Engine(content(), threads=threads, history=True)
        engine.update_many([f"user{user}" for user in range(USERS)], content().item_ids[:1] * USERS)
        found[ALONE] = timed(lambda users, items, times, ids: engine.update_many(users, items), batches)
        for name, address in ((MEMORY, "memory"), (DURABLE, f"lmdb:{folder / 'store'}")):
            with served(address, threads) as service:
                found[name] = timed(add(service), batches)
        with (folder / "beside").open("wb", buffering=0) as file:
            data = os.urandom(50 * size)
            found[FSYNC] = timed(lambda users, *_: (file.write(data), os.fsync(file.fileno())), batches[:500])
    # All calls together, because the fold runs beside them.
    return {name: [sum(taken) / len(taken)] for name, taken in found.items()}


def one(case, quick):
    found = {ONE: [], FSYNC: []}
    with (
        disk() as folder,
        served(f"lmdb:{folder / 'store'}", 1) as service,
        (folder / "beside").open("wb", buffering=0) as file,
    ):
        for batch in groups(1, 5 if quick else 1000, np.random.default_rng(0)):
            found[ONE] += timed(add(service), [batch])
            found[FSYNC] += timed(lambda *_: (file.write(bytes(100)), os.fsync(file.fileno())), [batch])
    return {name: [median(taken)] for name, taken in found.items()}


# The process that is killed.  Arguments: model, store, events, users, whether to fold.
WRITES = """
import os, signal, sys
from recblr import Engine
from recblr.serving import Service, open_store
model, path, events, users, fold = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
store = open_store("lmdb:" + path)
service = Service(Engine.load(model), store, write_behind=1e9)
items, number = service.engine.item_ids, 0
while number < events:
    some = range(number, min(number + 1024, events))
    service.update_many([f"user{n * 7919 % users}" for n in some], [items[n * 31 % len(items)] for n in some],
                        times=[1.7e9 + number] * len(some), event_ids=[f"event {n}" for n in some])
    number += len(some)
if fold:
    store.fold()
    service.close()
os.kill(os.getpid(), signal.SIGKILL)
"""

# A new process; it prints when it gave the first answer, when all users were up to date, and its memory then.
STARTS = """
import json, sys, time
from recblr import Engine
from recblr.serving import Service, open_store
service = Service(Engine.load(sys.argv[1], history=True), open_store("lmdb:" + sys.argv[2]), write_behind=1e9)
best = service.recommend("user7")
first = time.monotonic()
count = service.load()
loaded = time.monotonic()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
size = {name: 1024 * int(status[name].split()[0]) for name in ("RssAnon", "RssFile")}
print(json.dumps([len(best), first, count, loaded, size["RssAnon"], size["RssFile"]]))
"""


def restart(case, quick):
    on_disk = case["measured"] == "restart with users on disk"
    events = case["events"] * case["users"] if on_disk else case["events"]
    with disk() as folder:
        write_model_file(folder / "model.safetensors", content())
        store = folder / "store"
        arguments = [str(folder / "model.safetensors"), str(store)]
        killed = subprocess.run(
            [sys.executable, "-c", WRITES, *arguments, str(events), str(case["users"]), str(int(on_disk))],
            check=False,
        )
        if killed.returncode != -signal.SIGKILL:
            raise RuntimeError("the process that adds events failed")
        size = sum(file.stat().st_blocks * 512 for file in store.iterdir())
        started = monotonic()
        done = subprocess.run(
            [sys.executable, "-c", STARTS, *arguments], capture_output=True, text=True, check=True
        )
    best, first, count, loaded, own, pages = json.loads(done.stdout)
    if (best, count) != (10, case["users"]):
        raise RuntimeError(f"{count:,} of {case['users']:,} users were found")
    return {
        FIRST: [first - started], ALL: [loaded - started], RESIDENT: [own], PAGES: [pages], WRITTEN: [size],
    }  # fmt: skip


MEASURES = {
    "many at once": many, "one alone": one,
    "restart after a kill": restart, "restart with users on disk": restart,
}  # fmt: skip


def measure(case, quick):
    return MEASURES[case["measured"]](case, quick)


def figures(result):
    case = result.case["measured"]
    if case == "many at once":
        bar = EVENTS_A_SECOND[result.case["group"]]
        names = [name for name in result.processes[0] if name != FSYNC]
        return [rate(result, name, bar if name == DURABLE else None, FSYNC) for name in names]
    if case == "one alone":
        ratio = result.paired(lambda ours, disk: ours / disk, ONE, FSYNC)
        return [Figure(ONE, FSYNC, ratio, 1.5, at_most=True, unit=(1e6, "µs"), value_unit="×")]
    million = result.case["users"] == 1_000_000
    killed = case == "restart after a kill" and result.case["events"] == 1_000_000
    return [
        absolute(result, FIRST, MS, 2000 if million else None),
        absolute(result, ALL, MS, 8000 if killed else None),
        absolute(result, RESIDENT, GB, 6 if million else None),
        absolute(result, PAGES, GB),
        absolute(result, WRITTEN, GB),
    ]


def rate(result, name, bar, beside):
    a_second = Spread.of([1 / median(samples[name]) for samples in result.processes])
    return Figure(name, beside, a_second, bar, unit=(1e6, "µs"), value_unit=" events/s")


def absolute(result, name, unit, bar=None):
    of = result.of(name)
    scaled = Spread(*(unit[0] * value for value in (of.median, of.low, of.high)))
    return Figure(name, "", scaled, bar, at_most=True, unit=unit, value_unit=unit[1])


def draw(picture, results, shown, value):
    """The share of what is allowed, or of what must be reached, for figures with a bar."""
    shares = {}
    for result, rows in zip(results, shown, strict=True):
        for row in rows:
            if row.bar is not None:
                share = row.value.median / row.bar
                label = ", ".join(str(part) for part in result.case.values())
                shares[f"{row.ours}\n{label}"] = share if row.at_most else 1 / share
    axes = picture.subplots()
    axes.barh(list(shares), list(shares.values()), color="#4477aa")
    axes.axvline(1, color="#222222", linewidth=0.8, linestyle=":")
    axes.set_xlabel("share of what is allowed; reached below 1")
    axes.invert_yaxis()


def arguments():
    """Take --million out of sys.argv; the processes find it in the environment."""
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--million", action="store_true")
    own, sys.argv[1:] = parser.parse_known_args()
    if own.million:
        os.environ[MANY_USERS] = "1000000"


if __name__ == "__main__":
    arguments()
    main(__doc__, cases, measure, figures, draw, "figure")
