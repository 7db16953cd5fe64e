"""Batches to train on: of whole histories, by events rather than by users, or of every prefix of them.

Either way they are packed, so that no memory goes to padding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from recblr.data.packed import Int64Array, Packed
from recblr.errors import InputError


@dataclass(frozen=True, eq=False)
class Whole:
    """The histories of a batch whose inputs are the newest events only: what its users had by then is more.

    histories: the S histories up to and with their last input.
    rows: (M,) int64, the event of them that each target came right after.
    """

    histories: Packed
    rows: Int64Array


@dataclass(frozen=True, eq=False)
class Batch:
    """S packed histories to train on.

    inputs: (N,) int64.
    targets: (M,) int64, the item that came right after each of the inputs that `rows` names.
    offsets: (S+1,) int64, history s is ``inputs[offsets[s]:offsets[s + 1]]``.
    rows: (M,) int64, which inputs have a target; None where all have, so that M is N.
    whole: the histories that inputs were cut from; None where none was cut, and inputs are all there is.
    """

    inputs: Int64Array
    targets: Int64Array
    offsets: Int64Array
    rows: Int64Array | None = None
    whole: Whole | None = None


@dataclass(frozen=True, eq=False)
class PackedBatches:
    """One epoch's batches; len() says how many before the first is made. Iterate as often as you like."""

    _histories: Packed
    _order: Int64Array
    _cuts: Int64Array
    _max_length: int | None

    def __len__(self) -> int:
        return self._cuts.size - 1

    @property
    def num_targets(self) -> int:
        """The number of (input, target) pairs in the whole epoch."""
        return int(_num_pairs(self._histories.lengths[self._order], self._max_length).sum())

    def __iter__(self) -> Iterator[Batch]:
        for start, end in pairwise(self._cuts):
            chosen = self._histories.select(self._order[start:end])
            lengths = _num_pairs(chosen.lengths, self._max_length)
            first = chosen.offsets[1:] - lengths  # the first target of each
            inputs, targets = chosen.pieces(first - 1, lengths), chosen.pieces(first, lengths)
            whole = None
            if inputs.items.size < chosen.items.size - len(chosen):
                past = chosen.trimmed(last=1)
                shift = np.repeat(past.offsets[1:] - inputs.offsets[1:], lengths)
                whole = Whole(past, shift + np.arange(inputs.items.size))
            yield Batch(inputs.items, targets.items, inputs.offsets, whole=whole)


@dataclass(frozen=True, eq=False)
class PrefixBatches:
    """One epoch's batches of prefixes, a target each; as :class:`PackedBatches` in all else."""

    _histories: Packed
    _targets: Int64Array  # where in the histories' items they are, in the epoch's order
    _sequences: int
    _max_length: int | None

    def __len__(self) -> int:
        return -(-self.num_targets // self._sequences)

    @property
    def num_targets(self) -> int:
        """The number of prefixes in the whole epoch."""
        return self._targets.size

    def __iter__(self) -> Iterator[Batch]:
        offsets = self._histories.offsets
        for start in range(0, self.num_targets, self._sequences):
            targets = self._targets[start : start + self._sequences]
            starts = offsets[np.searchsorted(offsets, targets, side="right") - 1]
            past = prefixes = self._histories.pieces(starts, targets - starts)
            if self._max_length is not None:
                prefixes = past.latest(self._max_length)
            cut = prefixes.items.size < past.items.size
            yield Batch(
                prefixes.items,
                self._histories.items[targets],
                prefixes.offsets,
                prefixes.offsets[1:] - 1,
                Whole(past, past.offsets[1:] - 1) if cut else None,
            )


def packed_batches(
    histories: Packed, *, tokens: int, seed: int, epoch: int, max_length: int | None = None
) -> PackedBatches:
    """Every (input, target) pair of the histories once, in an order that (seed, epoch) alone decides.

    Histories are shuffled and packed whole until the next one would bring a batch above `tokens` inputs;
    a history that is longer on its own is a batch of its own. Those with fewer than 2 events give nothing.
    With `max_length`, only the last so many pairs of each history count; a batch says what was cut.

    Raises InputError where tokens or max_length < 1, or seed or epoch is negative.
    """
    _check_budget(tokens)
    _check_order(seed, epoch)
    if max_length is not None:
        _check_length(max_length)
    usable = np.flatnonzero(histories.lengths >= 2)
    order = np.random.default_rng([seed, epoch]).permutation(usable)
    cuts = _cuts(_num_pairs(histories.lengths[order], max_length), tokens)
    return PackedBatches(histories, order, cuts, max_length)


def prefix_batches(
    histories: Packed, *, sequences: int, seed: int, epoch: int, max_length: int | None = None
) -> PrefixBatches:
    """Every target after the events before it, shuffled by (seed, epoch).

    Each is a sequence of its own. So RecBole, and the authors' released code through it, makes training
    samples of histories: n events give n - 1 prefixes. It costs about the mean length times what
    :func:`packed_batches` costs for the same targets. A batch has `sequences` prefixes, the last one the
    rest; of each, with `max_length`, the newest so many events, and what was cut beside them.

    Raises InputError where sequences or max_length < 1, or seed or epoch is negative.
    """
    if sequences < 1:
        raise InputError(f"a batch must hold at least 1 sequence, and the number is {sequences}: raise it")
    _check_order(seed, epoch)
    if max_length is not None:
        _check_length(max_length)
    order = np.random.default_rng([seed, epoch]).permutation(np.flatnonzero(histories.has_past))
    return PrefixBatches(histories, order, sequences, max_length)


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


def _num_pairs(lengths: Int64Array, max_length: int | None) -> Int64Array:
    """How many (input, target) pairs histories of 1 event or more give, the newest where not all count."""
    return lengths - 1 if max_length is None else np.minimum(lengths - 1, max_length)


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


def _check_order(seed: int, epoch: int) -> None:
    if seed < 0 or epoch < 0:
        raise InputError(f"seed and epoch must not be negative, and they are {seed} and {epoch}")


def _check_length(max_length: int) -> None:
    if max_length < 1:
        raise InputError(f"max_length must be at least 1, and is {max_length}: raise it, or leave it out")


def _check_budget(tokens: int) -> None:
    if tokens < 1:
        raise InputError(f"a batch must hold at least 1 token, and the budget is {tokens}: raise it")
