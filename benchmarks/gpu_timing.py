"""Timing on the GPU: by CUDA events, after a warm-up, on arguments that are no longer in a cache."""

from itertools import count
from time import perf_counter

import torch
from measuring import sets_beyond_cache

SECONDS = 0.15  # for the rounds of one contender
ROUNDS = 5, 25  # at least and at most
WARM_UP = 3  # calls
AHEAD = 2_000_000  # cycles (about a millisecond) that the GPU idles while the host enqueues a call
LARGEST_COPY = 4 << 30  # bytes, read and written; the time of a larger copy is computed from this one


def sets(make, quick=False):
    """Sets of arguments, so many that half of them do not fit into the second-level cache."""
    cache = torch.cuda.get_device_properties(0).L2_cache_size
    return sets_beyond_cache(make, quick, cache)


class LostGPU(Exception):
    """A contender caused an error after which this process can no longer use the GPU."""

    def __init__(self, contender, why):
        super().__init__(f"{contender}: {why}")
        self.contender, self.why = contender, why


def take_turns(calls, arguments, quick=False):
    """contender -> seconds on the GPU in each round; and contender -> the reason why it did not run."""
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
    """Raise LostGPU if this process can no longer use the GPU."""
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
    torch.cuda._sleep(AHEAD)  # so that gaps between launches do not count
    start.record()
    result = call(*arguments)
    end.record()
    end.synchronize()
    del result
    return start.elapsed_time(end) / 1e3


def copy_of(size):
    """A call that copies in the GPU's memory, and how many such calls read and write `size` bytes."""
    copied = min(size, LARGEST_COPY)
    source = torch.empty(max(1, copied // 8), dtype=torch.float32, device="cuda").normal_()
    target = torch.empty_like(source)
    return lambda *_: target.copy_(source), size / copied
