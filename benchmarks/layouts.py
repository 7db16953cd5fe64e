"""Claim: the scan reads any layout where it lies; channel first takes about half of copying it, or less.

Beside each layout: the same layout copied to channel last, scanned, and copied back; and torch.add over the
same bytes, channel last, which is what memory allows.  Run: python benchmarks/layouts.py [OUT.json]
"""

import json
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table

import recblr
from recblr.evaluation.machine import describe_machine

SHAPES = ((64, 1000, 128), (8, 4096, 256))  # batch, time, channels: beyond a core's caches
DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.complex64)
ROUNDS = 11


def layouts(a, b):
    """name -> (a, b) with the same values in another layout."""
    first = [x.mT.contiguous().mT for x in (a, b)]
    stepped = [torch.zeros(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)[..., ::2].copy_(x) for x in (a, b)]
    return {"channel last": (a, b), "channel first": first, "mixed": (first[0], b), "every other": stepped}


def contenders(a, b):
    """name -> a call to time."""
    result = {"torch.add": lambda: torch.add(a, b)}
    for name, (x, y) in layouts(a, b).items():
        result[name] = lambda x=x, y=y: recblr.scan(x, y)
        if name != "channel last":
            result[f"{name}, copied"] = lambda x=x, y=y: torch.empty_like(y).copy_(
                recblr.scan(x.contiguous(), y.contiguous())
            )
    return result


def measure(shape, dtype):
    """Seconds of each contender's rounds, interleaved so that a busy machine slows all alike."""
    calls = contenders(torch.rand(shape).to(dtype), torch.rand(shape).to(dtype))
    seconds = {name: [] for name in calls}
    for _ in range(ROUNDS + 2):
        for name, call in calls.items():
            start = perf_counter()
            call()
            seconds[name].append(perf_counter() - start)
    return {name: values[2:] for name, values in seconds.items()}


def main():
    torch.set_num_threads(1)
    table = Table("batch x time x channels", "dtype", "layout", "ms", "times channel last's")
    results = []
    for shape in SHAPES:
        for dtype in DTYPES:
            seconds = measure(shape, dtype)
            for name, values in seconds.items():
                ratio = median(v / u for v, u in zip(values, seconds["channel last"], strict=True))
                words = " x ".join(map(str, shape)), str(dtype).removeprefix("torch."), name
                table.add_row(*words, f"{1e3 * median(values):.2f}", f"{ratio:.2f}")
                results.append(
                    {
                        "shape": shape,
                        "dtype": words[1],
                        "layout": name,
                        "seconds": median(values),
                        "ratio": ratio,
                    }
                )
    Console().print(table)
    if len(sys.argv) > 1:
        document = {
            "command": "python benchmarks/layouts.py",
            "machine": describe_machine(),
            "results": results,
        }
        Path(sys.argv[1]).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
