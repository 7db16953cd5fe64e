"""Claim: RecBLR's encoder is 0.9 times as fast as SASRec's at T = 200, 1.5 times at 1000, 5 times at 8192.

From T = 1000 on, RecBLR's encoder also takes less memory.  The benchmark measures the forward and backward
passes of the layers between embedding and head; both models share the other layers.  Both have the same width
(64) and depth (2 blocks).  RecBLR's layers are the paper's, without the average of the history.  The claim is
about "SASRec, FFN 4d".  Its feed-forward networks are four times as wide as the model, like RecBLR's.
"SASRec, FFN d" is the original SASRec: its feed-forward networks are as wide as the model, so it computes
less.  SASRec's attention is torch's scaled_dot_product_attention, in float32, without dropout.  The process
keeps freed memory, as `recblr train` does; otherwise page faults would take a tenth of the time of both.  A
batch has about the same number of events at every T.  The physical limit is arithmetic, so the ratio of FLOPs
is shown beside the ratio of speeds.
Run: python benchmarks/encoder.py [--out DIR]
"""

from functools import partial

import torch
from figure import Figure
from measuring import added_memory, crossing, take_turns
from reporting import COLOURS, MEGABYTES, main
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from recblr.config import RecBLRConfig, SASRecConfig
from recblr.nn import RecBLRLayer
from recblr.nn.baselines import SASRecEncoder
from recblr.system.machine import keep_freed_memory, usable_cores

CONFIG = RecBLRConfig()
WIDTH, DEPTH = CONFIG.d_model, CONFIG.num_layers
EVENTS = 8192  # a batch
LENGTHS = 50, 200, 500, 1000, 2000, 4096, 8192
FASTER = {200: 0.9, 1000: 1.5, 8192: 5.0}  # the claim
LESS_MEMORY_FROM = 1000
OURS, PEER, NARROW = "RecBLR", "SASRec, FFN 4d", "SASRec, FFN d"
ENCODERS = {
    OURS: lambda steps: nn.Sequential(
        *(RecBLRLayer(WIDTH, CONFIG.expand, CONFIG.d_conv, history_average=False) for _ in range(DEPTH))
    ),
    PEER: lambda steps: sasrec(steps, ffn_expand=4),
    NARROW: lambda steps: sasrec(steps, ffn_expand=1),
}
MEMORY, FLOPS = "'s memory", "'s FLOPs"
GIGAFLOPS = 1e-9, "GFLOP"
# Operations for each element: bdlru with its gate, and the convolution with bias and SiLU.  Functions such as
# exp count as one operation.  The backward pass computes each operation again, and its derivative.
ELEMENTWISE = 16 + 2 * CONFIG.d_conv + 4
FORWARD_AND_BACKWARD = 1 + 2


def sasrec(steps, ffn_expand):
    """SASRec's encoder without dropout: with dropout, torch's attention would store all T×T weights."""
    config = SASRecConfig(d_model=WIDTH, num_layers=DEPTH, max_length=steps, dropout=0.0)
    return SASRecEncoder(config, ffn_expand)


