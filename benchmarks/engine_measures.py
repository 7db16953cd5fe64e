"""What benchmarks/engine.py measures: each function takes a case, and returns contender -> samples."""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from time import monotonic, perf_counter, sleep

import engine_peers as peers
import numpy as np
import torch
from engine_inside import PROGRAM, Inside, write_model, write_table
from engine_peers import ONNX

from recblr import Engine
from recblr.config import RecBLRConfig
from recblr.nn import RecBLR
from recblr.run.model_content import ServableModel, read_for_serving, write_model_file
from recblr.run.model_file import load_model
from recblr.system.machine import usable_cores

RANDOM = "random weights"
MODELS, USERS = "RECBLR_BENCH_MODELS", "RECBLR_BENCH_USERS"  # how --model and --million reach the processes
EVENT, UPDATE, RECOMMEND = "event and ten best", "update", "ten best"
PYTHON = "update, then recommend, from Python"
MULTIPLIES, READS = "its multiply-adds", "its weights read"  # at the machine's rates, measured beside
TABLES = {"float32": 4, "bfloat16": 2, "int8": 1}  # of the packed copy -> bytes a number
ROUNDS = 7
SPIN = 0.25  # seconds


def sizes(quick):
    """Catalogue, users, items of the large table, calls in a round."""
    return (200, 300, 3000, 20) if quick else (3416, 100_000, 1_000_000, 4000)


def cores():
    return (
        sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(usable_cores()))
    )


def measure(case, quick):
    torch.set_num_threads(1)
    return MEASURES[case["measured"]](case, quick)


@functools.cache
def folder():
    """A folder for the files of this process."""
    return Path(_folder().name)


@functools.cache
def _folder():
    return tempfile.TemporaryDirectory(prefix="recblr-engine-")


@functools.cache
def inside():
    """The program that measures inside the engine; None if it is not built."""
    return Inside() if PROGRAM.exists() else None


def trained_models():
    """{name: path} of the models of --model."""
    return {path.stem: path for path in map(Path, filter(None, os.environ.get(MODELS, "").split(os.pathsep)))}


@functools.cache
def models(name, num_items):
    """The torch model, and its content for the engine."""
    if name != RANDOM:
        path = trained_models()[name]
        return load_model(path).model, read_for_serving(path)
    torch.manual_seed(0)
    config = RecBLRConfig(time="none")
    model = RecBLR(num_items, config).eval()
    tensors = {key: value.numpy() for key, value in model.state_dict().items()}
    return model, ServableModel(config, [f"item{i}" for i in range(num_items)], tensors)


def histories(num_items, random):
    """Histories of 64 users with the lengths of MovieLens-1M's: at least 20, median 96, mean 165."""
    lengths = np.clip(random.lognormal(4.6, 0.95, 64), 20, 2300).astype(int)
    return [random.integers(0, num_items, length).tolist() for length in lengths]


def served(model, states, users, random):
    """An engine on one thread whose users have histories."""
    engine = Engine(model, threads=1, states=states)
    timed = engine.time_use != "none"
    copies = []
    for history in histories(model.num_items, random):
        ids = [model.item_ids[item] for item in history]
        engine.rebuild({"one": (ids, np.zeros(len(ids))) if timed else ids})
        copies.append(engine.state("one"))
    engine.forget("one")
    for user in range(users):
        engine.set_state(f"user{user}", copies[user % len(copies)])
    return engine


def in_rounds(contenders, quick, rounds=ROUNDS):
    """name -> a sample for each round; the contenders take turns.  A contender returns name -> sample.

    Before each turn, the threads of the one before fall asleep: those of OpenBLAS and of OpenMP run in a loop
    for up to SPIN seconds after their work, so that the next contender would have one core less.
    """
    found = {}
    for call in contenders:
        call()  # warms up caches and starts threads
    for _ in range(1 if quick else rounds):
        for call in contenders:
            sleep(0 if quick else SPIN)
            for name, value in call().items():
                found.setdefault(name, []).append(value)
    return found


def middle_and_tail(name, taken):
    return {f"{name}, p50": median(taken), f"{name}, p99": float(np.quantile(taken, 0.99))}


