"""Batches have every pair exactly once, within a budget, in an order that depends on seed and epoch."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recblr.data import Batch, Packed, in_chunks, packed_batches, prefix_batches
from recblr.errors import InputError

LENGTHS = st.lists(st.integers(0, 12), max_size=20)


def numbered(lengths: list[int]) -> Packed:
    """Histories of these lengths in which every event has a different item."""
    return Packed.from_lengths(np.arange(sum(lengths), dtype=np.int64), np.array(lengths, dtype=np.int64))


def pairs(batch: Batch) -> list[tuple[int, int]]:
    return list(zip(batch.inputs.tolist(), batch.targets.tolist(), strict=True))


def same(one: list[Batch], other: list[Batch]) -> bool:
    return [(pairs(b), b.offsets.tolist()) for b in one] == [(pairs(b), b.offsets.tolist()) for b in other]


@given(LENGTHS, st.integers(1, 30), st.integers(0, 3))
def test_an_epoch_has_every_pair_exactly_once(lengths: list[int], tokens: int, epoch: int) -> None:
    histories = numbered(lengths)
    batches = packed_batches(histories, tokens=tokens, seed=0, epoch=epoch)
    expected = [pair for s in range(len(histories)) for pair in pairwise(histories.history(s).tolist())]
    assert Counter(pair for batch in batches for pair in pairs(batch)) == Counter(expected)
    assert batches.num_targets == len(expected)


@given(LENGTHS, st.integers(1, 30))
def test_the_number_of_batches_is_known_in_advance(lengths: list[int], tokens: int) -> None:
    batches = packed_batches(numbered(lengths), tokens=tokens, seed=0, epoch=0)
    assert len(batches) == len(list(batches))


@given(LENGTHS, st.integers(1, 30))
def test_no_batch_exceeds_the_budget_unless_it_is_a_single_history(lengths: list[int], tokens: int) -> None:
    for batch in packed_batches(numbered(lengths), tokens=tokens, seed=0, epoch=0):
        assert batch.inputs.size <= tokens or batch.offsets.size == 2


@given(LENGTHS, st.integers(1, 30))
def test_a_batch_ends_only_where_the_next_history_would_not_fit(lengths: list[int], tokens: int) -> None:
    batches = list(packed_batches(numbered(lengths), tokens=tokens, seed=0, epoch=0))
    for batch, following in pairwise(batches):
        assert batch.inputs.size + int(following.offsets[1]) > tokens


@given(LENGTHS, st.integers(1, 30))
def test_offsets_separate_whole_histories(lengths: list[int], tokens: int) -> None:
    histories = numbered(lengths)
    whole = {tuple(histories.history(s).tolist()) for s in range(len(histories))}
    for batch in packed_batches(histories, tokens=tokens, seed=0, epoch=0):
        for start, end in pairwise(batch.offsets):
            assert (*batch.inputs[start:end].tolist(), int(batch.targets[end - 1])) in whole


@given(LENGTHS, st.integers(1, 30), st.integers(0, 2**40), st.integers(0, 1000))
def test_the_same_seed_and_epoch_give_the_same_batches(
    lengths: list[int], tokens: int, seed: int, epoch: int
) -> None:
    def batches() -> list[Batch]:
        return list(packed_batches(numbered(lengths), tokens=tokens, seed=seed, epoch=epoch))

    assert same(batches(), batches())


def test_another_epoch_or_seed_gives_another_order() -> None:
    histories = numbered([3] * 50)

    def batches(seed: int, epoch: int) -> list[Batch]:
        return list(packed_batches(histories, tokens=10, seed=seed, epoch=epoch))

    assert not same(batches(0, 0), batches(0, 1))
    assert not same(batches(0, 0), batches(1, 0))
    # Epoch e of seed s must not be epoch s of seed e.
    assert not same(batches(0, 1), batches(1, 0))


def test_batches_can_be_iterated_again() -> None:
    batches = packed_batches(numbered([3, 4, 5]), tokens=4, seed=0, epoch=0)
    assert same(list(batches), list(batches))


@given(LENGTHS, st.integers(1, 30), st.integers(1, 13))
def test_max_length_keeps_the_last_pairs_of_each_history(
    lengths: list[int], tokens: int, max_length: int
) -> None:
    histories = numbered(lengths)
    batches = packed_batches(histories, tokens=tokens, seed=0, epoch=0, max_length=max_length)
    expected = [
        pair
        for s in range(len(histories))
        for pair in list(pairwise(histories.history(s).tolist()))[-max_length:]
    ]
    assert Counter(pair for batch in batches for pair in pairs(batch)) == Counter(expected)
    assert batches.num_targets == len(expected)


@pytest.mark.parametrize("max_length", [None, 4])
def test_batches_of_uncut_histories_do_not_have_them_twice(max_length: int | None) -> None:
    histories = numbered([5, 1, 0, 3])
    whole = packed_batches(histories, tokens=9, seed=0, epoch=0, max_length=max_length)
    prefixes = prefix_batches(histories, sequences=9, seed=0, epoch=0, max_length=max_length)
    assert [batch.whole for batch in (*whole, *prefixes)] == [None, None]


def prefixes(batch: Batch) -> list[tuple[int, ...]]:
    """The events of each sequence, followed by its target."""
    assert batch.rows is not None
    assert batch.rows.tolist() == (batch.offsets[1:] - 1).tolist()
    return [
        (*batch.inputs[start:end].tolist(), int(target))
        for (start, end), target in zip(pairwise(batch.offsets), batch.targets, strict=True)
    ]


@given(LENGTHS, st.integers(1, 30), st.none() | st.integers(1, 13))
def test_an_epoch_has_every_prefix_once_with_the_next_item(
    lengths: list[int], sequences: int, max_length: int | None
) -> None:
    histories = numbered(lengths)
    batches = prefix_batches(histories, sequences=sequences, seed=0, epoch=0, max_length=max_length)
    expected = []
    for s in range(len(histories)):
        history = histories.history(s).tolist()
        for end in range(1, len(history)):
            start = 0 if max_length is None else max(0, end - max_length)
            expected.append(tuple(history[start : end + 1]))
    assert Counter(prefix for batch in batches for prefix in prefixes(batch)) == Counter(expected)
    assert batches.num_targets == len(expected)


@given(LENGTHS, st.integers(1, 30))
def test_all_batches_of_prefixes_except_the_last_are_full(lengths: list[int], sequences: int) -> None:
    batches = prefix_batches(numbered(lengths), sequences=sequences, seed=0, epoch=0)
    sizes = [batch.targets.size for batch in batches]
    assert len(batches) == len(sizes)
    assert all(size == sequences for size in sizes[:-1])
    assert all(0 < size <= sequences for size in sizes)


def test_the_order_of_prefixes_depends_on_seed_and_epoch_too() -> None:
    def order(seed: int, epoch: int) -> list[tuple[int, ...]]:
        batches = prefix_batches(numbered([4] * 30), sequences=7, seed=seed, epoch=epoch)
        return [prefix for batch in batches for prefix in prefixes(batch)]

    assert order(0, 1) == order(0, 1)
    assert len({tuple(order(*key)) for key in ((0, 0), (0, 1), (1, 0))}) == 3


def test_batches_of_prefixes_refuse_invalid_numbers() -> None:
    with pytest.raises(InputError, match="sequences, the number in a batch, must be at least 1, but is 0"):
        prefix_batches(numbered([3]), sequences=0, seed=0, epoch=0)
    with pytest.raises(InputError, match="max_length must be at least 1, but is 0"):
        prefix_batches(numbered([3]), sequences=1, seed=0, epoch=0, max_length=0)
    with pytest.raises(InputError, match="max_length must be at least 1, but is -1"):
        packed_batches(numbered([3]), tokens=1, seed=0, epoch=0, max_length=-1)
    with pytest.raises(InputError, match="must not be negative"):
        prefix_batches(numbered([3]), sequences=1, seed=-1, epoch=0)


@pytest.mark.parametrize(("seed", "epoch"), [(-1, 0), (0, -1)])
def test_negative_seeds_and_epochs_are_refused(seed: int, epoch: int) -> None:
    with pytest.raises(InputError, match="must not be negative"):
        packed_batches(numbered([3]), tokens=4, seed=seed, epoch=epoch)


def test_a_budget_of_zero_is_refused() -> None:
    with pytest.raises(InputError, match="tokens, the number in a batch, must be at least 1, but is 0"):
        packed_batches(numbered([3]), tokens=0, seed=0, epoch=0)
    with pytest.raises(InputError, match="tokens, the number in a batch, must be at least 1, but is 0"):
        next(in_chunks(numbered([3]), 0))


@given(LENGTHS, st.integers(1, 30))
def test_chunks_have_every_history_once_and_the_longest_first(lengths: list[int], tokens: int) -> None:
    histories = numbered(lengths)
    seen: list[int] = []
    for indices, chunk in in_chunks(histories, tokens):
        assert len(chunk) == len(indices)
        for place, s in enumerate(indices):
            assert chunk.history(place).tolist() == histories.history(int(s)).tolist()
        seen += indices.tolist()
    assert sorted(seen) == list(range(len(lengths)))
    assert [lengths[s] for s in seen] == sorted(lengths, reverse=True)


@given(LENGTHS, st.integers(1, 30))
def test_chunks_limit_both_events_and_histories(lengths: list[int], tokens: int) -> None:
    for indices, chunk in in_chunks(numbered(lengths), tokens):
        assert len(indices) <= tokens
        assert chunk.items.size <= tokens or len(indices) == 1


@given(LENGTHS, st.integers(1, 8), st.none() | st.integers(1, 4), st.booleans())
def test_times_travel_with_inputs_and_targets(
    lengths: list[int], size: int, max_length: int | None, in_prefixes: bool
) -> None:
    histories = numbered(lengths)
    histories = replace(histories, times=histories.items * 1.5)
    for batch in (
        prefix_batches(histories, sequences=size, seed=0, epoch=0, max_length=max_length)
        if in_prefixes
        else packed_batches(histories, tokens=size, seed=0, epoch=0, max_length=max_length)
    ):
        assert batch.times is not None
        assert batch.request_times is not None
        assert batch.times.tolist() == (batch.inputs * 1.5).tolist()
        # The item of a history's last target is one more than that of its last input.
        asked = (batch.inputs[batch.offsets[1:] - 1] + 1) * 1.5
        assert batch.request_times.tolist() == asked.tolist()


def test_batches_without_times_have_none() -> None:
    for batch in (
        *packed_batches(numbered([4]), tokens=9, seed=0, epoch=0),
        *prefix_batches(numbered([4]), sequences=9, seed=0, epoch=0),
    ):
        assert batch.times is None
        assert batch.request_times is None
