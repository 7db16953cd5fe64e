"""Measure the kernels on a GPU for one shape: compare ours with a copy of the same size, or with its peers.

Claim: on an H200 the scan reaches 0.9 of the speed of a copy (0.85 in 16 bits).  bdlru reaches 0.8 forward,
and 0.75 forward and backward.  Both are 1.2 times as fast as their peers forward, and 1.5 times forward and
backward.  Only time on the GPU counts (benchmarks/gpu_timing.py).  The copy moves the minimum number of bytes
that the operator must move.  If a peer is not installed, or fails on a shape, the results give the reason.
benchmarks/gpu_shapes.py runs this program, and closes its standard input when its turn comes.
"""

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

import gpu_timing
import torch
from figure import Figure, as_json
from gpu_report import json_lines
from gpu_shapes import COMPILED, LOST, LOST_STATUS, OURS, PEERS
from measuring import Result
from recurrence import associative
from shapes import dimensions, is_packed, offsets_of

from recblr.ops.bdlru import composed_bdlru
from recblr.ops.causal_conv1d import composed_causal_conv1d

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SCAN, BDLRU, GATED, CONV = "scan", "bdlru", "bdlru with z", "causal_conv1d"
FORWARD, BACKWARD, BOTH = "forward", "backward", "forward and backward"
# The minimum number of values that a pass moves for each element.
WORDS = {
    (SCAN, FORWARD): 3, (SCAN, BACKWARD): 5, (SCAN, BOTH): 8, (BDLRU, FORWARD): 4, (BDLRU, BOTH): 11,
    (GATED, FORWARD): 5, (GATED, BOTH): 14, (CONV, FORWARD): 2, (CONV, BOTH): 5,
}  # fmt: skip
# The claim: shares of the speed of a copy, and how many times as fast as the peers.
OF_COPY = {
    (SCAN, FORWARD): {"float32": 0.9, "bfloat16": 0.85},
    (SCAN, BACKWARD): {"float32": 0.9, "bfloat16": 0.85},
    **{(operator, FORWARD): dict.fromkeys(DTYPES, 0.8) for operator in (BDLRU, GATED)},
    **{(operator, BOTH): dict.fromkeys(DTYPES, 0.75) for operator in (BDLRU, GATED)},
}
FASTER = {FORWARD: 1.2, BOTH: 1.5}
OF_FLOOR = 0.95  # from this share of a copy's speed on, ours need not be faster than its peers
DEVICE = "cuda"
RECBLR, COPY, COMPOSED = "recblr", "copy", "composed"
WARP, SCALAR = "accelerated-scan, warp", "accelerated-scan, scalar"
RECURRENT, CHUNKED = "fla, recurrent", "fla, chunked"
ASSOCIATIVE = "torch associative_scan"
BESIDE = WARP, SCALAR, RECURRENT, CHUNKED, ASSOCIATIVE, COMPOSED


def cases(shape):
    """The cases of a shape."""
    return [
        {"operator": operator, "direction": direction, "shape": shape, "dtype": dtype}
        for dtype in DTYPES
        for operator, direction in WORDS
    ]


def least_bytes(case):
    """The minimum number of bytes that the operator moves: each input read once, each output written once."""
    size = WORDS[case["operator"], case["direction"]] * DTYPES[case["dtype"]].itemsize
    for n in dimensions(case["shape"]):
        size *= n
    return size


def arguments(case):
    """A function that makes one set of tensors for a case; the cotangent is the last."""
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


def contenders(case, which, offsets):
    """Name -> a function of one set of arguments.  A peer that is missing fails when it is called."""
    operator, direction = case["operator"], case["direction"]
    ops = torch.ops.recblr
    if operator == SCAN and direction == BACKWARD:
        # b stands in for h: the time does not depend on the values.
        return {
            RECBLR: lambda a, b, grad: ops._scan_backward(
                grad, None, a.detach(), b.detach(), None, offsets, False
            )
        }
    calls = {
        SCAN: {RECBLR: lambda a, b: ops.scan(a, b, None, offsets, False)},
        CONV: {
            RECBLR: lambda x, w, bias: ops.causal_conv1d(x, w, bias, None, offsets, True)[0],
            COMPOSED: lambda x, w, bias: composed_causal_conv1d(x, w, bias, None, offsets, True)[0],
        },
    }.get(operator) or {
        RECBLR: lambda x, gates, decay, z=None: ops.bdlru(x, gates, decay, z, None, offsets, None)[0],
        COMPOSED: lambda x, gates, decay, z=None: composed_bdlru(x, gates, decay, z, None, offsets, None)[0],
    }
    if operator == SCAN and not is_packed(case["shape"]):
        calls |= {WARP: _accelerated("warp"), SCALAR: _accelerated("scalar")}
        calls |= {RECURRENT: _fla("fused_recurrent_hgrn"), CHUNKED: _fla("chunk_hgrn")}
        if direction == FORWARD:  # its backward pass builds T × T matrices
            calls |= {ASSOCIATIVE: associative}
    if which == OURS:
        calls = {RECBLR: calls[RECBLR]}
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
    """accelerated-scan: it wants channels first, so the data are viewed as such, without a copy."""

    def scan(a, b):
        batch, steps, channels = a.shape
        return import_module(f"{COMPILED}.{kind}").scan(*(x.view(batch, channels, steps) for x in (a, b)))

    return scan


