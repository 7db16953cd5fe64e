"""Every format gives the same histories: in the order of time, then of the file; numbered as they appear."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import pytest
from data.packing import as_ids
from hypothesis import given
from hypothesis import strategies as st

from recblr.data import read_dataset

# The histories in all files below. Two events of ann have the time 5. Her first event is in the last line.
HISTORIES = {"bob": ["tea", "rum"], "ann": ["oil", "tea", "rum", "nut"]}

INTER = (
    "user_id:token\titem_id:token\trating:float\ttimestamp:float\n"
    "bob\ttea\t5\t1\nann\ttea\t4\t5\nbob\trum\t3\t2\nann\trum\t4\t5\nann\tnut\t1\t6\nann\toil\t1\t0\n"
)
CSV = "user_id,item_id,timestamp\nbob,tea,1\nann,tea,5\nbob,rum,2\nann,rum,5\nann,nut,6\nann,oil,0\n"
MOVIELENS = "bob::tea::5::1\nann::tea::4::5\nbob::rum::3::2\nann::rum::4::5\nann::nut::1::6\nann::oil::1::0\n"
DATES = re.sub(r",(\d)\n", r",2024-01-1\1\n", CSV)  # the same, with days as times
PAIRS = "bob tea\nann oil\nann tea\nbob rum\nann rum\nann nut\n"
SEQUENCES = "bob tea rum\nann oil tea rum nut\n"


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    content = text.encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


FILES = {
    "atomic": ("shop.inter", INTER),
    "atomic, gzipped": ("shop.inter.gz", INTER),
    "atomic without types": ("shop.inter", INTER.replace(":token", "").replace(":float", "")),
    "comma": ("shop.csv", CSV),
    "comma, gzipped": ("shop.csv.gz", CSV),
    "suffix in capitals": ("shop.CSV", CSV),
    "tabs": ("shop.tsv", CSV.replace(",", "\t")),
    "tabs in .csv": ("shop.csv", CSV.replace(",", "\t")),
    "semicolons": ("shop.csv", CSV.replace(",", ";")),
    "quoted": ("shop.csv", CSV.replace("tea", '"tea"').replace("item_id", '"item_id"')),
    "spaces around values": ("shop.csv", CSV.replace(",", " , ")),
    "byte order mark": ("shop.csv", "\ufeff" + CSV),
    "line ends of Windows": ("shop.csv", CSV.replace("\n", "\r\n")),
    "no line break at the end": ("shop.csv", CSV.rstrip()),
    "blank lines": ("shop.csv", "\n" + CSV.replace("ann,nut", "\n  \nann,nut") + "\n\n"),
    "a blank line under the header": ("shop.csv", CSV.replace("timestamp\n", "timestamp\n\n")),
    "a separator at the end of lines": ("shop.csv", CSV.replace("\n", ",\n").replace("stamp,", "stamp")),
    "times with fractions": ("shop.csv", CSV.replace(",5\n", ",5.5\n")),
    "times with exponents": ("shop.csv", CSV.replace(",6\n", ",6e9\n")),
    "MovieLens' header": ("shop.csv", CSV.replace("user_id,item_id", "userId,movieId")),
    "headers in capitals": ("shop.csv", CSV.replace("user_id,item_id,timestamp", "User ID,ITEM_ID,Time")),
    "days": ("shop.csv", DATES),
    "days in an atomic file": ("shop.inter", DATES.replace(",", "\t")),
    "moments": ("shop.csv", DATES.replace("\n", " 12:30\n").replace("stamp 12:30", "stamp")),
    "moments in UTC": ("shop.csv", DATES.replace("\n", "T12:30:00Z\n").replace("stampT12:30:00Z", "stamp")),
    "MovieLens, colons": ("shop.dat", MOVIELENS),
    "MovieLens, gzipped": ("shop.dat.gz", MOVIELENS),
    "MovieLens, tabs": ("shop.data", MOVIELENS.replace("::", "\t")),
    "MovieLens with blank lines": ("shop.dat", "\n" + MOVIELENS.replace("\n", " \r\n\n")),
    "MovieLens, no line break at the end": ("shop.dat", MOVIELENS.rstrip()),
    "pairs": ("shop.txt", PAIRS),
    "pairs, gzipped": ("shop.txt.gz", PAIRS),
    "pairs with tabs and blank lines": (
        "shop.txt",
        "\n" + PAIRS.replace(" ", " \t ").replace("\n", " \r\n\n"),
    ),
    "sequences": ("shop.txt", SEQUENCES),
    "sequences with tabs and blank lines": ("shop.txt", SEQUENCES.replace(" ", "\t").replace("\n", "\n \n")),
}


@pytest.mark.parametrize("case", FILES)
def test_every_format_gives_the_same_histories(tmp_path: Path, case: str) -> None:
    dataset = read_dataset(write(tmp_path, *FILES[case]), k_core=0)
    assert as_ids(dataset) == HISTORIES
    assert dataset.user_ids == ["bob", "ann"]
    assert dataset.name == "shop"


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("inter", INTER),
        ("csv", CSV),
        ("movielens", MOVIELENS),
        ("pairs", PAIRS),
        ("sequences", SEQUENCES),
    ],
)
def test_a_named_format_needs_no_suffix(tmp_path: Path, form: str, text: str) -> None:
    assert as_ids(read_dataset(write(tmp_path, "events", text), format=form, k_core=0)) == HISTORIES


def test_columns_can_have_other_names(tmp_path: Path) -> None:
    text = CSV.replace("user_id,item_id,timestamp", "who,what,when")
    path = write(tmp_path, "shop.csv", text)
    assert as_ids(read_dataset(path, user="who", item="what", time="when", k_core=0)) == HISTORIES


def test_columns_can_have_any_order_and_other_columns_between(tmp_path: Path) -> None:
    path = write(tmp_path, "shop.csv", 'timestamp,note,item_id,x,user_id\n2,"a,\nb",tea,,ann\n1,,oil,,ann\n')
    assert as_ids(read_dataset(path, k_core=0)) == {"ann": ["oil", "tea"]}


def test_the_default_name_of_a_column_comes_before_other_spellings(tmp_path: Path) -> None:
    path = write(tmp_path, "shop.csv", "userId,user_id,item,item_id\nx,ann,y,tea\n")
    assert as_ids(read_dataset(path, k_core=0)) == {"ann": ["tea"]}


def test_without_a_time_column_the_order_of_the_file_counts(tmp_path: Path) -> None:
    path = write(tmp_path, "shop.csv", "user_id,item_id\nann,tea\nbob,tea\nann,oil\n")
    assert as_ids(read_dataset(path, k_core=0)) == {"ann": ["tea", "oil"], "bob": ["tea"]}


def test_times_are_sorted_as_numbers_and_not_as_text(tmp_path: Path) -> None:
    path = write(tmp_path, "shop.csv", "user_id,item_id,timestamp\nann,late,10\nann,early,9\nann,first,-1\n")
    assert as_ids(read_dataset(path, k_core=0)) == {"ann": ["first", "early", "late"]}


def test_times_in_nanoseconds_keep_their_last_digit(tmp_path: Path) -> None:
    rows = "ann,late,1700000000000000001\nann,early,1700000000000000000\n"
    path = write(tmp_path, "shop.csv", "user_id,item_id,timestamp\n" + rows)
    assert as_ids(read_dataset(path, k_core=0)) == {"ann": ["early", "late"]}


@pytest.mark.parametrize(
    ("texts", "numbers", "unit"),
    [
        (["1970-01-01", "1970-01-02"], [0, 86_400], "s"),
        (["1970-01-01T00:01", "1970-01-01 00:02:03"], [60, 123], "s"),
        (["1970-01-01T01:00:00+01:00", "1970-01-01T00:00:05Z"], [0, 5], "s"),
        (["1969-12-31 22:30:00-0130", "1970-01-01 00:00:05 UTC"], [0, 5], "s"),
        (["1970-01-01T00:00:01.25", "1970-01-01T00:00:01.5"], [1250, 1500], "ms"),
        (
            ["2024-01-31T00:00:00.000001", "2024-01-31T00:00:00.000002"],
            [1_706_659_200_000_001, 1_706_659_200_000_002],
            "us",
        ),
    ],
)
def test_dates_become_whole_numbers_of_the_coarsest_exact_unit(
    tmp_path: Path, texts: list[str], numbers: list[int], unit: str
) -> None:
    rows = [f"ann,{item},{text}" for item, text in zip("ab", texts, strict=True)]
    dataset = read_dataset(
        write(tmp_path, "shop.csv", "\n".join(["user_id,item_id,timestamp", *rows])), k_core=0
    )
    assert dataset.times is not None
    assert dataset.times.tolist() == numbers
    assert dataset.time_unit == unit


def test_times_have_the_order_of_the_events(tmp_path: Path) -> None:
    dataset = read_dataset(write(tmp_path, "shop.inter", INTER), k_core=0)
    assert dataset.times is not None
    assert dataset.times.tolist() == [1, 2, 0, 5, 5, 6]
    assert dataset.times.dtype == "int64"
    assert read_dataset(write(tmp_path, "shop.txt", PAIRS), k_core=0).times is None


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=30))
def test_events_with_the_same_time_keep_the_order_of_the_file(
    tmp_path_factory: pytest.TempPathFactory, events: list[tuple[int, int]]
) -> None:
    rows = [f"u{user},i{row},{time}" for row, (user, time) in enumerate(events)]
    path = write(tmp_path_factory.mktemp("ties"), "shop.csv", "\n".join(["user_id,item_id,timestamp", *rows]))
    expected: dict[str, list[str]] = {}
    for user, _ in events:
        expected.setdefault(f"u{user}", [])
    for row, (user, _) in sorted(enumerate(events), key=lambda numbered: numbered[1][1]):
        expected[f"u{user}"].append(f"i{row}")
    dataset = read_dataset(path, k_core=0)
    assert as_ids(dataset) == expected
    assert dataset.user_ids == list(expected)


def test_ids_are_text_even_if_they_look_like_numbers(tmp_path: Path) -> None:
    path = write(tmp_path, "shop.csv", "user_id,item_id\n007,1.0\n007,1\n7,01\n")
    assert as_ids(read_dataset(path, k_core=0)) == {"007": ["1.0", "1"], "7": ["01"]}


def test_ids_need_not_be_ascii(tmp_path: Path) -> None:
    path = write(tmp_path, "shop.txt", "Zoë café naïve\nØ 茶\n")
    assert as_ids(read_dataset(path, k_core=0)) == {"Zoë": ["café", "naïve"], "Ø": ["茶"]}


def test_a_quote_in_an_atomic_file_is_an_ordinary_character(tmp_path: Path) -> None:
    path = write(tmp_path, "shop.inter", 'user_id:token\titem_id:token\nann\t"tea\nann\to"il\n')
    assert as_ids(read_dataset(path, k_core=0)) == {"ann": ['"tea', 'o"il']}


def test_an_item_that_comes_again_stays_in_the_history_each_time(tmp_path: Path) -> None:
    path = write(tmp_path, "shop.txt", "ann tea tea oil tea\n")
    assert as_ids(read_dataset(path, k_core=0)) == {"ann": ["tea", "tea", "oil", "tea"]}


def test_items_are_numbered_in_their_order_after_the_filter(tmp_path: Path) -> None:
    # In the file, "rare" comes first and bob's "oil" second. The filter drops "rare" and bob.
    rows = ["ann,rare,9", "bob,oil,1", "ann,tea,3", "ann,oil,2", "cid,oil,1", "cid,tea,2"]
    path = write(tmp_path, "shop.csv", "\n".join(["user_id,item_id,timestamp", *rows]))
    dataset = read_dataset(path, k_core=2)
    assert dataset.user_ids == ["ann", "cid"]
    assert dataset.item_ids == ["tea", "oil"]
    assert as_ids(dataset) == {"ann": ["oil", "tea"], "cid": ["oil", "tea"]}


def test_the_default_minimum_is_five_interactions(tmp_path: Path) -> None:
    users = [f"u{n} a b c d e" for n in range(5)]
    path = write(tmp_path, "shop.txt", "\n".join([*users, "short a b"]))
    assert read_dataset(path).user_ids == [f"u{n}" for n in range(5)]
