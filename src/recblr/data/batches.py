"""Training batches. They hold whole histories, up to a number of events, or every prefix of the histories.

All batches are packed, so padding takes no memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from recblr.data.packed import Float64Array, Int64Array, Packed
from recblr.errors import InputError


@dataclass(frozen=True, eq=False)
class Whole:
    """The complete histories of a batch whose inputs are only the newest events.

    histories: the S histories from their first event to their last input.
    rows: (M,) int64, for each target, the place in histories of the event before it.
    """

    histories: Packed
    rows: Int64Array


@dataclass(frozen=True, eq=False)
class Batch:
    """S packed histories to train on.

    inputs: (N,) int64, the items of the histories.
    targets: (M,) int64, the next item after each input that has a target.
    offsets: (S+1,) int64; history s is ``inputs[offsets[s]:offsets[s + 1]]``.
    rows: (M,) int64, the inputs that have a target; None if all have one, and then M is N.
    whole: the complete histories; None if the inputs are complete.
    times: (N,) float64, the time of each input in seconds; None if it is not known.
    request_times: (S,) float64, the time of each history's last target in seconds; None if it is not known.
    """

    inputs: Int64Array
    targets: Int64Array
    offsets: Int64Array
    rows: Int64Array | None = None
    whole: Whole | None = None
    times: Float64Array | None = None
    request_times: Float64Array | None = None


@dataclass(frozen=True, eq=False)
class PackedBatches:
    """The batches of one epoch. len() needs no iteration, and iterating again gives the same batches."""

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
            first = chosen.offsets[1:] - lengths  # the first target of each history
            inputs, targets = chosen.pieces(first - 1, lengths), chosen.pieces(first, lengths)
            whole = None
            if inputs.items.size < chosen.items.size - len(chosen):
                past = chosen.trimmed(last=1)
                shift = np.repeat(past.offsets[1:] - inputs.offsets[1:], lengths)
                whole = Whole(past, shift + np.arange(inputs.items.size))
            last = None if targets.times is None else targets.last_times
            yield Batch(
                inputs.items,
                targets.items,
                inputs.offsets,
                whole=whole,
                times=inputs.times,
                request_times=last,
            )


@dataclass(frozen=True, eq=False)
class PrefixBatches:
    """The batches of one epoch of prefixes, each with one target; used like :class:`PackedBatches`."""

    _histories: Packed
    _targets: Int64Array  # the places of the targets in the histories' items, in the order of the epoch
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
            times = self._histories.times
            yield Batch(
                prefixes.items,
                self._histories.items[targets],
                prefixes.offsets,
                prefixes.offsets[1:] - 1,
                Whole(past, past.offsets[1:] - 1) if cut else None,
                prefixes.times,
                None if times is None else times[targets],
            )


def packed_batches(
    histories: Packed, *, tokens: int, seed: int, epoch: int, max_length: int | None = None
) -> PackedBatches:
    """Batches with every (input, target) pair of the histories once; (seed, epoch) alone decides their order.

    The histories are shuffled. A batch takes whole histories as long as it has at most `tokens` inputs. A
    longer history is a batch by itself. Histories with fewer than 2 events are left out. With `max_length`,
    only the last `max_length` pairs of each history are used. ``Batch.whole`` then has the complete ones.

    Raises InputError if tokens or max_length is less than 1, or if seed or epoch is negative.
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
    """Batches with every target once, each after its own sequence: the events before it.

    The order depends on (seed, epoch) alone. RecBole makes training samples in this way, and so does the
    authors' code, which uses RecBole: n events give n - 1 prefixes. For the same targets, this costs about as
    many times more than :func:`packed_batches` as a history is long on average. A batch has `sequences`
    prefixes; the last one has the remaining ones. With `max_length`, a prefix keeps its newest `max_length`
    events; ``Batch.whole`` then has the complete prefixes.

    Raises InputError if sequences or max_length is less than 1, or if seed or epoch is negative.
    """
    if sequences < 1:
        raise InputError(
            f"sequences, the number in a batch, must be at least 1, but is {sequences}", "give a larger one"
        )
    _check_order(seed, epoch)
    if max_length is not None:
        _check_length(max_length)
    order = np.random.default_rng([seed, epoch]).permutation(np.flatnonzero(histories.has_past))
    return PrefixBatches(histories, order, sequences, max_length)


def in_chunks(histories: Packed, tokens: int) -> Iterator[tuple[Int64Array, Packed]]:
    """Every history once, in chunks of at most `tokens` events; a longer history is a chunk by itself.

    Yields (indices (M,) int64 of histories, these histories packed). The longest histories come first: if a
    chunk of `tokens` events does not fit into memory, this shows at once. An empty history counts as one
    event, which limits the number of histories in a chunk. Raises InputError if tokens is less than 1.
    """
    _check_budget(tokens)
    order = np.argsort(-histories.lengths, kind="stable")
    cuts = _cuts(np.maximum(histories.lengths[order], 1), tokens)
    for start, end in pairwise(cuts):
        yield order[start:end], histories.select(order[start:end])


def _num_pairs(lengths: Int64Array, max_length: int | None) -> Int64Array:
    """The number of (input, target) pairs of each history that has 1 event or more, at most max_length."""
    return lengths - 1 if max_length is None else np.minimum(lengths - 1, max_length)


def _cuts(sizes: Int64Array, budget: int) -> Int64Array:
    """Where to cut the sizes into pieces, so that each piece has a sum of at most budget or is one size."""
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
        raise InputError(f"seed and epoch must not be negative, but are {seed} and {epoch}")


def _check_length(max_length: int) -> None:
    if max_length < 1:
        raise InputError(
            f"max_length must be at least 1, but is {max_length}", "give a larger one, or leave it out"
        )


def _check_budget(tokens: int) -> None:
    if tokens < 1:
        raise InputError(
            f"tokens, the number in a batch, must be at least 1, but is {tokens}", "give a larger one"
        )