def _fla(name):
    """fla computes h = exp(g) h + x; -a is passed as g, because only the time matters."""

    def scan(a, b):
        return getattr(import_module("fla.ops.hgrn"), name)(b, -a)[0]

    return scan


def measure(case, which, quick, left_out):
    """The case's result, and contender -> the reason why it did not run.

    left_out: contender -> the reason why it must not run.
    """
    torch.manual_seed(0)
    torch.cuda.empty_cache()
    offsets = offsets_of(case["shape"])
    offsets = None if offsets is None else offsets.to(DEVICE)
    calls = contenders(case, which, offsets)
    failed = {name: why for name, why in left_out.items() if name in calls}
    for name in failed:
        del calls[name]
    if set(calls) == {RECBLR} and which == PEERS:
        return Result(case, [{}]), failed
    copy, factor = gpu_timing.copy_of(least_bytes(case))
    sets = gpu_timing.sets(arguments(case), quick)
    samples, more = gpu_timing.take_turns(calls | {COPY: copy}, sets, quick)
    if COPY in samples:
        samples[COPY] = [factor * seconds for seconds in samples[COPY]]
    return Result(case, [samples]), failed | more


def figures(result, failed):
    """Ours compared with the copy and with every peer, including those that failed."""
    if not result.has(RECBLR):
        return [Figure(RECBLR, COPY, None, note=failed.get(RECBLR, "did not run"))]
    case, shown, near = result.case, [], False
    if result.has(COPY):
        share = result.times_faster(RECBLR, COPY)
        near = share.median >= OF_FLOOR
        bars = OF_COPY.get((case["operator"], case["direction"]), {})
        shown.append(Figure(RECBLR, COPY, share, bars.get(case["dtype"])))
    else:
        shown.append(Figure(RECBLR, COPY, None, note=failed.get(COPY, "did not run")))
    for peer in BESIDE:
        if result.has(peer):
            value = result.times_faster(RECBLR, peer)
            bar = None if peer == COMPOSED else FASTER.get(case["direction"])
            reached = None if bar is None else value.median >= bar or near
            shown.append(Figure(RECBLR, peer, value, bar, reached=reached))
        elif peer in failed:
            shown.append(Figure(RECBLR, peer, None, note=failed[peer]))
    return shown


def main(which, shape, lines, quick, without):
    """Measure every case of a shape that is not in `lines` yet, and write a line of JSON for each.

    Returns LOST_STATUS if a contender made the GPU unusable for this process.  The next call leaves that
    contender out.
    """
    torch.cuda.init()
    torch.empty(1, device=DEVICE)
    sys.stdin.read()  # waits for this process's turn
    compiling = dict.fromkeys((WARP, SCALAR), "it was still being compiled") if without else {}
    records = json_lines(lines)
    done = [record["case"] for record in records if record["pass"] == which]
    with lines.open("a", encoding="utf-8") as file:
        for case in cases(shape):
            if case in done:
                continue
            lost = {
                name: why
                for record in records
                if record["pass"] == LOST and record["case"]["direction"] == case["direction"]
                for name, why in record["lost"].items()
            }
            try:
                result, failed = measure(case, which, quick, compiling | lost)
            except gpu_timing.LostGPU as error:
                write({"pass": LOST, "case": case, "lost": {error.contender: error.why}}, file)
                return LOST_STATUS
            if result.processes[0] or failed:
                write({"pass": which} | as_json(result, figures(result, failed)), file)
    return 0


def write(record, file):
    print(json.dumps(record, ensure_ascii=False), file=file, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("which", choices=(OURS, PEERS))
    parser.add_argument("shape")
    parser.add_argument("lines", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--without", default="")
    sys.exit(main(**vars(parser.parse_args())))
