"""Claim: the chunked cross entropy is at least as fast on a CPU as torch's own, forward and backward.

It is compared with the plain loss, which stores all logits, and with torch's chunked
torch.nn.functional.linear_cross_entropy (torch 2.13 and later).  A shape is rows × catalogue × width.
Run: python benchmarks/loss.py [--out DIR]
"""

import torch
import torch.nn.functional as F
from figure import Figure
from measuring import take_turns
from reporting import main

from recblr.nn.losses import linear_cross_entropy
from recblr.system.machine import usable_cores

SHAPES = (1024, 3416, 64), (1024, 12101, 64), (1024, 100_000, 64)
QUICK = ((8, 100, 16),)
OURS, PLAIN, CHUNKED = "recblr", "plain", "torch, chunked"


def cases(quick):
    return [
        {"shape": "×".join(map(str, shape)), "direction": "forward and backward", "threads": threads}
        for threads in (1, 2)
        if threads <= usable_cores()
        for shape in (QUICK if quick else SHAPES)
    ]


def losses():
    """name -> loss of (hidden, weight, targets)."""
    result = {OURS: linear_cross_entropy, PLAIN: lambda h, w, t: F.cross_entropy(h @ w.mT, t)}
    if hasattr(F, "linear_cross_entropy"):
        options = torch.nn.LinearCrossEntropyOptions()
        result[CHUNKED] = lambda h, w, t: F.linear_cross_entropy(h, w, t, options=options)
    return result


def measure(case, quick):
    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    rows, catalogue, width = map(int, case["shape"].split("×"))
    hidden = torch.randn(rows, width, requires_grad=True)
    weight = (0.02 * torch.randn(catalogue, width)).requires_grad_()
    targets = torch.randint(catalogue, (rows,))

    def timed(loss):
        return lambda: torch.autograd.grad(loss(hidden, weight, targets), (hidden, weight))

    return take_turns({name: timed(loss) for name, loss in losses().items()}, quick=quick)


def figures(result):
    return [
        Figure(OURS, peer, result.times_faster(OURS, peer), 1)
        if result.has(peer)
        else Figure(OURS, peer, None, 1, note="not in this version of torch")
        for peer in (PLAIN, CHUNKED)
    ]


if __name__ == "__main__":
    main(__doc__, cases, measure, figures)
