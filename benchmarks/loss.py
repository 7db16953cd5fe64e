"""Claim: recblr's chunked cross entropy is at least as fast on a CPU as torch's own, forward and backward.

Peers: the plain loss with its logits in full, and torch.nn.functional.linear_cross_entropy with chunking
(torch 2.13 and later).  Run: python benchmarks/loss.py [OUT.json]
"""

import json
import sys
from statistics import median
from time import perf_counter

import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table

from recblr.evaluation.machine import describe_machine
from recblr.nn.losses import linear_cross_entropy

SHAPES = ((1024, 3416, 64), (1024, 12101, 64), (1024, 100_000, 64))  # rows, catalogue, width
ROUNDS = 15


def contenders():
    """name -> loss of (hidden, weight, targets)."""
    result = {"recblr": linear_cross_entropy, "plain": lambda h, w, t: F.cross_entropy(h @ w.mT, t)}
    if hasattr(F, "linear_cross_entropy"):
        options = torch.nn.LinearCrossEntropyOptions()
        result["torch, chunked"] = lambda h, w, t: F.linear_cross_entropy(h, w, t, options=options)
    return result


def measure(rows, catalogue, width):
    """Seconds of each contender's rounds, interleaved so that a busy machine slows all alike."""
    hidden = torch.randn(rows, width, requires_grad=True)
    weight = (0.02 * torch.randn(catalogue, width)).requires_grad_()
    targets = torch.randint(catalogue, (rows,))
    seconds = {name: [] for name in contenders()}
    for _ in range(ROUNDS + 2):
        for name, loss in contenders().items():
            start = perf_counter()
            loss(hidden, weight, targets).backward()
            seconds[name].append(perf_counter() - start)
            hidden.grad = weight.grad = None
    return {name: values[2:] for name, values in seconds.items()}


def main():
    table = Table("rows x catalogue x width", "loss", "ms", "times recblr's")
    results = []
    for shape in SHAPES:
        seconds = measure(*shape)
        for name, values in seconds.items():
            ratio = median(v / ours for v, ours in zip(values, seconds["recblr"], strict=True))
            table.add_row(
                " x ".join(f"{n:,}" for n in shape), name, f"{1e3 * median(values):.2f}", f"{ratio:.2f}"
            )
            results.append({"shape": shape, "loss": name, "seconds": median(values), "ratio": ratio})
    Console().print(table)
    if len(sys.argv) > 1:
        with open(sys.argv[1], "w", encoding="utf-8") as file:
            json.dump({"machine": describe_machine(), "results": results}, file, indent=2)


if __name__ == "__main__":
    main()
