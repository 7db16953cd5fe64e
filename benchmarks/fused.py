"""Claim: fused bdlru is 12 times as fast forward as its composition around our scan, 8 times both ways.

The composition uses the same scan and one PyTorch operation for each step of the gates.  "Both ways" means
forward and backward.  causal_conv1d is compared with its composition and with torch's grouped convolution,
which takes channels first.  All are compared with the memory floor: the time in which torch.add moves the
minimum number of bytes.
Run: python benchmarks/fused.py [--out DIR]
"""

import torch
import torch.nn.functional as F
from figure import Figure
from measuring import sets_beyond_cache, take_turns
from reporting import main
from shapes import dimensions, is_packed, offsets_of, shapes

from recblr.ops.bdlru import composed_bdlru
from recblr.ops.causal_conv1d import composed_causal_conv1d
from recblr.system.machine import usable_cores

FORWARD, BOTH = 12, 8  # the claim, for bdlru
TAPS = 4
BDLRU, GATED, CONV = "bdlru", "bdlru with z", "causal_conv1d"
# The minimum number of values moved for each element, in the forward pass and in the backward pass:
# bdlru reads x, r, i, (z) and writes y; then it also reads dy and writes dx, dr, di, (dz).  The convolution
# reads x and writes y; then it reads x and dy and writes dx.
WORDS = {BDLRU: (4, 7), GATED: (5, 9), CONV: (2, 3)}
ADD_WORDS = 3


def cases(quick):
    return [
        {"shape": shape, "operator": operator, "direction": direction, "threads": threads}
        for threads in (1, 2)
        if threads <= usable_cores()
        for operator in (WORDS if threads == 1 else (GATED,))
        for direction in ("forward", "both ways")
        for shape in shapes(quick)
    ]


def measure(case, quick):
    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    size, offsets = dimensions(case["shape"]), offsets_of(case["shape"])
    both = case["direction"] == "both ways"
    make, calls = (conv if case["operator"] == CONV else unit)(case["operator"], size, offsets)

    def arguments():
        return (*(x.requires_grad_(both) for x in make()), torch.randn(size))

    def timed(call):
        def forward(*x):
            with torch.inference_mode():
                return call(*x[:-1])

        def both_ways(*x):
            return torch.autograd.grad(call(*x[:-1]), x[:-1], x[-1])

        return both_ways if both else forward

    def add(x, *_):
        with torch.inference_mode():
            return torch.add(x, x2)

    x2 = torch.rand(size)
    calls = {"torch.add": add, **{name: timed(call) for name, call in calls.items()}}
    seconds = take_turns(calls, sets_beyond_cache(arguments, quick), quick)
    forward, backward = WORDS[case["operator"]]
    words = forward + both * backward
    return {**seconds, "memory floor": [words / ADD_WORDS * add for add in seconds["torch.add"]]}


def unit(operator, size, offsets):
    """A function that makes arguments of bdlru, and the contenders."""

    def make():
        *outer, channels = size
        x, z = torch.randn(size), torch.randn(size)
        gates, decay = torch.randn(*outer, 2 * channels), torch.rand(channels)
        return (x, gates, decay, z) if operator == GATED else (x, gates, decay)

    def contender(function):
        return lambda x, gates, decay, z=None: function(x, gates, decay, z, None, offsets, None)[0]

    return make, {"fused": contender(torch.ops.recblr.bdlru), "composed": contender(composed_bdlru)}


def conv(_, size, offsets):
    """A function that makes arguments of causal_conv1d, and the contenders."""
    channels = size[-1]

    def make():
        return torch.randn(size), torch.randn(channels, TAPS), torch.randn(channels)

    def contender(function):
        return lambda x, weight, bias: function(x, weight, bias, None, offsets, True)[0]

    calls = {
        "fused": contender(torch.ops.recblr.causal_conv1d),
        "composed": contender(composed_causal_conv1d),
    }
    if offsets is None:
        calls["torch's conv1d"] = lambda x, weight, bias: F.silu(
            F.conv1d(x.mT, weight.unsqueeze(1), bias, padding=TAPS - 1, groups=channels)[..., : size[1]].mT
        )
    return make, calls


def figures(result):
    case = result.case
    bar = None if case["operator"] == CONV else FORWARD if case["direction"] == "forward" else BOTH
    return [
        Figure("fused", "composed", result.times_faster("fused", "composed"), bar),
        *(
            [Figure("fused", "torch's conv1d", result.times_faster("fused", "torch's conv1d"))]
            if case["operator"] == CONV and not is_packed(case["shape"])
            else []
        ),
        Figure("fused", "memory floor", result.times_faster("fused", "memory floor")),
    ]


if __name__ == "__main__":
    main(__doc__, cases, measure, figures)
