"""Compare RecBLR's encoder with SASRec's on a GPU, from 200 to 8192 events: tokens per second and memory.

SASRec uses flash attention, which needs 16 bits.  So forward and backward run in bfloat16, by autocast.
Everything else is as in benchmarks/encoder.py.  benchmarks/gpu.py runs this program.
"""

import json
import sys
from pathlib import Path

import gpu_timing
import torch
from encoder import ENCODERS, MEMORY, OURS, PEER, WIDTH
from figure import Figure, as_json
from measuring import Result
from torch.nn.attention import SDPBackend, sdpa_kernel

TOKENS = 1 << 17  # a batch
LENGTHS = 200, 500, 1000, 2000, 4096, 8192


def cases(quick):
    lengths, tokens = ((32,), 64) if quick else (LENGTHS, TOKENS)
    return [{"B": max(1, tokens // steps), "T": steps} for steps in lengths]


def measure(case):
    """Samples of seconds per step and of peak megabytes; and contender -> the reason why it did not run."""
    torch.manual_seed(0)
    size = case["B"], case["T"], WIDTH
    x, grad = torch.randn(size, device="cuda", requires_grad=True), torch.randn(size, device="cuda")

    def step(model):
        def call():
            with torch.autocast("cuda", torch.bfloat16), sdpa_kernel(SDPBackend.FLASH_ATTENTION):
                y = model(x)
            y.backward(grad)
            model.zero_grad(set_to_none=True)

        return call

    steps = {name: step(make(case["T"]).cuda()) for name, make in ENCODERS.items()}
    samples, failed = gpu_timing.take_turns(steps, [()])
    for name in list(samples):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        steps[name]()
        samples[name + MEMORY] = [(torch.cuda.max_memory_allocated() - before) / 1e6]
    return samples, failed


def figures(result, failed):
    """RecBLR compared with the SASRec whose feed-forward networks have the same width."""
    if not result.has(OURS) or not result.has(PEER):
        return [
            Figure(OURS, PEER, None, note="; ".join(f"{k}: {v}" for k, v in failed.items()) or "did not run")
        ]
    return [
        Figure(OURS, PEER, result.times_faster(OURS, PEER)),
        Figure(
            OURS + MEMORY, PEER + MEMORY, result.times_faster(OURS + MEMORY, PEER + MEMORY), unit=(1.0, "MB")
        ),
    ]


def tokens_per_second(result):
    """contender -> tokens per second."""
    tokens = result.case["B"] * result.case["T"]
    return {name: tokens / result.of(name).median for name in ENCODERS if result.has(name)}


def main(out, quick):
    """Measure every length, and write a line of JSON after each."""
    with out.open("w", encoding="utf-8") as lines:
        for case in cases(quick):
            samples, failed = measure(case)
            result = Result(case, [samples])
            record = as_json(result, figures(result, failed))
            record["tokens_per_second"] = tokens_per_second(result)
            print(json.dumps(record, ensure_ascii=False), file=lines, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), "--quick" in sys.argv)