def cases(quick):
    lengths, events = ((16, 32), 64) if quick else (LENGTHS, EVENTS)
    return [{"B": max(1, events // steps), "T": steps, "threads": usable_cores()} for steps in lengths]


def arguments(rows, steps):
    """An encoder's input and its output's gradient."""
    return torch.randn(rows, steps, WIDTH, requires_grad=True), torch.randn(rows, steps, WIDTH)


def step(model, x, grad):
    """Forward and backward; the input gets a gradient too, because an embedding would need it."""
    model(x).backward(grad)
    model.zero_grad()
    x.grad = None


def measure(case, quick):
    rows, steps, threads = case.values()
    keep_freed_memory()
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    x, grad = arguments(rows, steps)
    models = {name: make(steps) for name, make in ENCODERS.items()}
    samples = take_turns({name: partial(step, model, x, grad) for name, model in models.items()}, quick=quick)
    for name, model in models.items():
        samples[name + FLOPS] = [operations(model, x, grad)]
        samples[name + MEMORY] = [added_memory(one_step, (name, rows, steps, threads), (name, 1, 2, threads))]
    return samples


def one_step(name, rows, steps, threads):
    torch.set_num_threads(threads)
    step(ENCODERS[name](steps), *arguments(rows, steps))


def operations(model, x, grad):
    """FLOPs of a step: torch counts the matrix products; attention and our operators are counted here.

    Attention works on the pairs of positions that the causal mask allows.  It multiplies them twice in the
    forward pass (scores, values), and five times in the backward pass, which computes the scores again.
    """
    rows, steps, _ = x.shape
    with FlopCounterMode(display=False) as counter:
        step(model, x, grad)
    counts = counter.get_flop_counts()["Global"]
    products = sum(n for op, n in counts.items() if "attention" not in str(op))
    if isinstance(model, SASRecEncoder):
        pairs = rows * steps * (steps + 1) / 2
        return products + DEPTH * 2 * WIDTH * pairs * (2 + 5)
    inner = round(CONFIG.expand * WIDTH)
    return products + DEPTH * rows * steps * inner * ELEMENTWISE * FORWARD_AND_BACKWARD


def figures(result):
    steps = result.case["T"]

    def beside(peer, what="", **options):
        return Figure(OURS + what, peer + what, result.times_faster(OURS + what, peer + what), **options)

    return [
        beside(PEER, bar=FASTER.get(steps)),
        beside(NARROW),
        beside(PEER, MEMORY, bar=1 if steps >= LESS_MEMORY_FROM else None, unit=MEGABYTES),
        beside(NARROW, MEMORY, unit=MEGABYTES),
        beside(PEER, FLOPS, unit=GIGAFLOPS),
        beside(NARROW, FLOPS, unit=GIGAFLOPS),
    ]


def summary(results):
    """The length from which RecBLR is faster, and the length from which it takes less memory."""
    lengths = [result.case["T"] for result in results]
    for what, ahead in (("", "is faster"), (MEMORY, "takes less memory")):
        for peer in (PEER, NARROW):
            ratios = [result.times_faster(OURS + what, peer + what).median for result in results]
            yield f"beside {peer}, {OURS} {ahead} {crossing(lengths, ratios)}"


def draw(picture, results, shown, value):
    lengths = [result.case["T"] for result in results]
    panels = {"": "times as fast", MEMORY: "times less memory"}
    for axes, (what, title) in zip(picture.subplots(1, 2), panels.items(), strict=True):
        for peer, colour in zip((PEER, NARROW), COLOURS, strict=False):
            ratios = [result.times_faster(OURS + what, peer + what) for result in results]
            low, middle, high = zip(*((v.low, v.median, v.high) for v in ratios), strict=True)
            axes.plot(lengths, middle, "o-", markersize=4, color=colour, label=f"beside {peer}")
            axes.fill_between(lengths, low, high, color=colour, alpha=0.2)
            if not what:
                flops = [result.times_faster(OURS + FLOPS, peer + FLOPS).median for result in results]
                axes.plot(lengths, flops, ":", color=colour, label=f"{peer}: times the FLOPs")
        axes.axhline(1, color="#222222", linewidth=0.8)
        axes.set(title=title, xlabel="T, events of a history", xscale="log", yscale="log")
        axes.set_xticks(lengths, lengths)
        axes.minorticks_off()
        axes.yaxis.set_major_formatter("{x:g}×")
    if claimed := {steps: bar for steps, bar in FASTER.items() if steps in lengths}:
        picture.axes[0].plot(*zip(*claimed.items(), strict=True), "k_", markersize=14, label="claimed")
    picture.axes[0].legend(frameon=False)


if __name__ == "__main__":
    main(__doc__, cases, measure, figures, draw, summary=summary)