def timed_calls(call, count):
    taken = []
    for _ in range(count):
        start = perf_counter()
        call()
        taken.append(perf_counter() - start)
    return taken


def by_the_event(case, quick):
    num_items, users, _, calls = sizes(quick)
    model, content = models(case["model"], num_items)
    random = np.random.default_rng(0)
    contenders = [*_inside_contenders(content, users, calls, random)]
    engine = served(content, "float32", users, random)
    ids, timed, clock = content.item_ids, engine.time_use != "none", iter(range(10**9, 2 * 10**9))

    def one(user, item):
        engine.update(user, item, time=next(clock) if timed else None)
        engine.recommend(user)

    def some(name, call):
        def run():
            some_users = [f"user{u}" for u in random.integers(0, users, calls)]
            some_items = [ids[i] for i in random.integers(0, len(ids), calls)]
            taken = []
            for user, item in zip(some_users, some_items, strict=True):
                start = perf_counter()
                call(user, item)
                taken.append(perf_counter() - start)
            return middle_and_tail(name, taken)

        return run

    contenders += [
        some(PYTHON, one),
        some(f"{RECOMMEND}, from Python", lambda user, _: engine.recommend(user)),
    ]
    for events in (200, 1000):
        call = peers.in_torch(model, events, random)
        contenders.append(_median_of(f"PyTorch, {events:,} events", call, 2 if quick else 12))
    if not peers.why_not(ONNX):
        config = content.config
        call = peers.in_onnx(content.num_items, config.d_model, config.num_layers, 200)
        contenders.append(_median_of(f"{ONNX}, 200 events", call, 2 if quick else 12))
    return in_rounds(contenders, quick)


def _median_of(name, call, count):
    return lambda: {name: median(timed_calls(call, count))}


