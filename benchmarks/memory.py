"""Claim: the scan reaches 0.9 of the memory bandwidth of torch.add, and its backward pass reaches 0.8.

Both read a and b and write a result of the same size.  torch.add computes almost nothing, so its speed is the
physical limit of memory.  The forward pass is compared in three pairs: with torch.add(a, b), which allocates
its result as the scan does; with torch.add(out=), which allocates nothing; and once more with torch.add,
where each call is followed by an operation that reads the result.  The third pair is fair to both: a write
that bypasses the caches is cheap itself, but makes the next read slower.  The backward pass moves five
streams: it reads a, h and the gradient of h, and writes two gradients.  torch.add moves three.
Run: python benchmarks/memory.py [--out DIR]
"""

import torch
from figure import Figure
from measuring import sets_beyond_cache, take_turns
from reporting import main
from shapes import dimensions, offsets_of, shapes

from recblr.system.machine import usable_cores

FORWARD, BACKWARD = 0.9, 0.8  # the claim
FORWARD_STREAMS, BACKWARD_STREAMS = 3, 5


def cases(quick):
    return [
        {"shape": shape, "dtype": dtype, "direction": direction, "threads": threads}
        for direction in ("forward", "backward")
        for dtype in ("float32", "bfloat16")
        for threads in (1, 2)
        if threads <= usable_cores()
        for shape in shapes(quick)
    ]


def measure(case, quick):
    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    dtype = getattr(torch, case["dtype"])
    size, offsets = dimensions(case["shape"]), offsets_of(case["shape"])
    tensors = 2 if case["direction"] == "forward" else 3

    def arguments():
        return tuple(torch.rand(size).to(dtype) for _ in range(tensors))

    calls = forward(size, dtype, offsets) if tensors == 2 else backward(offsets)
    with torch.inference_mode():
        return take_turns(calls, sets_beyond_cache(arguments, quick), quick)


def forward(size, dtype, offsets):
    scan = torch.ops.recblr.scan
    out = torch.empty(size, dtype=dtype)
    return {
        "torch.add": torch.add,
        "scan": lambda a, b: scan(a, b, None, offsets),
        "torch.add(out=)": lambda a, b: torch.add(a, b, out=out),
        "torch.add, consumed": lambda a, b: torch.add(a, b).mul_(0.5),
        "scan, consumed": lambda a, b: scan(a, b, None, offsets).mul_(0.5),
    }


def backward(offsets):
    gradients = torch.ops.recblr._scan_backward
    return {
        "torch.add": lambda grad, a, h: torch.add(a, h),
        "scan's backward": lambda grad, a, h: gradients(grad, None, a, h, None, offsets, False),
    }


def figures(result):
    if result.case["direction"] == "backward":
        value = result.times_faster("scan's backward", "torch.add", BACKWARD_STREAMS / FORWARD_STREAMS)
        return [Figure("scan's backward", "torch.add", value, BACKWARD)]
    return [
        Figure("scan", "torch.add", result.times_faster("scan", "torch.add"), FORWARD),
        Figure("scan", "torch.add(out=)", result.times_faster("scan", "torch.add(out=)")),
        Figure(
            "scan, consumed",
            "torch.add, consumed",
            result.times_faster("scan, consumed", "torch.add, consumed"),
        ),
    ]


if __name__ == "__main__":
    main(__doc__, cases, measure, figures, value="share of its bytes/s")
