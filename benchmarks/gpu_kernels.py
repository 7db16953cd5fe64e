"""Claim: on an H200 the scan reaches 0.9 of a copy's speed, bdlru 0.8, and both 1.2 times their peers'.

In 16 bits the scan's is 0.85; forward and backward bdlru's is 0.75, and beside peers 1.5 times.  Times are
those of the GPU alone (benchmarks/gpu_timing.py); the floor is the time in which a copy moves the bytes that
must be moved at the least.  Peers that are not installed, or do not take a shape, say so.
Run by benchmarks/gpu.py.
"""

import json
from importlib import import_module

import gpu_timing
import torch
from measuring import Result
from peers import combine
from reporting import Figure
from shapes import dimensions, is_packed, offsets_of
from torch._higher_order_ops.associative_scan import associative_scan

from recblr.ops import composed

# Batch × time × channels, or packed rows × channels; what takes longest last, where the budget may end it.
SHAPES = (
    "2048×50×128",
    "2048×200×128",
    "512×1000×128",
    "packed 400000×128",
    "8×2048×1536",
    "8×16384×1536",
    "1×262144×512",
    "8×65536×1536",
)
QUICK = "4×64×16", "packed 300×16"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SCAN, BDLRU, GATED, CONV = "scan", "bdlru", "bdlru with z", "causal_conv1d"
FORWARD, BACKWARD, BOTH = "forward", "backward", "forward and backward"
# Least words an element that a pass moves, in the data's own type.
WORDS = {
    (SCAN, FORWARD): 3, (SCAN, BACKWARD): 5, (SCAN, BOTH): 8, (BDLRU, FORWARD): 4, (BDLRU, BOTH): 11,
    (GATED, FORWARD): 5, (GATED, BOTH): 14, (CONV, FORWARD): 2, (CONV, BOTH): 5,
}  # fmt: skip
# The claim: shares of a copy's speed, and how many times as fast as peers.
OF_COPY = {
    (SCAN, FORWARD): {"float32": 0.9, "bfloat16": 0.85},
    (SCAN, BACKWARD): {"float32": 0.9, "bfloat16": 0.85},
    **{(operator, FORWARD): dict.fromkeys(DTYPES, 0.8) for operator in (BDLRU, GATED)},
    **{(operator, BOTH): dict.fromkeys(DTYPES, 0.75) for operator in (BDLRU, GATED)},
}
FASTER = {FORWARD: 1.2, BOTH: 1.5}
OF_FLOOR = 0.95  # near enough to the floor that a peer may be as fast
DEVICE = "cuda"
OURS, FLOOR, COMPOSED = "recblr", "copy's time", "composed"
WARP, SCALAR, RECURRENT, CHUNKED = (
    "accelerated-scan, warp",
    "accelerated-scan, scalar",
    "fla, recurrent",
    "fla, chunked",
)
ASSOCIATIVE = "torch associative_scan"
PEERS = WARP, SCALAR, RECURRENT, CHUNKED, ASSOCIATIVE, COMPOSED


def cases(quick):
    return [
        {"operator": operator, "direction": direction, "shape": shape, "dtype": dtype}
        for shape in (QUICK if quick else SHAPES)
        for dtype in DTYPES
        for operator, direction in WORDS
    ]


def elements(shape):
    size = 1
    for n in dimensions(shape):
        size *= n
    return size


def arguments(case):
    """How to make a set of a case's tensors, the cotangent last."""
    size, dtype = dimensions(case["shape"]), DTYPES[case["dtype"]]
    *outer, channels = size
    wants = case["direction"] != FORWARD

    def normal(*shape, of=dtype):
        return torch.randn(shape, device=DEVICE, dtype=of)

    def make():
        if case["operator"] == SCAN:
            given = normal(*size).sigmoid(), normal(*size)
        elif case["operator"] == CONV:
            given = normal(*size), normal(channels, 4, of=torch.float32), normal(channels, of=torch.float32)
        else:
            given = normal(*size), normal(*outer, 2 * channels), normal(channels, of=torch.float32).abs()
            given += (normal(*size),) * (case["operator"] == GATED)
        return (*(x.requires_grad_(wants) for x in given), normal(*size))

    return make


