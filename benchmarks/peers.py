"""Claim: the scan is 4 times as fast as the best of its peers, or within 5 % of the memory floor.

The peers are torch's associative_scan, eager and compiled; a compiled Python loop over time; the torch
reference of accelerated-scan; and JAX's associative_scan, jitted.  Each peer gets its preferred layout and
all threads of the machine.  Compilation is not timed.  The memory floor is the time in which torch.add moves
the minimum number of bytes.  The table says which peers are not installed; to install them, run
`pip install accelerated-scan jax`.
Run: python benchmarks/peers.py [--out DIR]
"""

from importlib.util import find_spec
from statistics import median

import numpy as np
import torch
from figure import Figure
from measuring import sets_beyond_cache, take_turns
from recurrence import associative, combine
from reporting import main
from shapes import dimensions, is_packed, shapes

from recblr.system.machine import usable_cores

TIMES, OF_FLOOR = 4, 0.95  # the claim
# Values moved for each element: forward reads a, b and writes h; backward reads a, h, dh and writes da, db.
WORDS = {"forward": 3, "both ways": 3 + 5}
# torch.compile traces every step of the loop, or every level of the tree, and does so in every process.  This
# takes 5 to 12 seconds a case up to these lengths, and up to minutes beyond them.
LONGEST_COMPILED = {"forward": 200, "both ways": 50}
LONGEST_LOOP = 50
ASSOCIATIVE, COMPILED, LOOP = "torch associative_scan", "torch associative_scan, compiled", "loop, compiled"
ACCELERATED, JAX = "accelerated-scan's reference", "JAX associative_scan, jitted"
PEERS = ASSOCIATIVE, COMPILED, LOOP, ACCELERATED, JAX


def cases(quick):
    return [
        {"shape": shape, "direction": direction, "threads": usable_cores()}
        for direction in WORDS
        for shape in shapes(quick)
        if not is_packed(shape)  # no peer takes packed rows
    ]


def why_not(peer, case):
    """The reason why a peer does not run; empty if it runs."""
    steps = dimensions(case["shape"])[1]
    longest = {COMPILED: LONGEST_COMPILED[case["direction"]], LOOP: LONGEST_LOOP}.get(peer, steps)
    if steps > longest:
        return f"left out: compiling takes too long beyond T = {longest}"
    package = {ACCELERATED: "accelerated_scan", JAX: "jax"}.get(peer)
    if package and not find_spec(package):
        return "not installed"
    return ""


def measure(case, quick):
    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    torch._dynamo.reset()  # otherwise torch would compile one graph for several shapes
    size = dimensions(case["shape"])
    both = case["direction"] == "both ways"
    peers = [peer for peer in PEERS if not why_not(peer, case) and not (quick and peer in (COMPILED, LOOP))]

    def arguments():
        return (*tuple(torch.rand(size).requires_grad_(both) for _ in range(2)), torch.rand(size))

    sets = sets_beyond_cache(arguments, quick)
    calls = {"torch.add": add, "recblr": in_torch(torch.ops.recblr.scan, both)}
    for peer in peers:
        if peer == JAX:
            calls[peer] = in_jax(sets, both)
        elif peer == ACCELERATED:
            calls[peer] = accelerated(sets, both)
        else:
            calls[peer] = in_torch(TORCH_PEERS[peer](), both)
    check_results(calls, sets[0], both)
    seconds = take_turns(calls, sets, quick)
    share = WORDS[case["direction"]] / WORDS["forward"]
    seconds["memory floor"] = [share * value for value in seconds["torch.add"]]
    if peers:
        # One peer is the best for the whole case; it is not chosen again in each round.
        seconds["best peer"] = min((seconds[peer] for peer in peers), key=median)
    return seconds


def add(a, b, _):
    with torch.inference_mode():
        return torch.add(a, b)


def in_torch(scan, both):
    """A function that calls scan(a, b), and computes its gradients if `both`."""

    def forward(a, b, _):
        with torch.no_grad():
            return scan(a, b)

    def both_ways(a, b, grad):
        return torch.autograd.grad(scan(a, b), (a, b), grad)

    return both_ways if both else forward


def loop(a, b):
    h, states = torch.zeros_like(b[:, 0]), []
    for t in range(b.shape[1]):
        h = a[:, t] * h + b[:, t]
        states.append(h)
    return torch.stack(states, 1)


TORCH_PEERS = {
    ASSOCIATIVE: lambda: associative,
    COMPILED: lambda: torch.compile(associative, dynamic=False),
    LOOP: lambda: torch.compile(loop, dynamic=False),
}


def accelerated(sets, both):
    """accelerated-scan's reference; the copies into its layout, channels first, are not timed."""
    from accelerated_scan.ref import scan

    firsts = {
        id(a): [x.detach().mT.contiguous().requires_grad_(x.requires_grad) for x in (a, b, grad)]
        for a, b, grad in sets
    }
    call = in_torch(scan, both)
    return lambda a, b, grad: call(*firsts[id(a)])


def in_jax(sets, both):
    """JAX's associative_scan; the copies into JAX's arrays are not timed."""
    import jax

    jax.config.update("jax_platforms", "cpu")

    def scan(a, b):
        return jax.lax.associative_scan(combine, (a, b), axis=1)[1]

    def gradients(a, b, grad):
        return jax.vjp(scan, a, b)[1](grad)

    call = jax.jit(gradients if both else lambda a, b, _: scan(a, b))
    arrays = {id(s[0]): [jax.numpy.array(x.detach().numpy()) for x in s] for s in sets}
    return lambda a, b, grad: jax.block_until_ready(call(*arrays[id(a)]))


def check_results(calls, arguments, both):
    """Raise an error if a peer computes another result than ours."""
    expected = calls["recblr"](*arguments)
    for name, call in calls.items():
        if name == "torch.add":
            continue
        for ours, theirs in zip(*((x if both else (x,)) for x in (expected, call(*arguments))), strict=True):
            theirs = theirs if isinstance(theirs, torch.Tensor) else torch.from_numpy(np.array(theirs))
            torch.testing.assert_close(
                theirs.mT if name == ACCELERATED else theirs, ours, rtol=1e-3, atol=1e-3
            )


def figures(result):
    floor = result.times_faster("recblr", "memory floor")
    best = result.times_faster("recblr", "best peer") if result.has("best peer") else None
    reached = floor.median >= OF_FLOOR or (best is not None and best.median >= TIMES)
    return [
        Figure("recblr", "best peer", best, TIMES, reached=reached),
        Figure("recblr", "memory floor", floor),
        *(
            Figure("recblr", peer, result.times_faster("recblr", peer))
            if result.has(peer)
            else Figure("recblr", peer, None, note=why_not(peer, result.case) or "left out of a quick run")
            for peer in PEERS
        ),
    ]


if __name__ == "__main__":
    main(__doc__, cases, measure, figures)
