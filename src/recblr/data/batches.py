"""Batches of whole histories, by events rather than by users, so that no memory goes to padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from recblr.data.packed import Int64Array, Packed
from recblr.errors import InputError


@dataclass(frozen=True, eq=False)
class Batch:
    """S packed histories to train on.

    inputs, targets: (N,) int64; targets[t] is the item that came right after inputs[t].
    offsets: (S+1,) int64, history s is ``offsets[s]:offsets[s + 1]`` of both.
    """

    inputs: Int64Array
    targets: Int64Array
    offsets: Int64Array


@dataclass(frozen=True, eq=False)
class PackedBatches:
    """One epoch's batches; len() says how many before the first is made. Iterate as often as you like."""

    _histories: Packed
    _order: Int64Array
    _cuts: Int64Array

    def __len__(self) -> int:
        return self._cuts.size - 1

    @property
    def num_targets(self) -> int:
        """The number of (input, target) pairs in the whole epoch."""
        return int((self._histories.lengths[self._order] - 1).sum())

    def __iter__(self) -> Iterator[Batch]:
        for start, end in pairwise(self._cuts):
            chosen = self._histories.select(self._order[start:end])
            inputs = chosen.trimmed(last=1)
            yield Batch(inputs.items, chosen.trimmed(first=1).items, inputs.offsets)


def packed_batches(histories: Packed, *, tokens: int, seed: int, epoch: int) -> PackedBatches:
    """Every (input, target) pair of the histories once, in an order that (seed, epoch) alone decides.

    Histories are shuffled and packed whole until the next one would bring a batch above `tokens` inputs;
    a history that is longer on its own is a batch of its own. Those with fewer than 2 events give nothing.

    Raises InputError where tokens < 1, or seed or epoch is negative.
    """
    _check_budget(tokens)
    if seed < 0 or epoch < 0:
        raise InputError(f"seed and epoch must not be negative, and they are {seed} and {epoch}")
    usable = np.flatnonzero(histories.lengths >= 2)
    order = np.random.default_rng([seed, epoch]).permutation(usable)
    return PackedBatches(histories, order, _cuts(histories.lengths[order] - 1, tokens))


def in_chunks(histories: Packed, tokens: int) -> Iterator[tuple[Int64Array, Packed]]:
    """Every history once, longest first, in chunks of at most `tokens` events (or a single history).

    Yields (indices (M,) int64 into histories, those histories packed). Longest first, so that a budget
    that is too large for the memory fails at once; an empty history counts as one event, so that the
    number of histories in a chunk is bounded too. Raises InputError where tokens < 1.
    """
    _check_budget(tokens)
    order = np.argsort(-histories.lengths, kind="stable")
    cuts = _cuts(np.maximum(histories.lengths[order], 1), tokens)
    for start, end in pairwise(cuts):
        yield order[start:end], histories.select(order[start:end])


def _cuts(sizes: Int64Array, budget: int) -> Int64Array:
    """Where to cut a row of sizes so that each piece sums to at most budget or is a single size."""
    ends = np.cumsum(sizes)
    cuts = [0]
    while cuts[-1] < sizes.size:
        start = cuts[-1]
        before = int(ends[start - 1]) if start else 0
        fitting = int(np.searchsorted(ends, before + budget, side="right"))
        cuts.append(max(fitting, start + 1))
    return np.array(cuts, dtype=np.int64)


def _check_budget(tokens: int) -> None:
    if tokens < 1:
        raise InputError(f"a batch must hold at least 1 token, and the budget is {tokens}: raise it")