def contenders(case, offsets):
    """name -> a call of a set's arguments; raises only when it is called."""
    operator, direction = case["operator"], case["direction"]
    ops = torch.ops.recblr
    if operator == SCAN and direction == BACKWARD:
        # h's place is taken by b, whose values do not matter to the time.
        return {
            OURS: lambda a, b, grad: ops._scan_backward(
                grad, None, a.detach(), b.detach(), None, offsets, False
            )
        }
    calls = {
        SCAN: {OURS: lambda a, b: ops.scan(a, b, None, offsets, False)},
        CONV: {
            OURS: lambda x, w, bias: ops.causal_conv1d(x, w, bias, None, offsets, True)[0],
            COMPOSED: lambda x, w, bias: composed.causal_conv1d(x, w, bias, None, offsets, True)[0],
        },
    }.get(operator) or {
        OURS: lambda x, gates, decay, z=None: ops.bdlru(x, gates, decay, z, None, offsets, None)[0],
        COMPOSED: lambda x, gates, decay, z=None: composed.bdlru(x, gates, decay, z, None, offsets, None)[0],
    }
    if operator == SCAN and not is_packed(case["shape"]):
        calls |= {WARP: _accelerated("warp"), SCALAR: _accelerated("scalar")}
        calls |= {RECURRENT: _fla("fused_recurrent_hgrn"), CHUNKED: _fla("chunk_hgrn")}
        calls |= {ASSOCIATIVE: _associative}
    return {name: _timed(call, direction == BOTH) for name, call in calls.items()}


def _timed(call, both):
    def forward(*given):
        with torch.no_grad():
            return call(*given[:-1])

    def both_ways(*given):
        y = call(*given[:-1])
        return torch.autograd.grad(y, given[:-1], given[-1].reshape(y.shape))

    return both_ways if both else forward


def _accelerated(kind):
    """It wants channels first: data of the same size is taken as that, and nothing copied."""

    def scan(a, b):
        batch, steps, channels = a.shape
        return import_module(f"accelerated_scan.{kind}").scan(
            *(x.view(batch, channels, steps) for x in (a, b))
        )

    return scan


def _fla(name):
    """h = exp(g) h + x: a is taken as g."""

    def scan(a, b):
        return getattr(import_module("fla.ops.hgrn"), name)(b, -a)[0]

    return scan


def _associative(a, b):
    return associative_scan(combine, (a, b), dim=1, combine_mode="generic")[1]


def measure(case, bandwidth, quick):
    """The case's result, and contender -> why it did not run."""
    torch.manual_seed(0)
    torch.cuda.empty_cache()
    offsets = offsets_of(case["shape"])
    offsets = None if offsets is None else offsets.cuda()
    sets = gpu_timing.sets(arguments(case), quick)
    samples, failed = gpu_timing.take_turns(contenders(case, offsets), sets, quick)
    if OURS in samples:
        words = WORDS[case["operator"], case["direction"]]
        size = words * elements(case["shape"]) * DTYPES[case["dtype"]].itemsize
        samples[FLOOR] = [size / bandwidth] * len(samples[OURS])
    return Result(case, [samples]), failed


def figures(result, failed):
    """Ours beside the floor and every peer."""
    if not result.has(OURS):
        return [Figure(OURS, FLOOR, None, note=failed.get(OURS, "did not run"))]
    case = result.case
    bars = OF_COPY.get((case["operator"], case["direction"]), {})
    floor = result.times_faster(OURS, FLOOR)
    shown = [Figure(OURS, FLOOR, floor, bars.get(case["dtype"]))]
    for peer in PEERS:
        if result.has(peer):
            value = result.times_faster(OURS, peer)
            bar = None if peer == COMPOSED else FASTER.get(case["direction"])
            reached = None if bar is None else value.median >= bar or floor.median >= OF_FLOOR
            shown.append(Figure(OURS, peer, value, bar, reached=reached))
        elif peer in failed:
            shown.append(Figure(OURS, peer, None, note=failed[peer]))
    return shown


def main(out, quick):
    """Measure every case, a line of JSON each as soon as it is done: what ends this early keeps those."""
    with out.open("w", encoding="utf-8") as lines:

        def write(record):
            print(json.dumps(record, ensure_ascii=False), file=lines, flush=True)

        bandwidth = gpu_timing.copy_bandwidth()
        write({"copy": bandwidth})
        for case in cases(quick):
            try:
                result, failed = measure(case, bandwidth, quick)
                write({"case": case, "samples": result.processes[0], "failed": failed})
            except torch.OutOfMemoryError as error:
                write({"case": case, "samples": {}, "failed": {OURS: str(error).splitlines()[0]}})
