"""How the benchmarks measure: turns, paired ratios, spreads, memory, power laws."""

from __future__ import annotations

import operator
from itertools import pairwise

import pytest
import torch
from benchmarks.harness import BENCHMARKS, measuring
from hypothesis import given
from hypothesis import strategies as st

sizes = st.lists(st.integers(1, 10**6), min_size=2, max_size=6, unique=True).map(sorted)


def result(*processes: dict[str, list[float]]) -> measuring.Result:
    return measuring.Result({}, list(processes))


def test_a_ratio_is_paired_by_rounds_and_its_spread_is_over_the_processes() -> None:
    # Without pairs, the ratio of the medians of the first process would be 3 / 2.
    slowed = {"own": [1.0, 2.0, 4.0], "other": [2.0, 3.0, 8.0]}
    taken = result(slowed, {"own": [1.0], "other": [5.0]}, {"own": [1.0], "other": [1.0]})
    assert taken.times_faster("own", "other") == measuring.Spread(median=2.0, low=1.0, high=5.0)
    assert taken.times_faster("own", "other", factor=0.5).median == 1.0
    assert taken.of("own") == measuring.Spread(median=1.0, low=1.0, high=2.0)


def test_ratios_of_contenders_with_unequal_rounds_are_refused() -> None:
    with pytest.raises(ValueError, match="longer"):
        result({"own": [1.0], "other": [1.0, 2.0]}).times_faster("own", "other")


@pytest.mark.parametrize("quick", [True, False])
def test_contenders_take_turns_and_each_call_gets_another_set_than_the_one_before(
    quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring, "SECONDS", 0.01)
    seen: list[tuple[str, int]] = []
    calls = {name: lambda x, name=name: seen.append((name, x)) for name in ("one", "two", "three")}
    seconds = measuring.take_turns(calls, [(0,), (1,)], quick)
    assert [name for name, _ in seen] == ["one", "two", "three"] * (len(seen) // 3)
    assert all(before != after for (_, before), (_, after) in pairwise(seen))
    (rounds,) = {len(values) for values in seconds.values()}
    least, most = (1, 1) if quick else measuring.ROUNDS
    assert least <= rounds <= most
    assert rounds < len(seen) / 3, "the warm-up does not count"


def test_slow_contenders_have_the_minimum_number_of_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "SECONDS", 0.0)
    seconds = measuring.take_turns({"slow": lambda: None})
    assert len(seconds["slow"]) == measuring.ROUNDS[0]


def test_half_of_the_sets_do_not_fit_into_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measuring, "last_level_cache", lambda: 10_000)
    sets = measuring.sets_beyond_cache(lambda: (torch.zeros(100), torch.zeros(25)))
    assert len(sets) * 500 / 2 > 10_000
    assert len({x.data_ptr() for arguments in sets for x in arguments}) == 2 * len(sets)


def test_the_last_level_cache_has_a_plausible_size() -> None:
    assert 1 << 18 <= measuring.last_level_cache() <= 1 << 32


def test_memory_is_what_a_call_adds_to_a_fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)  # the fresh process inherits sys.path
    held = b"x" * 200_000_000  # memory of this process, which must not count
    added = measuring.added_memory(operator.mul, (b"x", 50_000_000), (b"x", 10))
    assert added == pytest.approx(50, abs=5), len(held)


@given(sizes, st.floats(0.2, 3), st.floats(-5, 5))
def test_the_exponent_of_a_power_law_is_found(sizes: list[int], power: float, factor: float) -> None:
    values = [2.0**factor * size**power for size in sizes]
    assert measuring.exponent(sizes, values) == pytest.approx(power, rel=1e-6)


@given(sizes, st.floats(0.2, 3), st.data())
def test_the_crossing_of_a_power_law_is_found(sizes: list[int], power: float, data: st.DataObject) -> None:
    at = data.draw(st.integers(sizes[0] + 1, sizes[-1]))
    words = measuring.crossing(sizes, [(size / at) ** power for size in sizes])
    assert words == f"from about {at:,} on"


def test_the_crossing_is_the_last_one() -> None:
    assert measuring.crossing([1, 10, 100, 1000], [2, 0.1, 0.1, 10]) == "from about 316 on"


def test_a_missing_crossing_is_described_in_words() -> None:
    assert measuring.crossing([50, 2000], [0.5, 0.9]) == "nowhere up to 2,000"
    assert measuring.crossing([50, 2000], [1.5, 1.2]) == "from 50 on, the smallest size measured"
