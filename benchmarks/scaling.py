"""Claim: the time and the memory of scan and of bdlru grow linearly with T, with B, and with C.

One of the three grows while the other two are fixed.  The time is that of the forward pass, and of forward
and backward together ("both ways").  The memory is what a fresh process adds to its peak when it makes the
arguments and runs both passes, including all results and gradients.  The time is compared with torch.add on
as many elements, which shows the jumps that the caches cause.  The memory is compared with the size of one
tensor.  A power law is fitted through the sizes that are too large for any cache.  Growth is linear if its
exponent is 0.9 to 1.1.
Run: python benchmarks/scaling.py [--out DIR]
"""

from functools import partial

import torch
from figure import Figure
from measuring import added_memory, exponent, last_level_cache, take_turns
from reporting import COLOURS, MEGABYTES, MICROSECONDS, main

from recblr.system.machine import usable_cores

# The fixed sizes for each axis that grows, and the powers of 2 that it takes: up to 2^26 elements for T, and
# up to 2^24 for B and C.
FIXED = {"T": {"B": 1, "C": 64}, "B": {"T": 64, "C": 64}, "C": {"B": 16, "T": 256}}
SIZES = {"T": range(4, 21, 2), "B": range(0, 13, 2), "C": range(0, 13, 2)}
QUICK_SIZES = dict.fromkeys(FIXED, (2, 4))
LINEAR = 0.9, 1.1
OPERATORS = "scan", "bdlru"
BOTH, MEMORY = ", both ways", "'s memory"
TIMES = {"": "-", BOTH: "--"}  # the timed passes, and the style of their lines
ADD, TENSOR = "torch.add", "a tensor"


def cases(quick):
    sizes = QUICK_SIZES if quick else SIZES
    return [
        {"which": f"{axis} grows", axis: 2**power, **FIXED[axis], "threads": usable_cores()}
        for axis in FIXED
        for power in sizes[axis]
    ]


def dimensions(case):
    return case["B"], case["T"], case["C"]


def arguments(operator, size):
    """The operator's arguments, which require gradients, and the gradient of its result."""
    *outer, channels = size
    if operator == "scan":
        inputs = torch.rand(size), torch.rand(size)
    else:
        inputs = torch.randn(size), torch.randn(*outer, 2 * channels), torch.rand(channels), torch.randn(size)
    return [x.requires_grad_() for x in inputs], torch.randn(size)


def forward(operator, inputs):
    result = getattr(torch.ops.recblr, operator)(*inputs)
    return result if operator == "scan" else result[0]


def both_ways(operator, inputs, grad):
    return torch.autograd.grad(forward(operator, inputs), inputs, grad)


def measure(case, quick):
    torch.set_num_threads(case["threads"])
    torch.manual_seed(0)
    size = dimensions(case)
    calls = {}
    for operator in OPERATORS:
        inputs, grad = arguments(operator, size)
        calls[operator] = without_gradient(forward, operator, inputs)
        calls[operator + BOTH] = partial(both_ways, operator, inputs, grad)
    calls[ADD] = without_gradient(torch.add, torch.rand(size), torch.rand(size))
    samples = take_turns(calls, quick=quick)
    for operator in OPERATORS:
        call, small = ((operator, shape, case["threads"]) for shape in (size, (1, 2, 2)))
        samples[operator + MEMORY] = [added_memory(one_call, call, small)]
    return {**samples, TENSOR: [4 * torch.Size(size).numel() / 1e6]}


def without_gradient(function, *arguments):
    def call():
        with torch.no_grad():
            return function(*arguments)

    return call


def one_call(operator, size, threads):
    torch.set_num_threads(threads)
    both_ways(operator, *arguments(operator, size))


def figures(result):
    def beside(name, other, unit):
        value = result.paired(lambda own, others: own / others, name, other)
        return Figure(name, other, value, unit=unit)

    return [
        *(beside(name + what, ADD, MICROSECONDS) for name in OPERATORS for what in TIMES),
        *(beside(name + MEMORY, TENSOR, MEGABYTES) for name in OPERATORS),
    ]


def along(results, axis):
    """The results in which this axis grows."""
    return [result for result in results if result.case["which"] == f"{axis} grows"]


def growth(results, axis, name):
    """The sizes of the axis in these results, and the median samples of `name`."""
    return [result.case[axis] for result in results], [result.of(name).median for result in results]


def beyond_caches(results):
    """The results whose three tensors are too large for the cache; at least the last two results."""
    return [
        result
        for index, result in enumerate(results)
        if index >= len(results) - 2 or 3e6 * result.of(TENSOR).median > last_level_cache()
    ]


def summary(results):
    """One sentence for each axis, operator and measured quantity: whether it grows linearly."""
    for axis in FIXED:
        for name in OPERATORS:
            for what in (*TIMES, MEMORY):
                sizes, values = growth(beyond_caches(along(results, axis)), axis, name + what)
                yield f"{name}{what}: {in_words(axis, sizes, values)}"


def in_words(axis, sizes, values):
    power = exponent(sizes, values)
    low, high = LINEAR
    verdict = "less than linear" if power < low else "more than linear" if power > high else "linear"
    return f"{verdict}, {axis}^{power:.2f} from {sizes[0]:,} to {sizes[-1]:,}"


def draw(picture, results, shown, value):
    picture.set_size_inches(10, 6.5)
    panels = picture.subplots(2, len(FIXED), sharey="row", sharex="col")
    for (time, memory), (axis, fixed) in zip(panels.T, FIXED.items(), strict=True):
        own = along(results, axis)
        line(time, *growth(own, axis, ADD), "-", COLOURS[-2], ADD)
        for name, colour in zip(OPERATORS, COLOURS, strict=False):
            for what, style in TIMES.items():
                line(time, *growth(own, axis, name + what), style, colour, name + what)
            line(memory, *growth(own, axis, name + MEMORY), "--", colour, name + BOTH)
        for axes in (time, memory):
            sizes, values = axes.lines[-1].get_data()
            axes.plot(sizes, values[-1] * sizes / sizes[-1], ":", color=COLOURS[-1], label="linear")
            axes.set_yscale("log")
        time.set(title=f"{axis} grows, " + ", ".join(f"{name} = {size}" for name, size in fixed.items()))
        memory.set(xlabel=axis)
        memory.set_xscale("log", base=2)
    panels[0][0].set_ylabel("seconds")
    panels[1][0].set_ylabel("MB, both ways")
    handles, names = panels[0][0].get_legend_handles_labels()
    picture.legend(handles, names, loc="outside lower center", ncols=6, frameon=False)


def line(axes, sizes, values, style, colour, label):
    axes.plot(sizes, values, style, color=colour, marker=".", label=label)


if __name__ == "__main__":
    main(__doc__, cases, measure, figures, draw, value="times as much", summary=summary)
