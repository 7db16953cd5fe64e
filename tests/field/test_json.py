"""JSON as publishers and programs write it is read exactly, and what is wrong gives one sentence."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from cli.command import SMALL, recblr
from data.packing import as_ids
from hypothesis import given
from hypothesis import strategies as st

from recblr.data import Dataset, read_dataset
from recblr.errors import InputError

OTTO = {"user": "session", "item": "aid", "time": "ts"}


@dataclass(frozen=True)
class Good:
    """A file that can be read, and its histories."""

    shape: str  # whose files look like this
    text: str
    histories: dict[str, list[str]]
    options: dict[str, Any] = field(default_factory=dict)
    name: str = "log.jsonl"


AB = {"ann": ["tea", "oil"]}
GOOD = [
    Good(
        "Amazon reviews 2014, an object on each line, with lists that are not wanted",
        '{"reviewerID": "A1", "asin": "0001", "helpful": [0, 2], "overall": 5.0, "unixReviewTime": 9}\n'
        '{"reviewerID": "A1", "asin": "0002", "helpful": [], "overall": 4.0, "unixReviewTime": 8}\n',
        {"A1": ["0002", "0001"]},
        {"user": "reviewerID", "item": "asin", "time": "unixReviewTime"},
        "reviews_Beauty_5.json",
    ),
    Good(
        "Amazon reviews 2018, with objects that differ",
        '{"reviewerID": "A1", "asin": "B1", "style": {"Size:": " L"}, "unixReviewTime": 2, "vote": "3"}\n'
        '{"reviewerID": "A1", "asin": "B2", "unixReviewTime": 1, "image": ["x.jpg"]}\n',
        {"A1": ["B2", "B1"]},
        {"user": "reviewerID", "item": "asin", "time": "unixReviewTime"},
    ),
    Good(
        "Amazon reviews 2023, milliseconds, usual names",
        '{"rating": 5.0, "images": [], "parent_asin": "B1", "user_id": "AE", "timestamp": 1588687728923}\n'
        '{"rating": 3.0, "images": [{"small": "x"}], "parent_asin": "B2", "user_id": "AE", "timestamp": 7}\n',
        {"AE": ["B2", "B1"]},
        {"item": "parent_asin"},
    ),
    Good(
        "Yelp, dates as texts",
        '{"review_id":"r1","user_id":"u","business_id":"b1","stars":3.0,"date":"2018-07-07 22:09:11"}\n'
        '{"review_id":"r2","user_id":"u","business_id":"b2","stars":5.0,"date":"2016-03-09 22:14:36"}\n',
        {"u": ["b2", "b1"]},
        {"item": "business_id", "time": "date"},
        "yelp_academic_dataset_review.json",
    ),
    Good(
        "Goodreads, book ids as texts and numbers",
        '{"user_id": "8842", "book_id": "24375664", "rating": 5}\n{"user_id": 8842, "book_id": 24375664}\n',
        {"8842": ["24375664", "24375664"]},
        {"item": "book_id"},
    ),
    Good(
        "Steam reviews, a dict of Python 2 on each line",
        "{u'username': u'x', u'product_id': u'725280', u'date': u'2017-12-17', u'early': False}\n"
        "{u'username': u'x', u'product_id': u'328100', u'date': u'2017-12-02', u'text': u\"it's\\d\"}\n",
        {"x": ["328100", "725280"]},
        {"user": "username", "item": "product_id", "time": "date"},
        "steam_reviews.json",
    ),
    Good(
        "Steam, a character in two escapes",
        "{'user': u'\\ud83d\\ude00', 'item': 1}",
        {"😀": ["1"]},
    ),
    Good(
        "Otto, sessions with events (RecSys 2022)",
        '{"session": 0, "events": [{"aid": 1517085, "ts": 1659304800025, "type": "clicks"}, '
        '{"aid": 1563459, "ts": 1659304904511, "type": "carts"}]}\n'
        '{"session": 1, "events": [{"aid": 7, "ts": 2, "type": "carts"}, {"aid": 8, "ts": 1}]}\n',
        {"0": ["1517085", "1563459"], "1": ["8", "7"]},
        OTTO,
    ),
    Good(
        "Otto, full names",
        '{"session": 0, "events": [{"aid": 5, "ts": 2}, {"aid": 6, "ts": 1}]}\n',
        {"0": ["6", "5"]},
        {"user": "session", "item": "events.aid", "time": "events.ts"},
    ),
    Good(
        "a session without events, which is counted",
        '{"session": 3, "events": []}\n{"session": 4, "events": [{"aid": 5, "ts": 2}]}\n',
        {"4": ["5"]},
        OTTO,
    ),
    Good(
        "a product with its reviews: the users are in the list",
        '{"asin": "B1", "reviews": [{"user_id": "a", "timestamp": 2}, {"user_id": "b", "timestamp": 1}]}\n'
        '{"asin": "B2", "reviews": [{"user_id": "a", "timestamp": 1}]}\n',
        {"a": ["B2", "B1"], "b": ["B1"]},
        {"user": "reviews.user_id", "item": "asin", "time": "reviews.timestamp"},
    ),
    Good(
        "one object around all records (an API's answer)",
        '{"count": 2, "results": [{"user_id": 1, "item_id": 2}, {"user_id": 1, "item_id": 3}]}',
        {"1": ["2", "3"]},
        {"user": "results.user_id", "item": "results.item_id"},
        "export.json",
    ),
    Good(
        "MongoDB's export, identifiers and dates in objects",
        '{"_id": {"$oid": "1"},"user": {"$oid": "5f0"},"item": {"sku": "a"},"at": {"$date": "2020-01-02"}}\n'
        '{"_id": {"$oid": "2"},"user": {"$oid": "5f0"},"item": {"sku": "b"},"at": {"$date": "2020-01-01"}}\n',
        {"5f0": ["b", "a"]},
        {"user": "user.$oid", "item": "sku", "time": "at.$date"},
    ),
    Good(
        "an array (pandas: orient=records)",
        '[{"user_id":1,"item_id":2},{"user_id":1,"item_id":3}]',
        {"1": ["2", "3"]},
    ),
    Good(
        "an array, indented",
        json.dumps([{"user_id": "ann", "item_id": "tea"}, {"user_id": "ann", "item_id": "oil"}], indent=2),
        AB,
        {},
        "log.json",
    ),
    Good(
        "an array, an object on each line",
        '[\n{"user_id":"ann","item_id":"tea"}\n,\n{"user_id":"ann","item_id":"oil"}\n]\n',
        AB,
    ),
    Good(
        "indented objects (jq)",
        '{\n "user_id": "ann",\n "item_id": "tea"\n}\n{\n "user_id": "ann",\n "item_id": "oil"\n}',
        AB,
    ),
    Good(
        "Windows' line ends, blank lines, a byte order mark",
        '\ufeff{"user":"ann","item":"tea"}\r\n\r\n{"user":"ann","item":"oil"}\r\n',
        AB,
    ),
    Good(
        "names in another order, and more in later lines",
        '{"item_id":"tea","timestamp":1,"user_id":"ann"}\n{"x":{},"user_id":"ann","timestamp":2,"item_id":"oil"}',
        AB,
    ),
    Good(
        "ids with spaces and escapes",
        '{"user_id":" \\u0061nn ","item_id":"tea"}\n{"user_id":"ann","item_id":"o\\u0069l\\t"}',
        AB,
    ),
    Good(
        "numbers beyond 2**53 and 2**63",
        '{"user_id":9007199254740993,"item_id":9007199254740992}\n'
        '{"user_id":9007199254740993,"item_id":18446744073709551617}',
        {"9007199254740993": ["9007199254740992", "18446744073709551617"]},
    ),
    Good(
        "times as numbers and as texts of numbers, beyond 2**53",
        '{"user":1,"item":2,"time":9007199254740993}\n{"user":1,"item":3,"time":"9007199254740992"}',
        {"1": ["3", "2"]},
    ),
    Good(
        "times with fractions",
        '{"user":1,"item":2,"time":1.5}\n{"user":1,"item":3,"time":1}',
        {"1": ["3", "2"]},
    ),
    Good(
        "an id that is a number or a text",
        '{"user":7,"item":1}\n{"user":"7","item":"1"}\n{"user":"07","item":1}',
        {"7": ["1", "1"], "07": ["1"]},
    ),
    Good(
        "a basket: all items at one time",
        '{"user":1,"items":["b","a"],"time":5}\n{"user":1,"items":["c"],"time":4}',
        {"1": ["c", "b", "a"]},
        {"item": "items"},
    ),
    Good(
        "single elements without brackets (from XML)",
        '{"user":1,"items":["b","a"]}\n{"user":1,"items":"c"}',
        {"1": ["b", "a", "c"]},
        {"item": "items"},
    ),
    Good(
        "sessions in lists in lists",
        '{"user":1,"visits":[{"at":2,"items":["c","d"]},{"at":1,"items":["a"]}]}',
        {"1": ["a", "c", "d"]},
        {"item": "items", "time": "at"},
    ),
    Good("a name twice, which is not wanted", '{"user":1,"item":2,"x":1,"x":2}', {"1": ["2"]}),
    Good("NaN and null that are not wanted", '{"user":1,"item":2,"x":NaN,"y":null,"z":true}', {"1": ["2"]}),
    Good(
        "a null in place of an object that is not wanted",
        '{"user":1,"item":2,"x":null}\n{"user":1,"item":3,"x":{"y":1}}',
        {"1": ["2", "3"]},
    ),
]


def write(folder: Path, text: str, name: str = "log.jsonl") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8", newline="")
    return path


@pytest.mark.parametrize("case", GOOD, ids=lambda case: case.shape)
def test_it_is_read(tmp_path: Path, case: Good) -> None:
    assert (
        as_ids(read_dataset(write(tmp_path, case.text, case.name), k_core=0, **case.options))
        == case.histories
    )


def test_a_session_without_events_is_counted(tmp_path: Path) -> None:
    text = '{"session": 3, "events": []}\n{"session": 4, "events": [{"aid": 5, "ts": 2}]}\n'
    reading = read_dataset(write(tmp_path, text), k_core=0, **OTTO).reading
    assert reading is not None
    assert reading.read == 2
    assert reading.dropped == {"without any value": 1}


TWO = '{"user_id":1,"item_id":2,"timestamp":3}\n'
BAD: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "a broken line": (
        TWO + '{"user_id":1,"item_id":}\n' + TWO,
        ("line 2 is not valid JSON (Expecting value", "drop it"),
        {},
    ),
    "a line cut off": (TWO * 2 + '{"user_id":1,"item', ("line 3 is not valid JSON",), {}),
    "the first line cut off": (
        '{"user_id":1,"item_id":2\n' + TWO,
        ("line 1 (which starts there, and is wrong in line 2)",),
        {},
    ),
    "two objects on a line": (TWO + TWO.strip() * 2, ("line 2 is not valid JSON (Extra data",), {}),
    "a comma after each line": (TWO.strip() + ",\n" + TWO, ("line 1 is not valid JSON",), {}),
    "text": (
        "user_id,item_id\n1,2\n",
        ("line 1 is not JSON: it starts with 'user_id,item_id'", "--format"),
        {},
    ),
    "a text among lines": (TWO + '"x"\n', ("line 2 holds a text, but each event must be in an object",), {}),
    "an array among lines": (TWO + "[1]\n", ("line 2 holds a list",), {}),
    "an array of arrays": ("[[1,2],\n[1,3]]", ("line 1 holds a list",), {}),
    "an array of numbers": ('[{"user":1,"item":2},\n3]', ("line 2 holds a number",), {}),
    "an array on each line": (
        '[{"user":1,"item":2}]\n[{"user":1,"item":2}]',
        ("line 2: the array of objects has ended",),
        {},
    ),
    "an array cut off": (
        '[{"user":1,"item":2},\n{"user":1,"item":3}',
        ("ends in the middle of its array",),
        {},
    ),
    "an array cut off after a comma": ('[{"user":1,"item":2},', ("line 1 is not valid JSON",), {}),
    "an array with a comma missing": (
        '[{"user":1,"item":2}\n{"user":1,"item":3}]',
        ("line 2: after an object", "commas between"),
        {},
    ),
    "an empty array": ("[ ]", ("has no objects",), {}),
    "an empty object": (TWO + "{}\n", ("line 2 has no value in column 'user_id'",), {}),
    "a missing name": (
        TWO + '{"user_id":1,"item_id":2}\n',
        ("line 2 has no value in column 'timestamp'",),
        {},
    ),
    "null": (
        TWO + '{"user_id":1,"item_id":null,"timestamp":3}',
        ("line 2 has no value in column 'item_id'",),
        {},
    ),
    "a text of spaces": (
        TWO + '{"user_id":" ","item_id":1,"timestamp":3}',
        ("line 2 has no value in column 'user_id'",),
        {},
    ),
    "true": (
        TWO + '{"user_id":true,"item_id":1,"timestamp":3}',
        ("line 2 has true in the user column 'user_id'",),
        {},
    ),
    "a fraction": (
        TWO + '{"user_id":1.0,"item_id":1,"timestamp":3}',
        ("line 2 has the number 1.0 in the user column",),
        {},
    ),
    "NaN as an id": (
        TWO + '{"user_id":NaN,"item_id":1,"timestamp":3}',
        ("line 2 has the number nan in the user",),
        {},
    ),
    "NaN as a time": (
        TWO + '{"user_id":1,"item_id":1,"timestamp":NaN}',
        ("line 2: 'nan' in the time column",),
        {},
    ),
    "a time beyond all numbers": (
        TWO + '{"user_id":1,"item_id":1,"timestamp":1e999}',
        ("line 2: 'inf' in the time",),
        {},
    ),
    "a time that is true": (
        TWO + '{"user_id":1,"item_id":1,"timestamp":true}',
        ("line 2 has true in the time column",),
        {},
    ),
    "a time in words": (
        TWO + '{"user_id":1,"item_id":1,"timestamp":"soon"}',
        ("line 2: 'soon' in the time column",),
        {},
    ),
    "a rating in words": (
        '{"user":1,"item":2,"rating":4}\n{"user":1,"item":2,"rating":"good"}',
        ("line 2: 'good' in the rating column",),
        {"min_rating": 1},
    ),
    "an object as an id": (
        TWO + '{"user_id":{"a":1},"item_id":1,"timestamp":3}',
        ("no column 'user_id'", "'user_id.a'"),
        {},
    ),
    "an object in a list as an id": (
        '{"user":1,"item":[1]}\n{"user":1,"item":[{"id":1}]}',
        ("no column 'item_id'", "'item.id'"),
        {},
    ),
    "a wanted name twice": (
        TWO + '{"user_id":1,"user_id":2,"item_id":1,"timestamp":3}',
        ("line 2 has two values in the user",),
        {},
    ),
    "a wanted name twice, in an event": (
        '{"session":1,"events":[{"aid":1,"aid":2,"ts":3}]}',
        ("line 1 has two values in the item",),
        OTTO,
    ),
    "a name twice in a dict of Python": ("{'user':1,'user':2,'item':3}", ("line 1 is not valid JSON",), {}),
    "a dict of Python with a list for a name": ("{[1]: 2}\n", ("line 1 is not valid JSON",), {}),
    "an expression of Python": (
        "{'user':1,'item':2}\n{'user':1,'item':open('x')}",
        ("line 2 is not valid JSON",),
        {},
    ),
    "a value of Python that is no id": (
        "{'user':1,'item':b'x'}",
        ("line 1 has a bytes in the item column",),
        {},
    ),
    "a large number of Python": (
        "{'user':1,'item':0x" + "f" * 9999 + "}",
        ("number of too many digits",),
        {},
    ),
    "half of a character": (
        TWO + '{"user_id":"\\ud800","item_id":1,"timestamp":3}',
        ("line 2 has half of a character", r"'\ud800'"),
        {},
    ),
    "a number with 5000 digits": (
        TWO + '{"user_id":1,"item_id":' + "9" * 5000 + "}",
        ("line 2 is not valid JSON (Exceeds",),
        {},
    ),
    "deep lists": (
        TWO + '{"x":' + "[" * 99999 + "]" * 99999 + "}",
        ("line 2 is not valid JSON (it is nested too deeply)",),
        {},
    ),
    "deep objects": ('{"x":' * 99999 + "1" + "}" * 99999, ("nested too deeply",), {}),
    "deep objects in an array": ("[" + '{"x":' * 99999 + "1" + "}" * 99999 + "]", ("nested too deeply",), {}),
    "a deep dict of Python": (
        "{'user':1,'item':2,'x':" + "-" * 99999 + "1}",
        ("line 1 is not valid JSON",),
        {},
    ),
    "times and items of different lengths": (
        '{"user":1,"items":["a","b"],"time":[1,2]}\n{"user":1,"items":["a","b"],"time":[1]}',
        ("line 2 has 2 elements in column 'items' and 1 in column 'time'",),
        {"item": "items"},
    ),
    "a null in a list": (
        '{"user":1,"items":["a"]}\n{"user":1,"items":["a",null]}',
        ("line 2, element 1 (from 0) has no value in column 'items'",),
        {"item": "items"},
    ),
    "a null in place of a list": (
        '{"user":1,"items":["a"]}\n{"user":1,"items":null}',
        ("line 2 has no value in column 'items'",),
        {"item": "items"},
    ),
    "an event without its time": (
        '{"session":1,"events":[{"aid":1,"ts":3},{"aid":2}]}',
        ("line 1, element 1 (from 0) has no value in column 'events.ts'",),
        OTTO,
    ),
    "lists of users and of items": (
        '{"users":["a","b"],"items":["c","d"]}',
        ("line 1 has a list in column 'users'",),
        {"user": "users", "item": "items"},
    ),
    "no events at all": ('{"user":1,"item":[]}', ("no rows but empty lists in its 1 rows",), {}),
    "an inner name that two have": (
        '{"user":{"id":1},"item":{"id":2}}',
        ("'user.id', 'item.id', and 'id' may be any", "--user-column"),
        {"user": "id"},
    ),
    "a name that an object and a nested one make": (
        '{"user.id":1,"user":{"id":2},"item":3}',
        ("2 columns called 'user.id'",),
        {"user": "user.id"},
    ),
    "a time column that comes late": (
        '{"user":1,"item":2}\n{"user":1,"item":3,"timestamp":1}',
        ("line 1 has no value in column 'timestamp'",),
        {},
    ),
    "nothing": (" \n", ("is empty",), {}),
    "UTF-16": ("\0", ("is not text",), {}),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_wrong_gives_one_sentence(tmp_path: Path, case: str) -> None:
    text, says, options = BAD[case]
    with pytest.raises(InputError) as raised:
        read_dataset(write(tmp_path, text), k_core=0, **options)
    message = str(raised.value)
    assert "\n" not in message
    assert str(tmp_path / "log.jsonl") in message
    for part in says:
        assert part in message


def test_no_depth_gives_a_traceback(tmp_path: Path) -> None:
    for depth in [*range(900, 1000, 5), 5000, 20000]:
        text = '{"user_id":1,"item_id":2,"x":' + '{"x":[' * (depth // 2) + "1" + "]}" * (depth // 2) + "}"
        try:
            read_dataset(write(tmp_path, text), k_core=0)
        except InputError as error:
            assert "line 1 is not valid JSON (it is nested too deeply)" in str(error)  # noqa: PT017


def test_names_nested_too_deeply_give_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Later versions of Python parse such a text, and the function that collects the names then fails.
    def too_deep(*_: object) -> None:
        raise RecursionError

    monkeypatch.setattr("recblr.data.read.json.Names.add", too_deep)
    with pytest.raises(InputError, match=r"line 1 is not valid JSON \(it is nested too deeply\)"):
        read_dataset(write(tmp_path, TWO), k_core=0)


IDS = st.text(max_size=3) | st.integers() | st.integers(2**53 - 2, 2**53 + 2) | st.sampled_from(["7", 7])
TIMES = st.integers(-(2**62), 2**62)


@given(rows=st.lists(st.tuples(IDS, IDS, TIMES), min_size=1, max_size=9), ascii_only=st.booleans())
def test_it_is_the_same_as_a_frame_of_texts(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, Any, int]], ascii_only: bool
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    objects = [{"user_id": user, "item_id": item, "timestamp": time} for user, item, time in rows]
    frame = pl.DataFrame(
        [{**row, "user_id": str(row["user_id"]), "item_id": str(row["item_id"])} for row in objects]
    )

    def seen(read: Any) -> object:
        try:
            data: Dataset = read()
        except InputError as error:
            return "no value in column" in str(error) or str(error)
        return as_ids(data), None if data.times is None else data.times.tolist()

    expected = seen(lambda: Dataset.from_frame(frame, k_core=0))
    shapes = {
        "lines": "\n".join(json.dumps(row, ensure_ascii=ascii_only) for row in objects),
        "array": json.dumps(objects, ensure_ascii=ascii_only, indent=1),
        "dicts of Python": "\n".join(map(repr, objects)),
    }
    for text in shapes.values():
        path = write(folder, text)
        assert seen(partial(read_dataset, path, k_core=0)) == expected


def test_a_model_trains_on_it(tmp_path: Path) -> None:
    sessions = [
        {"session": user, "events": [{"aid": (user + t) % 7, "ts": t, "type": "clicks"} for t in range(6)]}
        for user in range(20)
    ]
    file = write(tmp_path, "\n".join(map(json.dumps, sessions)), "otto.jsonl")
    columns = ["--user-column", "session", "--item-column", "aid", "--time-column", "ts"]
    seen = recblr("train", file, *columns, "--epochs", "1", "--out", tmp_path / "run", *SMALL)
    assert seen.code == 0, seen.err
    assert "120" in seen.out
    assert recblr("recommend", tmp_path / "run", "--user", "3").code == 0