def _inside_contenders(content, users, calls, random):
    """The contenders that engine.cpp times, with the machine's floors."""
    program = inside()
    if not program:
        return
    place = folder() / f"model-{content.num_items}"
    place.mkdir(exist_ok=True)
    write_model(place, content, histories(content.num_items, random))
    program("model", place)
    program("engine", "plain", 1, "float32", "int8", users)
    program("engine", "half", 1, "bfloat16", "int8", users)

    def timed(name, engine, what, batch):
        def run():
            taken = [t / batch for t in program("time", engine, what, batch, max(4, calls // batch))]
            return middle_and_tail(name, taken) if batch == 1 else {name: median(taken)}

        return run

    for what in (EVENT, UPDATE, RECOMMEND):
        word = {EVENT: "event", UPDATE: "update", RECOMMEND: "recommend"}[what]
        yield timed(f"inside, {what}", "plain", word, 1)
        for batch in (8, 64, *([1024] if what == UPDATE else [])):
            yield timed(f"inside, {what} of {batch}", "plain", word, batch)
    for what, word in ((EVENT, "event"), (UPDATE, "update")):
        yield timed(f"inside, {what}, bfloat16 states", "half", word, 1)
    multiplies, bytes_ = work(content)
    yield lambda: {MULTIPLIES: multiplies / program("multiply", cores()[0])[0]}
    yield lambda: {READS: bytes_ / program("read", bytes_, cores()[0])[0]}


def work(content):
    """The multiply-adds of an event, and the bytes of the weights that it reads."""
    matrices = [t for name, t in content.tensors.items() if t.ndim == 2 and name.startswith("layers.")]
    weights = sum(matrix.size for matrix in matrices)
    return weights, 4 * weights


def many_events(case, quick):
    num_items, users, _, calls = sizes(quick)
    _, content = models(RANDOM, num_items)
    random = np.random.default_rng(0)
    contenders, program = [], inside()
    threads = case["threads"]
    if program:
        place = folder() / "many"
        place.mkdir(exist_ok=True)
        write_model(place, content, histories(num_items, random))
        program("model", place)
        for name, count in (("one", 1), ("two", threads)):
            program("engine", name, count, "float32", "int8", users)

        def timed(name, engine, batch):
            return lambda: {
                name: median(program("time", engine, "update", batch, max(4, 8 * calls // batch))) / batch
            }

        for batch in (1024, 8192):
            contenders.append(timed(f"inside, {batch:,} events", "two", batch))
            contenders.append(timed(f"inside, {batch:,} events, one thread", "one", batch))
    engine = Engine(content, threads=threads)

    def from_python():
        chosen = [f"user{u}" for u in random.integers(0, users, 1024)]
        items = [content.item_ids[i] for i in random.integers(0, num_items, 1024)]
        return {
            "1,024 events, lists from Python": median(
                timed_calls(lambda: engine.update_many(chosen, items), 8)
            )
            / 1024
        }

    found = in_rounds([*contenders, from_python], quick)
    if program:
        program("model", place)  # drops the engines, which are large
    return found


@functools.cache
def large_table(kind, items, width=64):
    """The rows (V, D) and queries (Q, D) of a table, and the file of both for the program."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((items, width), np.float32)
    if kind == "uneven":
        rows *= random.lognormal(0, 1, (items, 1)).astype(np.float32)
    queries = random.standard_normal((256, width), np.float32)
    if kind not in ("random", "uneven"):
        model, content = models(kind, 0)
        rows, queries = content.table, _hidden(model, random)
    file = folder() / f"{kind}.f32"
    write_table(file, rows, queries)
    return rows, queries, file


def _hidden(model, random):
    """The answers of a model after histories at random, (Q, D)."""
    found = []
    for history in histories(model.num_items, random):
        times = torch.arange(len(history), dtype=torch.float64)[None] * 3600 + 1e9
        known = {"times": times, "request_times": times[:, -1]}
        with torch.no_grad():
            given = {name: known[name] for name in model.time_arguments}
            found.append(model(torch.tensor([history]), **given)[0, -1].numpy())
    return np.stack(found)


def table_read(table):
    """The name of the floor of a table: reading it once from memory, divided by the queries of a batch."""
    return f"{table} table read once"


def search(case, quick):
    items = sizes(quick)[2]
    rows, queries, file = large_table("random", items)
    batch, threads, program = case["batch"], case["threads"], inside()
    contenders, answers = [], {}
    count = 4 if batch == 1 else 1
    if program:
        program("table", file, len(rows), rows.shape[1], len(queries))

        def ours(table):
            def run():
                answer = program("best", table, threads, batch, count)
                place = (answer["first"] + np.arange(batch)) % len(queries)
                found = np.array(answer["items"]).reshape(batch, peers.BEST)
                answers.update(zip(place.tolist(), found, strict=True))
                _check(rows, queries[place[0]], found[0])
                return {f"{table} table": median(answer["seconds"]) / batch}

            return run

        contenders += [ours(table) for table in TABLES]
        core = cores()[0] if threads == 1 else -1

        def floors():
            rate = program("read", rows.nbytes, core)[0]
            return {table_read(table): rows.size * size / rate / batch for table, size in TABLES.items()}

        contenders.append(floors)
    same = {}

    def theirs(name, call):
        turn = iter(range(10**9))

        def run():
            taken = []
            for _ in range(count):
                place = (batch * next(turn) + np.arange(batch)) % len(queries)
                start = perf_counter()
                found = call(queries[place])
                taken.append(perf_counter() - start)
                same.setdefault(name, []).extend(
                    bool((answers[p] == found[i]).all()) for i, p in enumerate(place.tolist()) if p in answers
                )
            return {name: median(taken) / batch}

        return run

    contenders += [
        theirs(name, make(rows, threads)) for name, make in peers.SEARCHES.items() if not peers.why_not(name)
    ]
    found = in_rounds(contenders, quick)
    return found | {
        f"{name}: same answer": [float(np.mean(values))] for name, values in same.items() if values
    }


def _check(rows, query, found):
    """Raise an error if these are not the ten best items."""
    scores = rows @ query
    best = np.sort(scores[np.argpartition(-scores, peers.BEST)[: peers.BEST]])[::-1]
    np.testing.assert_allclose(scores[found], best, rtol=1e-4, atol=1e-4)


def survivors(case, quick):
    rows, queries, file = large_table(case["table"], sizes(quick)[2])
    program = inside()
    if not program:
        return {}
    program("table", file, len(rows), rows.shape[1], len(queries))
    found = {}
    for table in list(TABLES)[1:]:
        found[f"{table} table"] = [program("survivors", table, 1 if quick else len(queries))]
    return found


def memory(case, quick):
    """In a fresh process, because memory that was freed before would be used again."""
    users = sizes(quick)[1] if quick else int(os.environ.get(USERS, sizes(quick)[1]))
    call = (
        f"import engine_measures; engine_measures.load_users({users}, {case['states']!r}, {sizes(quick)[0]})"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", call],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"the process that loads {users:,} users failed:\n{done.stderr}")
    return {name: [value] for name, value in json.loads(done.stdout).items()}


# Of a user with one event: the pointer to the set of seen items, and the smallest block of memory.
SEEN_OF_ONE_EVENT = 8 + 48


def load_users(users, states, num_items):
    """The process of `memory`: prints figures as JSON."""
    _, content = models(RANDOM, num_items)
    engine, random = Engine(content, threads=1, states=states), np.random.default_rng(0)
    engine.update("first", content.item_ids[0])
    before, started = resident(), perf_counter()
    for begin in range(0, users, 4096):
        chosen = range(begin, min(begin + 4096, users))
        items = random.integers(0, num_items, len(chosen))
        engine.update_many([f"user{user}" for user in chosen], [content.item_ids[i] for i in items])
    seconds, grown = perf_counter() - started, resident() - before
    some = iter([f"user{user}" for user in random.integers(0, users, 2000)])
    taken = timed_calls(lambda: engine.recommend(next(some)), 2000)
    figures = {
        "users": users,
        "bytes a user": grown / users - SEEN_OF_ONE_EVENT,
        "state": state_bytes(content, states),
        "loading an event, its lists included": seconds / users,
        "recommend, from Python": median(taken),
    }
    print(json.dumps(figures))


def state_bytes(content, states):
    """The numbers that a user's state has, without the index: docs/engine.md has the layout."""
    config, layer = content.config, content.config.layer()
    values = config.num_layers * (layer.d_conv * layer.d_inner + config.d_model * config.history_average)
    return (values + config.d_model) * {"float32": 4, "bfloat16": 2}[states]


def resident():
    """The memory of this process in bytes, now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


START = """
import sys, time
from recblr import Engine
engine = Engine.load(sys.argv[1], threads=1)
engine.update("user", engine.item_ids[0])
engine.recommend("user")
print(time.monotonic(), "torch" in sys.modules or "polars" in sys.modules)
print(open("/proc/self/statm").read())
"""


def start(case, quick):
    """Fresh processes, from the moment before they are started to their first recommendation."""
    file = folder() / "model.safetensors"
    _, content = models(RANDOM, sizes(quick)[0])
    write_model_file(file, content)
    table, seconds, beyond, python = file.stat().st_size, [], [], []
    for _ in range(2 if quick else 12):
        started = monotonic()
        done = subprocess.run([sys.executable, "-c", START, file], capture_output=True, text=True, check=True)
        ended, heavy, _, pages, *_ = done.stdout.split()
        if heavy != "False":
            raise RuntimeError("the engine imports torch or polars")
        seconds.append(float(ended) - started)
        beyond.append(int(pages) * os.sysconf("SC_PAGESIZE") - table)
        started = monotonic()
        subprocess.run([sys.executable, "-c", "import numpy"], check=True)
        python.append(monotonic() - started)
    first = "start to first recommendation"
    return {first: seconds, "Python and NumPy alone": python, "memory beyond tables and states": beyond}


def machine(case, quick):
    program, core = inside(), case["core"]
    if not program:
        return {}
    core = -1 if core == "all at once" else core
    memory_block, cache_block = (1 << 24, 1 << 15) if quick else (1 << 28, 704 << 10)
    return in_rounds(
        [
            lambda: {"reads from memory": program("read", memory_block, core)[0]},
            lambda: {"reads from the cache": program("read", cache_block, core)[0]},
            lambda: {"multiply-adds": program("multiply", core)[0]},
        ],
        quick,
    )


MEASURES = {
    "by the event": by_the_event, "many events at once": many_events, "ten best of a large table": search,
    "survivors of the bound": survivors, "memory of users": memory, "start": start, "the machine": machine,
}  # fmt: skip
