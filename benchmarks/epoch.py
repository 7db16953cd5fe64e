"""Claim: an epoch of training on a CPU takes little longer than its matrix products alone.

The benchmark times the steps of `recblr train DATA` with default options.  torch.profiler splits this time
into parts.  The same matrix products are also timed alone.  Both times are extrapolated to an epoch.
Run: python benchmarks/epoch.py DATA [--steps N] [--out FILE.json]
"""

import argparse
import json
from itertools import islice
from pathlib import Path
from statistics import median
from time import perf_counter

import torch
from rich.console import Console
from rich.table import Table

from recblr.config import TrainingConfig
from recblr.data import packed_batches, read_dataset
from recblr.data.packed import repeat_log_odds
from recblr.run.folder import split_for
from recblr.system.machine import describe_machine, keep_freed_memory
from recblr.training.learner import Learner, objective

WARM_UP = 5
ROUNDS = 5  # each round runs the steps, then their matrix products
PRODUCTS = ("aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm")
# Part -> words that the name of an operator contains; the first part that matches counts.
PARTS = {
    "matrix products": PRODUCTS,
    "loss, with its products": ("recblr::_linear_cross_entropy", "_LinearCrossEntropy"),
    "dropout": ("recblr::_dropout", "_SeededDropout", "aten::bernoulli_"),
    "recurrence and convolution": ("recblr::", "scan_", "bdlru", "causal_conv1d"),
    "layer norm": ("layer_norm",),
    "SiLU": ("silu",),
    "optimizer": ("Optimizer.", "aten::_fused_adamw_"),
    "embedding": ("embedding", "aten::index_select"),
    "other arithmetic": ("aten::mul", "aten::add", "aten::sum", "aten::sigmoid", "aten::exp", "aten::sqrt",
                         "aten::neg", "aten::div", "aten::where", "aten::cat", "aten::copy_", "aten::fill_"),
}  # fmt: skip
REST = "calls from Python, and all else"


def part_of(name):
    return next((part for part, words in PARTS.items() if any(word in name for word in words)), REST)


def profiled(steps):
    """The seconds of each part, and the matrix products: (name, shapes) -> how often."""
    with torch.profiler.profile(record_shapes=True) as profile:
        steps()
    parts, products = dict.fromkeys([*PARTS, REST], 0.0), {}
    for event in profile.key_averages(group_by_input_shape=True):
        parts[part_of(event.key)] += event.self_cpu_time_total / 1e6
        if event.key in PRODUCTS:
            first = event.key == "aten::addmm_"  # its first matrix is added, not multiplied
            matrices = [tuple(shape) for shape in event.input_shapes if len(shape) == 2]
            shapes = tuple(matrices[first : first + 2])
            products[event.key, shapes] = products.get((event.key, shapes), 0) + event.count
    return parts, products


def loss_products(batches, catalogue, width):
    """The three products inside the loss: (name, shapes) -> how often; the profiler does not see them."""
    counts = {}
    for batch in batches:
        rows = batch.targets.size
        for shapes in (
            ((rows, width), (width, catalogue)),
            ((rows, catalogue), (catalogue, width)),
            ((catalogue, rows), (rows, width)),
        ):
            counts["loss", shapes] = counts.get(("loss", shapes), 0) + 1
    return counts


def product(left, right):
    """A function that computes one matrix product of these shapes."""
    a, b, out = torch.randn(left), torch.randn(right), torch.empty(left[0], right[1])
    return lambda: torch.mm(a, b, out=out)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", help="a file of interactions, as recblr train reads it")
    parser.add_argument("--steps", type=int, default=40, help="number of timed steps (40)")
    parser.add_argument("--out", type=Path, help="the JSON file to write")
    options = parser.parse_args()
    keep_freed_memory()
    dataset = read_dataset(options.data)
    train = split_for(dataset, TrainingConfig()).train
    config = TrainingConfig().settled(train.items.size)
    batches = packed_batches(
        train, tokens=config.batch_tokens, seed=0, epoch=1, max_length=config.model.max_length
    )
    items = dataset.num_items
    bias = repeat_log_odds(train, items) if config.repeat_bias else None
    learner = Learner(items, config, objective(config, train, items), repeat_bias=bias)
    some = list(islice(batches, WARM_UP + options.steps))
    warm, timed = some[:WARM_UP], some[WARM_UP:]
    to_epoch = batches.num_targets / sum(batch.targets.size for batch in timed)

    def steps(batches=timed):
        for index, batch in enumerate(batches):
            learner.step(batch, config.learning_rate, 1, index)

    steps(warm)
    parts, products = profiled(steps)
    products |= loss_products(timed, dataset.num_items, config.model.d_model)
    calls = [(product(*shapes), count) for (_, shapes), count in products.items()]

    def alone():
        for call, count in calls:
            for _ in range(count):
                call()

    seconds = {"steps": [], "products alone": []}
    for _ in range(ROUNDS):
        for name, work in (("steps", steps), ("products alone", alone)):
            start = perf_counter()
            work()
            seconds[name].append((perf_counter() - start) * to_epoch)
    flops = to_epoch * sum(
        2 * count * left[0] * left[1] * right[1] for (_, (left, right)), count in products.items()
    )
    epoch, floor = (median(values) for values in seconds.values())
    scale = epoch / sum(parts.values())  # because the profiler slows the steps down

    table = Table("part of an epoch", "seconds", title=f"{dataset.name}, {torch.get_num_threads()} threads")
    for part, value in parts.items():
        table.add_row(part, f"{value * scale:.2f}")
    table.add_section()
    table.add_row("all", f"{epoch:.2f}")
    table.add_row(f"its matrix products alone, {flops / 1e12:.2f} TFLOP", f"{floor:.2f}")
    ratios = [a / b for a, b in zip(*seconds.values(), strict=True)]
    table.add_row("epoch / products alone", f"{median(ratios):.2f}")
    Console().print(table)
    if options.out:
        result = {
            "dataset": dataset.name,
            "threads": torch.get_num_threads(),
            "steps": options.steps,
            "parts": {part: value * scale for part, value in parts.items()},
            "seconds": seconds,
            "tflop": flops / 1e12,
            "ratio": median(ratios),
            "machine": describe_machine(),
        }
        options.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
