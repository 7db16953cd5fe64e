"""How every benchmark measures: contenders take turns, ratios are paired, three processes tell the spread.

A busy or throttled machine slows neighbours in time alike, so what is compared is a round's own ratio; but
where a process's memory happens to lie stays with it for life, so that one process alone looks too certain.
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
SECONDS = 0.5  # of turns for a case, in every process
ROUNDS = 3, 60  # at least and at most
WARM_UP = 1, 2  # and before these, which nobody counts: caches, allocator, compilers
DEFAULT_CACHE = 32 << 20


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
    """One case (label -> value) and, for each process, contender -> a sample a round."""

    case: dict
    processes: list

    def has(self, name):
        return name in self.processes[0]

    def of(self, name):
        """What a contender took."""
        return Spread.of([median(samples[name]) for samples in self.processes])

    def paired(self, combine, *names):
        """The spread of what `combine` makes of the contenders' samples in the same round."""
        return Spread.of(
            [
                median(combine(*values) for values in zip(*(samples[n] for n in names), strict=True))
                for samples in self.processes
            ]
        )

    def times_faster(self, ours, beside, factor=1.0):
        """How many times faster ours is than what is beside it, if that had `factor` times as much to do."""
        return self.paired(lambda own, other: factor * other / own, ours, beside)


def take_turns(calls, sets=((),), quick=False):
    """contender -> seconds of each round, for calls name -> function of one of the sets of arguments.

    Each call gets another set than the one before it, so that none finds its arguments in the cache because
    its neighbour has just read them.
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
    """In words, from which size on the ratio is above 1; between sizes it goes by a power of the size."""
    points = list(zip(sizes, ratios, strict=True))
    if ratios[-1] < 1:
        return f"nowhere up to {sizes[-1]:,}"
    for (size, ratio), (next_size, next_ratio) in reversed(list(pairwise(points))):
        if ratio < 1:
            share = math.log(1 / ratio) / math.log(next_ratio / ratio)
            return f"from about {round(size * (next_size / size) ** share):,} on"
    return f"from {sizes[0]:,} on, the least measured"


def exponent(sizes, values):
    """p of the power law size**p that fits the values best; linear growth has 1."""
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    return linear_regression(x, y).slope


def sets_beyond_cache(make, quick=False, cache=None):
    """So many sets of arguments (tuples of tensors) that the last-level cache cannot hold half of them.

    cache: its bytes, where it is not the processor's.
    """
    first = make()
    size = sum(x.numel() * x.element_size() for x in first)
    return [first] if quick else [first, *(make() for _ in range(2 * (cache or last_level_cache()) // size))]


def last_level_cache():
    """Bytes of the largest cache of the first core; a guess where the system does not tell."""
    sizes = []
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = file.read_text(encoding="ascii").strip()
        sizes.append(int(text.rstrip("KMG")) << {"K": 10, "M": 20, "G": 30}.get(text[-1], 0))
    return max(sizes, default=DEFAULT_CACHE)


def peak_memory():
    """Bytes of memory that this process has held at most.

    Not getrusage's, where the system tells better: a process begins with its parent's peak in there.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def added_memory(function, arguments, warm_up):
    """Megabytes that function(*arguments) adds to the peak of a fresh process.

    That has called function(*warm_up) before, so that libraries are loaded and threads started.  `function`
    is one of the benchmark's own module, which the process imports.
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
        raise RuntimeError(f"the process that measures the memory of {function.__name__} ended") from None
    finally:
        process.join()


def _send_added_memory(sender, function, arguments, warm_up):
    function(*warm_up)
    before = peak_memory()
    function(*arguments)
    sender.send((peak_memory() - before) / 1e6)


def in_processes(cases, measure, quick, told=lambda: None):
    """Every case's result; `told` is called after each case in each process.

    The processes are this program started again, one after another; a quick run makes do with this one.
    """
    if quick:
        samples = [[measure(case, quick=True) for case in cases]]
    else:
        samples = [_in_a_process(len(cases), told) for _ in range(PROCESSES)]
    return [Result(case, list(each)) for case, each in zip(cases, zip(*samples, strict=True), strict=True)]


def _in_a_process(cases, told):
    command = [sys.executable, sys.argv[0], MEASURE]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        samples = []
        for line in process.stdout:
            samples.append(json.loads(line))
            told()
    if process.returncode or len(samples) != cases:
        sys.exit(f"{Path(sys.argv[0]).name} failed after {len(samples)} of {cases} cases, see above")
    return samples


MEASURE = "--measure-in-this-process"


def measure_here(cases, measure):
    """The other side of `in_processes`: a line of JSON a case, and nothing else, on standard output."""
    with os.fdopen(os.dup(1), "w") as lines:
        os.dup2(2, 1)  # what peers print goes where people look
        for case in cases:
            print(json.dumps(measure(case, quick=False)), file=lines, flush=True)
