"""How every benchmark measures: contenders take turns, ratios are paired, three processes give the spread.

A busy or throttled machine slows down all calls of one round alike.  So the ratio of two contenders is taken
within each round.  The addresses of a process's memory also affect its speed, and they never change.  So the
spread within one process is too small, and three processes are measured.
"""

import json
import math
import multiprocessing
import os
import resource
import subprocess
import sys
from dataclasses import dataclass
from itertools import count, pairwise
from pathlib import Path
from statistics import linear_regression, median
from time import perf_counter

PROCESSES = 3
SECONDS = 0.5  # for the rounds of one case in one process
ROUNDS = 3, 60  # at least and at most
WARM_UP = 1, 2  # rounds before these, which do not count: they warm up caches, allocator and compilers
DEFAULT_CACHE = 32 << 20  # bytes, where the system does not tell the size of its caches


@dataclass(frozen=True)
class Spread:
    """The median of the processes' medians, and their lowest and highest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, medians):
        return cls(median(medians), min(medians), max(medians))


@dataclass(frozen=True)
class Result:
    """One case (label -> value) and, for each process, contender -> its samples, one for each round."""

    case: dict
    processes: list

    def has(self, name):
        return name in self.processes[0]

    def of(self, name):
        """The spread of a contender's samples."""
        return Spread.of([median(samples[name]) for samples in self.processes])

    def paired(self, combine, *names):
        """The spread of combine(…) of the contenders' samples, taken round by round."""
        return Spread.of(
            [
                median(combine(*values) for values in zip(*(samples[n] for n in names), strict=True))
                for samples in self.processes
            ]
        )

    def times_faster(self, ours, beside, factor=1.0):
        """How many times as fast `ours` is as `beside`.

        factor: multiplies the time of `beside` first, to compare contenders that do unequal work.
        """
        return self.paired(lambda own, other: factor * other / own, ours, beside)


def take_turns(calls, sets=((),), quick=False):
    """contender -> seconds of each round; calls: contender -> a function of one set of arguments.

    Each call gets another set than the call before it.  Otherwise it would find its arguments in the cache.
    """
    seconds = {name: [] for name in calls}
    turns = count()

    def rounds(least, most):
        started = perf_counter()
        for round_ in range(most):
            if round_ >= least and perf_counter() - started > SECONDS:
                break
            for name, call in calls.items():
                arguments = sets[next(turns) % len(sets)]
                start = perf_counter()
                call(*arguments)
                seconds[name].append(perf_counter() - start)

    rounds(*((1, 1) if quick else WARM_UP))
    for values in seconds.values():
        values.clear()
    rounds(*((1, 1) if quick else ROUNDS))
    return seconds


def crossing(sizes, ratios):
    """In words, the size from which the ratio is above 1; a power law interpolates between two sizes."""
    points = list(zip(sizes, ratios, strict=True))
    if ratios[-1] < 1:
        return f"nowhere up to {sizes[-1]:,}"
    for (size, ratio), (next_size, next_ratio) in reversed(list(pairwise(points))):
        if ratio < 1:
            share = math.log(1 / ratio) / math.log(next_ratio / ratio)
            return f"from about {round(size * (next_size / size) ** share):,} on"
    return f"from {sizes[0]:,} on, the smallest size measured"


def exponent(sizes, values):
    """The exponent p of the power law size**p that fits the values best; p is 1 for linear growth."""
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    return linear_regression(x, y).slope


def sets_beyond_cache(make, quick=False, cache=None):
    """Sets of arguments (tuples of tensors), so many that half of them do not fit into the last-level cache.

    cache: the size of the cache in bytes; by default the size of the processor's.
    """
    first = make()
    size = sum(x.numel() * x.element_size() for x in first)
    return [first] if quick else [first, *(make() for _ in range(2 * (cache or last_level_cache()) // size))]


def last_level_cache():
    """The bytes of the largest cache of the first core; DEFAULT_CACHE if the system does not tell them."""
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text(encoding="ascii").strip()
        sizes.append(int(text.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(text[-1], 0))
    return max(sizes, default=DEFAULT_CACHE)


def peak_memory():
    """The peak memory of this process in bytes.

    getrusage is used only where /proc is missing, because its value starts at the parent's peak.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def added_memory(function, arguments, warm_up):
    """Megabytes that function(*arguments) adds to the peak memory of a fresh process.

    The process first calls function(*warm_up), which loads libraries and starts threads.  `function` must be
    defined in a module, because the process imports it.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "recblr.nn", "reporting"])  # what every benchmark imports
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_added_memory, args=(sender, function, arguments, warm_up))
    process.start()
    sender.close()
    try:
        return receiver.recv()
    except EOFError:
        raise RuntimeError(f"the process that measures the memory of {function.__name__} failed") from None
    finally:
        process.join()


def _send_added_memory(sender, function, arguments, warm_up):
    function(*warm_up)
    before = peak_memory()
    function(*arguments)
    sender.send((peak_memory() - before) / 1e6)


def in_processes(cases, measure, quick, after_case=lambda: None):
    """The result of every case; `after_case` is called after each case in each process.

    The processes run this program again, one after another.  A quick run measures in this process instead.
    """
    if quick:
        samples = [[measure(case, quick=True) for case in cases]]
    else:
        samples = [_in_a_process(len(cases), after_case) for _ in range(PROCESSES)]
    return [Result(case, list(each)) for case, each in zip(cases, zip(*samples, strict=True), strict=True)]


def _in_a_process(cases, after_case):
    command = [sys.executable, sys.argv[0], MEASURE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        samples = []
        for line in process.stdout:
            samples.append(json.loads(line))
            after_case()
    if process.returncode or len(samples) != cases:
        sys.exit(f"{Path(sys.argv[0]).name} failed after {len(samples)} of {cases} cases, see above")
    return samples


MEASURE = "--measure-in-this-process"


def measure_here(cases, measure):
    """The part of `in_processes` that runs in the new process: it prints one line of JSON for each case."""
    with os.fdopen(os.dup(1), "w") as lines:
        os.dup2(2, 1)  # what peers print goes to standard error, so that it does not mix with the JSON
        for case in cases:
            print(json.dumps(measure(case, quick=False)), file=lines, flush=True)
