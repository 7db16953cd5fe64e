"""How the GPU's benchmarks measure: by CUDA events, when warm, on arguments that no cache still holds."""

from itertools import count
from time import perf_counter

import torch
from measuring import sets_beyond_cache

SECONDS = 0.15  # of turns for a contender
ROUNDS = 5, 25  # at least and at most
WARM_UP = 3
AHEAD = 2_000_000  # cycles, about a millisecond, that the GPU idles while the host enqueues a call
LARGEST_COPY = 4 << 30  # bytes, read and written; what is larger is taken for several of these


def sets(make, quick=False):
    """So many sets of arguments that the second-level cache cannot hold half of them."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return sets_beyond_cache(make, quick, cache)


class LostGPU(Exception):
    """A contender left an error on the GPU with which this process can do nothing more on it."""

    def __init__(self, contender, why):
        super().__init__(f"{contender}: {why}")
        self.contender, self.why = contender, why


def take_turns(calls, arguments, quick=False):
    """contender -> seconds on the GPU of each round, and contender -> why it does not run."""
    samples, failed, turns = {}, {}, count()
    for name, call in list(calls.items()):
        try:
            for _ in range(1 if quick else WARM_UP):
                call(*arguments[next(turns) % len(arguments)])
            torch.cuda.synchronize()
            samples[name] = []
        except Exception as error:
            failed[name] = _sentence(error)
            _check(name, failed[name])
    least, most = (1, 1) if quick else ROUNDS
    started = perf_counter()
    for round_ in range(most):
        if round_ >= least and perf_counter() - started > SECONDS * max(1, len(samples)):
            break
        for name in list(samples):
            try:
                samples[name].append(_seconds(calls[name], arguments[next(turns) % len(arguments)]))
            except Exception as error:
                failed[name] = _sentence(error)
                _check(name, failed[name])
                del samples[name]
    return samples, failed


def _check(name, why):
    """Raise LostGPU where the GPU is of no more use to this process."""
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError:
        raise LostGPU(name, why) from None


def _sentence(error):
    first = str(error).splitlines()[0] if str(error) else ""
    return f"{type(error).__name__}: {first}"[:200]


def _seconds(call, arguments):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda._sleep(AHEAD)  # so that no gap between launches counts
    start.record()
    result = call(*arguments)
    end.record()
    end.synchronize()
    del result
    return start.elapsed_time(end) / 1e3


def copy_of(size):
    """A call that copies within the GPU's memory, and how many of it move `size` bytes, read and written."""
    copied = min(size, LARGEST_COPY)
    source = torch.empty(max(1, copied // 8), dtype=torch.float32, device="cuda").normal_()
    target = torch.empty_like(source)
    return lambda *_: target.copy_(source), size / copied
