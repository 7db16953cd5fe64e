"""Claim: calling the scan takes at most 1 µs more than torch.add in inference mode, and 5 µs under no_grad.

The input is one event of one history: T = 1, B = 1, 64 channels.  There is almost nothing to compute, as in
serving one user at a time.  torch.ops.recblr.scan is the operator.  recblr.scan is the function around it,
which also explains wrong arguments.
Run: python benchmarks/overhead.py [--out DIR]
"""

import torch
from figure import Figure
from measuring import take_turns
from reporting import COLOURS, MICROSECONDS, main

import recblr

CHANNELS, TAPS = 64, 4
BARS = {"inference_mode": 1.0, "no_grad": 5.0}  # the claim for the scan, in microseconds
CALLS = 1000  # calls in one sample


def cases(quick):
    return [{"under": mode} for mode in BARS]


def measure(case, quick):
    torch.set_num_threads(1)
    contenders = calls()
    number = 10 if quick else CALLS

    def repeated(call):
        def run():
            for _ in range(number):
                call()

        return run

    with getattr(torch, case["under"])():
        seconds = take_turns({name: repeated(call) for name, call in contenders.items()}, quick=quick)
    return {name: [value / number for value in values] for name, values in seconds.items()}


def calls():
    """name -> a function that makes one call."""
    a, b, x, z = (torch.rand(1, 1, CHANNELS) for _ in range(4))
    gates, decay = torch.randn(1, 1, 2 * CHANNELS), torch.rand(CHANNELS)
    weight, bias = torch.randn(CHANNELS, TAPS), torch.randn(CHANNELS)
    state, past = torch.rand(1, CHANNELS), torch.rand(1, TAPS - 1, CHANNELS)
    ops = torch.ops.recblr
    return {
        "torch.add": lambda: torch.add(a, b),
        "torch.ops.recblr.scan": lambda: ops.scan(a, b),
        "recblr.scan": lambda: recblr.scan(a, b),
        "torch.ops.recblr.bdlru": lambda: ops.bdlru(x, gates, decay, z, state),
        "recblr.bdlru": lambda: recblr.bdlru(x, gates, decay, z, state),
        "torch.ops.recblr.causal_conv1d": lambda: ops.causal_conv1d(x, weight, bias, past),
        "recblr.causal_conv1d": lambda: recblr.causal_conv1d(x, weight, bias, past),
    }


def figures(result):
    return [
        Figure(
            name,
            "torch.add",
            result.paired(lambda own, add: 1e6 * (own - add), name, "torch.add"),
            BARS[result.case["under"]] if name.endswith(".scan") else None,
            at_most=True,
            unit=MICROSECONDS,
        )
        for name in result.processes[0]
        if name != "torch.add"
    ]


def draw(picture, results, shown, value):
    for axes, result, figures in zip(
        picture.subplots(1, len(results), sharey=True), results, shown, strict=True
    ):
        names, values = [f.ours for f in figures], [f.value for f in figures]
        spread = [[v.median - v.low for v in values], [v.high - v.median for v in values]]
        axes.barh(names, [v.median for v in values], xerr=spread, color=COLOURS[0])
        axes.axvline(BARS[result.case["under"]], color="#222222", linewidth=0.8, linestyle=":")
        axes.set(title=f"under {result.case['under']}", xlabel=value)
        axes.bar_label(axes.containers[-1], fmt="%.1f", padding=3)
        axes.margins(x=0.15)
    picture.axes[0].invert_yaxis()


if __name__ == "__main__":
    main(__doc__, cases, measure, figures, draw, value="µs more a call")
