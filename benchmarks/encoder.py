"""Claim: RecBLR's encoder, forward and backward, is 1.5 times as fast as SASRec's at T = 1000, 5 times at 8192.

And at least 0.9 times at T = 200, with less memory from 1000 on.  Both encoders have the same width and depth;
embedding and head, which they share, are left out.  SASRec's blocks are two-headed causal attention by torch's
scaled_dot_product_attention and a feed-forward network of the model's width, as in the original; "SASRec, 4d" has
one four times as wide, as RecBLR's is.  There is no dropout, with which torch's fast attention does not run on a
CPU.  A batch has about as many events at every T.  The physical limit is arithmetic: FLOPs stand beside times.
Run: python benchmarks/encoder.py [--out DIR]
"""

import torch
import torch.nn.functional as F
from measuring import Result, added_memory, take_turns
from reporting import COLOURS, Figure, main
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from recblr.evaluation.machine import usable_cores
from recblr.nn import RecBLRLayer

WIDTH, DEPTH, HEADS, TAPS, EXPAND = 64, 2, 2, 4, 2
EVENTS = 8192  # a batch
BARS = {200: 0.9, 1000: 1.5, 8192: 5.0}  # the claim
LESS_MEMORY_FROM = 1000
OURS, PEERS = "RecBLR", ("SASRec", "SASRec, 4d")
MEGABYTES, MEGAFLOPS, KILOEVENTS = (1, "MB"), (1e-6, "MFLOP/event"), (1e-3, "k events/s")
# Operations an element and pass, a transcendental function counted as one: bdlru with its gate, and the convolution
# with bias and SiLU; a backward pass computes each again, and its derivative.
ELEMENTWISE = 16 + 2 * TAPS + 4
FORWARD_AND_BACKWARD = 1 + 2


class Attention(nn.Module):
    """SASRec's block: attention and feed-forward network, each with residual and normalisation."""

    def __init__(self, inner):
        super().__init__()
        self.qkv, self.output = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.w_1, self.w_2 = nn.Linear(WIDTH, inner), nn.Linear(inner, WIDTH)
        self.norm, self.ffn_norm = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x):
        q, k, v = self.qkv(x).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2)
        x = self.norm(x + self.output(attended))
        return self.ffn_norm(x + self.w_2(F.relu(self.w_1(x))))


class SASRec(nn.Module):
    """Learned positions and blocks of attention."""

    def __init__(self, steps, inner):
        super().__init__()
        self.positions = nn.Parameter(0.02 * torch.randn(steps, WIDTH))
        self.blocks = nn.Sequential(*(Attention(inner) for _ in range(DEPTH)))

    def forward(self, x):
        return self.blocks(x + self.positions)


def encoder(name, steps):
    if name == OURS:
        return nn.Sequential(*(RecBLRLayer(WIDTH, EXPAND, TAPS) for _ in range(DEPTH)))
    return SASRec(steps, 4 * WIDTH if name == "SASRec, 4d" else WIDTH)


def batch(steps):
    return max(1, EVENTS // steps), steps, WIDTH


def cases(quick):
    lengths = (16, 32) if quick else (50, 200, 500, 1000, 2000, 4096, 8192)
    return [{"T": steps, "threads": usable_cores()} for steps in lengths]


def step(model, x):
    """Forward and backward, to the parameters and to the input, as below an embedding."""
    model(x).sum().backward()


def measure(case, quick):
    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    steps = case["T"]
    x = torch.randn(batch(steps), requires_grad=True)
    models = {name: encoder(name, steps) for name in (OURS, *PEERS)}
    samples = take_turns({name: lambda m=m: step(m, x) for name, m in models.items()}, quick=quick)
    events = batch(steps)[0] * steps
    for name, model in models.items():
        samples[f"{name}: events"] = [events / value for value in samples[name]]
        samples[f"{name}: FLOPs"] = [operations(model, x) / events]
        samples[f"{name}: memory"] = [added_memory(one_step, name, steps, case["threads"])]
    return samples


def one_step(name, steps, threads):
    torch.set_num_threads(threads)
    step(encoder(name, steps), torch.randn(batch(steps), requires_grad=True))


def operations(model, x):
    """FLOPs of a step: torch counts products of matrices; attention and our operators are counted here.

    Attention multiplies the pairs of positions that causality leaves, twice forward (scores, values), and five
    times backward, where the scores are computed anew.
    """
    rows, steps, _ = x.shape
    with FlopCounterMode(display=False) as counter:
        step(model, x)
    counts = counter.get_flop_counts()["Global"]
    products = sum(n for op, n in counts.items() if "attention" not in str(op))
    if isinstance(model, SASRec):
        pairs = rows * steps * (steps + 1) / 2
        return products + DEPTH * 2 * WIDTH * pairs * (2 + 5)
    return products + DEPTH * rows * steps * EXPAND * WIDTH * ELEMENTWISE * FORWARD_AND_BACKWARD
