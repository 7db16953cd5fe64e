"""Times have the same seconds in every unit. A unit is known only if the numbers can mean nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from data.packing import dataset as make
from hypothesis import given
from hypothesis import strategies as st

from recblr.data import Dataset, read_dataset, write_inter
from recblr.data.packed import Numbers
from recblr.errors import InputError

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
FIRST, LAST = 631_152_000, 4_102_444_800  # 1990 and 2100
NOVEMBER = 1_700_000_000


def log(times: list[int] | list[float] | list[str]) -> pl.DataFrame:
    """An event of one user for each time."""
    return pl.DataFrame({"user_id": "ann", "item_id": range(len(times)), "timestamp": times})


def read(times: list[int] | list[float] | list[str], unit: str | None = None) -> Dataset:
    return Dataset.from_frame(log(times), k_core=0, time_unit=unit)


def said(dataset: Dataset) -> str:
    return str(dataset.reading).partition("; ordered by timestamp")[2]


def seconds(dataset: Dataset) -> list[float]:
    assert dataset.seconds is not None
    assert dataset.seconds.dtype == np.float64
    return [float(value) for value in dataset.seconds]


def as_date(time: int, per_second: int, east: int) -> str:
    """A time in ISO 8601, in a zone that many minutes east of Greenwich."""
    whole, rest = divmod(time, per_second)
    digits = len(str(per_second)) - 1
    moment = datetime.fromtimestamp(whole, UTC).astimezone(timezone(timedelta(minutes=east)))
    fraction = f".{rest:0{digits}}" if digits else ""
    return f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}{moment:%z}"


def as_decimal(time: int, per_second: int) -> str:
    whole, rest = divmod(time, per_second)
    digits = len(str(per_second)) - 1
    return f"{whole}.{rest:0{digits}}" if digits else str(whole)


@given(
    st.sampled_from([*PER_SECOND]).flatmap(
        lambda unit: st.tuples(
            st.just(unit),
            st.lists(st.integers(FIRST * PER_SECOND[unit], LAST * PER_SECOND[unit]), max_size=9),
        )
    ),
    st.integers(-23 * 60, 23 * 60),
)
def test_a_log_has_the_same_seconds_and_fingerprint_in_every_unit(
    tmp_path_factory: pytest.TempPathFactory, log_in_unit: tuple[str, list[int]], east: int
) -> None:
    unit, times = log_in_unit
    per = PER_SECOND[unit]
    times.append(NOVEMBER * per)  # so that not all numbers can be dates in digits
    expected = sorted(time / per for time in times)  # Python divides whole numbers exactly, then rounds once
    finer = {name: [time * (n // per) for time in times] for name, n in PER_SECOND.items() if n >= per}
    same = [read(numbers) for numbers in finer.values()]
    same += [read(numbers, name) for name, numbers in finer.items()]
    same.append(read([as_date(time, per, east) for time in times]))
    if unit != "ns":  # a float64 cannot keep nanoseconds apart
        same.append(read([time / per for time in times]))
        decimals = tmp_path_factory.getbasetemp() / "decimals.csv"
        log([as_decimal(time, per) for time in times]).write_csv(decimals)
        same.append(read_dataset(decimals, k_core=0))
    for dataset in same:
        assert seconds(dataset) == expected
    assert len({dataset.fingerprint for dataset in same}) == 1
    assert [dataset.time_unit for dataset in same[: len(finer)]] == [*finer]
    assert [said(dataset) for dataset in same[: len(finer)]] == [f", in {name} since 1970" for name in finer]


@given(
    st.sampled_from([*PER_SECOND]),
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(2**53 - 9, 2**53 + 9), min_size=1),
)
def test_whole_numbers_are_divided_exactly_and_rounded_once(unit: str, times: list[int]) -> None:
    per = PER_SECOND[unit]
    times = sorted(time for time in times if abs(time) <= 2**53 * per)
    dataset = Dataset(
        "a", make([[0] * len(times)]).histories, ["ann"], ["tea"], np.array(times, dtype=np.int64)
    )
    dataset = Dataset("a", dataset.histories, ["ann"], ["tea"], dataset.times, time_unit=unit)
    assert seconds(dataset) == [time / per for time in times]


def test_a_moment_halfway_between_two_floats_is_rounded_to_its_own_side() -> None:
    # 2**30 + 2**-23 s lies in the middle between two float64, and is 119.2 ns after 2**30 s.
    times = [2**30 * 10**9 + nanoseconds for nanoseconds in (119, 120)]
    assert seconds(read(times, "ns")) == [2.0**30, 2.0**30 + 2.0**-22]
    # 1073 ns are 9 * 2**-23 s and less than 2**-32 s more.
    assert seconds(read([2**30 * 10**9 + 1073], "ns")) == [2.0**30 + 5 * 2.0**-22]


def test_one_moment_has_the_same_bits_as_a_float_as_milliseconds_and_as_a_date() -> None:
    moments: list[list[float] | list[str]] = [
        [1700000000.123],
        [1700000000123],
        ["2023-11-14T23:13:20.123+01"],
    ]
    assert [seconds(read(moment)) for moment in moments] == [[1700000000.123]] * 3
    assert str(seconds(read([-0.0], "s"))[0]) == "0.0"


@pytest.mark.parametrize(
    ("times", "unit", "says"),
    [
        ([NOVEMBER, FIRST], "s", ", in s since 1970"),
        ([float(NOVEMBER), LAST + 0.5], None, ", whose unit is unknown"),
        ([NOVEMBER + 0.25], "s", ", in s since 1970"),
        (["2023-11-14"], "s", ""),
        (["1970-01-01"], "s", ""),
        ([1, 2, 3], None, ", whose unit is unknown"),
        ([19_675, 19_676], None, ", whose unit is unknown"),
        ([20240131], None, ", whose unit is unknown"),
        (
            [NOVEMBER * 1000, 0, NOVEMBER * 1000],
            None,
            ", whose unit is unknown: 0 would be outside 1990 to 2100 in ms",
        ),
        (
            [NOVEMBER, -1, 5, *range(NOVEMBER, NOVEMBER + 3)],
            None,
            ", whose unit is unknown: -1 and 1 more would be outside 1990 to 2100 in s",
        ),
        ([2024013118, 2023123123], None, ", whose unit is unknown: 2024013118 may be a date in digits"),
        ([2024013124], "s", ", in s since 1970"),
        ([2401311830], None, ", whose unit is unknown: 2401311830 may be a date in digits"),
        ([2401311860], "s", ", in s since 1970"),
        ([991231183059], None, ", whose unit is unknown: 991231183059 may be a date in digits"),
        ([2024013118305912], None, ", whose unit is unknown: 2024013118305912 may be a date in digits"),
        ([2024013118305912345], None, ", whose unit is unknown: 2024013118305912345 may be a date in digits"),
        (
            [638_000_000_000_000_000],
            None,
            ", whose unit is unknown: 638000000000000000 may be a count of 100 ns since the year 1, as .NET "
            "has",
        ),
        ([638_000_000_000_000_000, NOVEMBER * 10**9], "ns", ", in ns since 1970"),
    ],
)
def test_a_unit_that_the_numbers_do_not_prove_is_unknown(
    times: list[int], unit: str | None, says: str
) -> None:
    dataset = read(times)
    assert (dataset.time_unit, said(dataset)) == (unit, says)
    assert (dataset.seconds is None) == (unit is None)
    assert dataset.times is not None
    assert (np.diff(dataset.times) >= 0).all()


def test_the_times_that_remain_show_the_unit(tmp_path: Path) -> None:
    rows = [f"ann,{item},{NOVEMBER + item}" for item in (1, 2)]
    (tmp_path / "a.csv").write_text("\n".join(["user_id,item_id,timestamp", *rows, "bob,1,0", ""]))
    assert read_dataset(tmp_path / "a.csv", k_core=0).time_unit is None
    assert read_dataset(tmp_path / "a.csv", k_core=0, min_user_events=2).time_unit == "s"


@pytest.mark.parametrize(
    ("unit", "times", "whole"),
    [
        ("d", [0, 19_675], [0, 1_699_920_000]),
        ("h", [-1, 1], [-3600, 3600]),
        ("min", [0.5, 1.0], [30, 60]),
        ("min", [0.01, 1.0], [0.6, 60.0]),
        ("s", [1, 2], [1, 2]),
        ("ms", [0, 1], [0, 1]),
    ],
)
def test_a_unit_that_is_given_counts_from_1970_whatever_the_numbers(
    unit: str, times: list[float], whole: list[float]
) -> None:
    dataset = read(times, unit)
    assert dataset.times is not None
    assert dataset.time_unit == ("ms" if unit == "ms" else "s")
    assert dataset.times.tolist() == whole
    assert dataset.times.dtype == (np.float64 if isinstance(whole[0], float) else np.int64)
    assert said(dataset) == ""


@pytest.mark.parametrize(
    ("times", "unit", "likely"),
    [
        ([NOVEMBER * 1000, NOVEMBER * 1000 + 5], "s", "ms"),
        ([NOVEMBER], "d", "s"),
        ([NOVEMBER], "s", None),
        ([NOVEMBER * 1000, 0], "s", None),
        ([19_675], "d", None),
    ],
)
def test_a_unit_that_is_given_by_mistake_is_doubted(times: list[int], unit: str, likely: str | None) -> None:
    doubt = f"; the times are in 1990 to 2100 if they are in {likely}, not in {unit} as given"
    assert said(read(times, unit)) == ("" if likely is None else doubt)


def test_a_unit_that_is_given_by_mistake_is_doubted_once_for_all_files(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.csv", "b.csv")]
    for path in paths:
        log([NOVEMBER * 1000]).write_csv(path)
    doubt = "; the times are in 1990 to 2100 if they are in ms, not in s as given"
    assert said(read_dataset(paths, k_core=0, time_unit="s")) == doubt


@pytest.mark.parametrize(
    ("times", "unit", "says"),
    [
        (
            ["2024-01-01"],
            "s",
            r"the times of the frame are dates, and --time-unit .* is for numbers; leave it",
        ),
        ([1], "weeks", r"no unit 'weeks' for --time-unit .*; choose one of d, h, min, s, ms, us, ns"),
        ([1], ["s"], r"no unit \['s'\] for --time-unit"),
        ([2**53], "d", r"has the time 9007199254740992, which in d is more than 285 million years from 1970"),
        ([-(2**63)], "s", r"has the time -9223372036854775808, which in s is more than"),
        ([1e300], "ns", "has the time 1e.300, which in ns"),
        (
            [1.0679999999999925, 1.0679999999999927],
            "min",
            "too many digits for a conversion from min to seconds",
        ),
    ],
)
def test_a_unit_that_cannot_be_is_refused(times: list[int], unit: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read(times, unit)


def fingerprint(times: list[int] | list[float], unit: str | None) -> str:
    numbers: Numbers = np.array(times)
    part = make([[0, 1], [2]], times=times)
    return Dataset("a", part.histories, part.user_ids, part.item_ids, numbers, time_unit=unit).fingerprint


def test_the_fingerprint_has_the_gaps_if_the_unit_is_known() -> None:
    assert fingerprint([10, 30, 20], "s") == fingerprint([10_000, 30_000, 20_000], "ms")
    assert fingerprint([10, 30, 20], "s") == fingerprint([10.0, 30.0, 20.0], "s")
    others = [
        fingerprint([10, 30, 20], None),
        fingerprint([10, 30, 20], "ms"),
        fingerprint([10, 31, 20], "s"),
    ]
    assert len({fingerprint([10, 30, 20], "s"), *others}) == 4
    # The ranks of equal times, and their seconds, are all 0.
    assert fingerprint([0, 0, 0], "s") != fingerprint([0, 0, 0], None)


def test_the_fingerprint_has_the_order_that_seconds_lose() -> None:
    now = NOVEMBER * 10**9
    for unit, scale in (("ns", 1), ("us", 0.001)):
        first, second = (
            fingerprint([now * scale, (now + 1000) * scale, (now + 1000) * scale + late], unit)
            for late in (0, 0.25 if unit == "us" else 1)
        )
        assert first != second


def test_a_file_of_a_dataset_with_a_known_unit_reads_back_with_it(tmp_path: Path) -> None:
    for dataset, unit in (
        (read([NOVEMBER * 1000, NOVEMBER * 1000 + 5]), None),
        (read(["1970-01-01", "1970-01-05"]), "s"),
    ):
        write_inter(dataset, tmp_path / "a.inter")
        again = read_dataset(tmp_path / "a.inter", k_core=0, time_unit=unit)
        assert again.fingerprint == dataset.fingerprint


def test_several_files_of_numbers_show_one_unit(tmp_path: Path) -> None:
    for name, times in (("a", [NOVEMBER]), ("b", [NOVEMBER + 0.5]), ("c", [0]), ("d", ["2024-01-01"])):
        log(times).write_csv(tmp_path / f"{name}.csv")
    paths = [tmp_path / f"{name}.csv" for name in "abcd"]
    assert read_dataset(paths[:2], k_core=0).time_unit == "s"
    assert read_dataset(paths[:3], k_core=0).time_unit is None
    assert read_dataset(paths[:3], k_core=0, time_unit="min").time_unit == "s"
    (tmp_path / "e.dat").write_text("ann::tea::5::3\n")
    assert seconds(read_dataset([paths[2], tmp_path / "e.dat"], k_core=0, time_unit="min")) == [0, 180]
    with pytest.raises(
        InputError, match=r"d\.csv has dates as times and .*a\.csv has numbers; give dates in"
    ):
        read_dataset(paths, k_core=0)
