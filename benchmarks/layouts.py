"""Claim: the scan reads any layout without a copy; channel first takes at most about half as long as copying.

Each layout is compared with its copying variant: copy to channel last, scan, and copy back.  No layout may be
slower than that.  Channel last is compared with torch.add on the same bytes, which is the limit of memory.
Run: python benchmarks/layouts.py [--out DIR]
"""

import torch
from figure import Figure
from measuring import take_turns
from reporting import main

SHAPES = (64, 1000, 128), (8, 4096, 256)  # batch × time × channels, beyond a core's caches
QUICK = ((2, 20, 16),)
DTYPES = "float32", "bfloat16", "float16", "complex64"
LAST, FIRST = "channel last", "channel first"
BARS = {FIRST: 1.8, "mixed": 1, "every other": 1}  # the claim, against copying
COPIED, ADD = ", copied", "torch.add"


def cases(quick):
    return [
        {"shape": "×".join(map(str, shape)), "direction": "forward", "dtype": dtype, "threads": 1}
        for dtype in DTYPES
        for shape in (QUICK if quick else SHAPES)
    ]


def layouts(a, b):
    """name -> (a, b) with the same values in another layout."""
    first = [x.mT.contiguous().mT for x in (a, b)]
    stepped = [torch.zeros(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)[..., ::2].copy_(x) for x in (a, b)]
    return {LAST: (a, b), FIRST: first, "mixed": (first[0], b), "every other": stepped}


def measure(case, quick):
    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    shape = tuple(map(int, case["shape"].split("×")))
    a, b = (torch.rand(shape).to(getattr(torch, case["dtype"])) for _ in range(2))
    scan = torch.ops.recblr.scan
    calls = {ADD: lambda: torch.add(a, b)}
    for name, (x, y) in layouts(a, b).items():
        calls[name] = lambda x=x, y=y: scan(x, y)
        if name != LAST:
            calls[name + COPIED] = lambda x=x, y=y: torch.empty_like(y).copy_(
                scan(x.contiguous(), y.contiguous())
            )
    with torch.inference_mode():
        return take_turns(calls, quick=quick)


def figures(result):
    return [
        Figure(LAST, ADD, result.times_faster(LAST, ADD)),
        *(
            Figure(name, name + COPIED, result.times_faster(name, name + COPIED), bar)
            for name, bar in BARS.items()
        ),
    ]


if __name__ == "__main__":
    main(__doc__, cases, measure, figures)
