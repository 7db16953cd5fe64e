"""Text files as people have them: one table for each kind of file, and each row says where the shape is from.

A file that can be read in two ways is refused, and the remedy of the error is tried: then the file is read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from data.packing import as_ids

from recblr.data import read_dataset
from recblr.errors import InputError

Histories = dict[str, list[str]]


@dataclass(frozen=True)
class Shape:
    """A file, and what becomes of it.

    where: where files of this shape are found.
    says: parts of the error; empty if the file is read as it is.
    remedy: the options that the error advises. Empty if the file itself must be corrected.
    options: the options of the first attempt.
    gives: the histories, after the remedy if there is one.
    """

    where: str
    name: str
    text: str
    says: tuple[str, ...] = ()
    remedy: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    gives: Histories = field(default_factory=dict)


ANN: Histories = {"ann": ["tea", "oil"]}


def forty(sixth: str, mark: str = ",") -> str:
    """A table of 40 rows. The sixth, which is line 7 of the file, is given."""
    rows = [f"u{n % 4},i{n % 7},{n % 5},Title {n}" for n in range(39)]
    rows.insert(5, sixth)
    return "\n".join(["user_id,item_id,rating,title", *rows]).replace(",", mark) + "\n"


def without_quotes(text: str) -> Histories:
    histories: Histories = {}
    for line in text.splitlines()[1:]:
        user, item = line.replace("\t", ",").split(",")[:2]
        histories.setdefault(user, []).append(item)
    return histories


OPEN, INCH = forty('u1,i5,5,"Heroes'), forty('u1,i5,5,7" single')

QUOTES = [
    Shape(
        "a title whose closing quote was cut off",
        "a.csv",
        OPEN,
        ("line 7 cannot be read", "--no-quotes"),
        {"quotes": False},
        gives=without_quotes(OPEN),
    ),
    Shape("a record in inches", "a.csv", INCH, gives=without_quotes(INCH)),
    Shape("a record in inches", "a.tsv", INCH.replace(",", "\t"), gives=without_quotes(INCH)),
    Shape(
        "an artist with a name in quotes, in LastFM's tab-separated files",
        "a.tsv",
        'user_id\titem_id\nann\t"Weird Al" Yankovic\n',
        ("line 2 cannot be read", "--no-quotes"),
        {"quotes": False},
        gives={"ann": ['"Weird Al" Yankovic']},
    ),
    Shape(
        "a review with quotes and line breaks",
        "a.csv",
        'user_id,item_id,review\nann,tea,"He said ""no"",\nand left"\nann,oil,\n',
        gives=ANN,
    ),
    Shape(
        "a spreadsheet's quotes around everything",
        "a.csv",
        '"user_id","item_id"\n"ann","tea"\n"ann","oil"\n',
        gives=ANN,
    ),
    Shape(
        "a review of 200 kB",
        "a.csv",
        f'user_id,item_id,review\nann,tea,"{"long, " * 35_000}"\nann,oil,\n',
        gives=ANN,
    ),
    Shape("line ends of old Macintosh programs", "a.csv", "user_id,item_id\rann,tea\rann,oil\r", gives=ANN),
]

YOOCHOOSE = "1,2014-04-07T10:54:09.868Z,oil,0\n1,2014-04-07T10:51:09.277Z,tea,0\n"
AMAZON = "B1,ann,5.0,1500000002\nA9,ann,3.0,1500000001\n"
GOWALLA = "0\t2010-10-19T23:55:27Z\t30.23\t-97.79\t22847\n0\t2010-10-18T22:17:43Z\t30.26\t-97.76\t420315\n"

WITHOUT_HEADER = [
    Shape(
        "a quote without an end in the first line",
        "a.csv",
        'ann,tea,"Heroes\nann,oil,x\n',
        ("line 1 cannot be read", "--no-quotes"),
        {"columns": "user,item,-", "quotes": False},
        {"columns": "user,item,-"},
        ANN,
    ),
    Shape(
        "YooChoose, clicks.dat (RecSys 2015)",
        "clicks.dat",
        YOOCHOOSE,
        ("no `::` and no tab", "--columns"),
        {"columns": "user,time,item,-"},
        gives={"1": ["tea", "oil"]},
    ),
    Shape(
        "the same with tabs",
        "clicks.dat",
        YOOCHOOSE.replace(",", "\t"),
        ("is not user, item, rating and timestamp", "--columns"),
        {"columns": ("user", "time", "item", "-")},
        gives={"1": ["tea", "oil"]},
    ),
    Shape(
        "Amazon 2018, ratings only: the item comes first",
        "Books.csv",
        AMAZON,
        ("seems to have no header", "'1500000002'", "--columns"),
        {"columns": "item,user,rating,time"},
        gives={"ann": ["A9", "B1"]},
    ),
    Shape(
        "the same, read with the names of its first row",
        "Books.csv",
        AMAZON,
        ("seems to have no header", "--columns"),
        {"columns": "item,user,rating,time"},
        options={"item": "B1", "user": "ann"},
        gives={"ann": ["A9", "B1"]},
    ),
    Shape(
        "Amazon's ratings called .dat",
        "ratings.dat",
        AMAZON,
        ("no `::` and no tab", "--columns"),
        {"columns": "item,user,rating,time"},
        gives={"ann": ["A9", "B1"]},
    ),
    Shape(
        "Taobao, UserBehavior.csv",
        "UserBehavior.csv",
        "1,2268318,2520377,pv,1511544071\n1,2333346,2520771,pv,1511544070\n",
        ("seems to have no header", "--columns"),
        {"columns": "user,item,-,-,time"},
        gives={"1": ["2333346", "2268318"]},
    ),
    Shape(
        "Gowalla, loc-gowalla_totalCheckins.txt",
        "checkins.txt",
        GOWALLA,
        ("every line", "5 words", "--columns"),
        {"columns": "user,time,-,-,item"},
        gives={"0": ["420315", "22847"]},
    ),
    Shape(
        "LastFM 1K: tabs, names with spaces and quotes",
        "events.tsv",
        'u1\t2009-05-04T23:08:57Z\t\tUnderworld\t\tBoy, "Boy"\nu1\t2009-05-04T13:54:10Z\t\t"Air"\t\tRun\n',
        ("no header", "--columns"),
        {"columns": "user,time,-,item,-,-", "quotes": False},
        gives={"u1": ['"Air"', "Underworld"]},
    ),
    Shape(
        "names of columns in the order of the file, which has a header",
        "a.csv",
        "user_id,item_id,timestamp\nann,oil,2\nann,tea,1\n",
        ("looks like a header", "leave --columns out"),
        options={"columns": "user,item,time"},
    ),
    Shape(
        "three words in each line: a user, an item and a time, or a user and two items",
        "a.txt",
        "ann oil 9\nbob tea 8\n",
        ("every line", "3 words", "--columns", "sequences"),
        {"columns": "user,item,time"},
        gives={"ann": ["oil"], "bob": ["tea"]},
    ),
    Shape(
        "the same, as histories",
        "a.txt",
        "ann oil 9\nbob tea 8\n",
        ("every line",),
        {"format": "sequences"},
        gives={"ann": ["oil", "9"], "bob": ["tea", "8"]},
    ),
    Shape(
        "a table with spaces whose users come again",
        "a.txt",
        "ann oil 9\nann tea 8\n",
        ("--columns",),
        {"columns": "user,item,time"},
        gives=ANN,
    ),
    Shape("pairs with a header", "a.txt", "user_id item_id\nann tea\n", ("is a header", "remove it")),
    Shape(
        "columns that are too few",
        "a.csv",
        AMAZON,
        ("4 field(s)", "names 3"),
        {"columns": "item,user,-,time"},
        {"columns": "item,user,time"},
        {"ann": ["A9", "B1"]},
    ),
    Shape(
        "a time that is not named",
        "a.csv",
        AMAZON,
        ("field 4", "'1500000002'", "name it time"),
        {"columns": "item,user,-,time"},
        {"columns": "item,user,-,-"},
        {"ann": ["A9", "B1"]},
    ),
    Shape(
        "a column for the user only",
        "a.csv",
        AMAZON,
        ("does not name item",),
        options={"columns": "-,user,-,time"},
    ),
    Shape(
        "a misspelt word",
        "a.csv",
        AMAZON,
        ("'itme'", "user, item, time"),
        options={"columns": "itme,user,-,time"},
    ),
    Shape(
        "numbers as the names of columns, from pandas",
        "a.csv",
        "0,1,2\nann,oil,2\nann,tea,1\n",
        options={"user": "0", "item": "1", "time": "2"},
        gives=ANN,
    ),
]

BACKWARDS = "user_id,item_id,{}\nann,oil,{}\nann,tea,{}\n"

ORDER = [
    Shape(
        "a log of events, the newest first",
        "a.csv",
        BACKWARDS.format("ts", 1700000002, 1700000001),
        ("'ts' may hold the times", "--time-column ts"),
        {"time": "ts"},
        gives=ANN,
    ),
    Shape(
        "a name that a shell would take apart",
        "a.csv",
        BACKWARDS.format("time $ (ms)", 1700000002000, 1700000001000),
        ("--time-column 'time $ (ms)' (time= in Python)",),
        {"time": "time $ (ms)"},
        gives=ANN,
    ),
    Shape(
        "the same, taken as it stands",
        "a.csv",
        BACKWARDS.format("ts", 1700000002, 1700000001),
        ("--file-order",),
        {"file_order": True},
        gives={"ann": ["oil", "tea"]},
    ),
    Shape(
        "a time in a column whose name says nothing",
        "a.csv",
        BACKWARDS.format("x", 1700000002000, 1700000001000),
        ("'x' may hold the times",),
        {"time": "x"},
        gives=ANN,
    ),
    Shape(
        "dates in a column whose name says nothing",
        "a.csv",
        BACKWARDS.format("x", "2024-01-02", "2024-01-01"),
        ("'x' may hold the times",),
        {"time": "x"},
        gives=ANN,
    ),
    Shape(
        "a number that is no time", "a.csv", BACKWARDS.format("price", 12, 11), gives={"ann": ["oil", "tea"]}
    ),
    Shape(
        "Foursquare (TSMC 2014): a zone and a time",
        "a.csv",
        "user_id,item_id,timezoneOffset,utcTimestamp\nann,oil,-240,Tue Apr 03 18:00:09 +0000 2012\n"
        "ann,tea,-240,Tue Apr 03 17:59:09 +0000 2012\n",
        ("'utcTimestamp' or 'timezoneOffset' may hold the times", "--time-column utcTimestamp"),
        {"time": "utcTimestamp"},
        gives=ANN,
    ),
]

ORDER += [
    Shape(
        f"a column whose name says nothing, with times such as {late}",
        "a.csv",
        f'user_id,item_id,x\nann,oil,"{late}"\nann,tea,"{early}"\n',
        ("'x' may hold the times", "--file-order"),
        {"file_order": True},
        gives={"ann": ["oil", "tea"]},
    )
    for late, early in [
        ("01.02.2024 10:00", "31.01.2024 10:00"),
        ("02/01/2024 10:00 PM", "1/31/2024 9:00 AM"),
        ("2/1/24", "1/31/24"),
        ("2024/02/01", "2024/01/31"),
        ("1-Feb-2024", "31-Jan-2024"),
        ("February 1, 2024", "Jan 31, 2024 6:30 PM"),
        ("20240201T101500Z", "20240131T101500Z"),
        ("20240201", "20240131"),
        ("20240201101500", "20240131101500"),
    ]
] + [
    Shape(
        f"values that are no times, such as {value}",
        "a.csv",
        f"user_id,item_id,x\nann,oil,{value}\nann,tea,{value}\n",
        gives={"ann": ["oil", "tea"]},
    )
    for value in ["1.2.3", "10.1.2.3", "20249999", "May", "May the force"]
]

TWO_UNITS = BACKWARDS.format("timestamp", 1600000000000, 1700000000)

TIMES = [
    Shape(where, "a.csv", f'user_id,item_id,timestamp\nann,oil,"{late}"\nann,tea,"{early}"\n', gives=ANN)
    for where, late, early in [
        ("PostgreSQL", "2017-07-14 02:40:01+00", "2017-07-14 03:40:00+01"),
        ("a comma as decimal mark (ISO 8601)", "2017-07-14 02:40:00,2", "2017-07-14 02:40:00,1"),
        ("nine digits of a second", "2017-07-14T02:40:00.000000002Z", "2017-07-14T02:40:00.000000001Z"),
        ("Twitter", "Tue Apr 03 20:00:10 +0200 2012", "Tue Apr 03 18:00:09 +0000 2012"),
        ("a far year with fractions", "9999-12-31 23:59:59.5", "9999-12-31 23:59:59.25"),
        ("a day and a moment", "2024-01-02", "2024-01-01T23:59:59.999"),
    ]
] + [
    Shape(
        "Diginetica (CIKM Cup 2016): a date, and milliseconds since the session began",
        "train-item-views.csv",
        "sessionId;userId;itemId;timeframe;eventdate\nann;;oil;1031018;2016-05-09\nann;;tea;526309;2016-05-09\n",
        ("their unit is unknown", "--offset-unit"),
        {"user": "sessionId", "time": "eventdate+timeframe", "offset_unit": "ms"},
        {"user": "sessionId", "time": "eventdate+timeframe"},
        ANN,
    ),
    Shape(
        "a date and a time of day in two columns",
        "a.csv",
        "user_id,item_id,date,clock\nann,oil,2024-01-02,9:30\nann,tea,2024-01-01,23:59:59\n",
        options={"time": "date + clock"},
        gives=ANN,
    ),
    Shape(
        "seconds, and milliseconds since a new version of the program",
        "a.csv",
        TWO_UNITS,
        ("different units", "1700000000 in s", "1600000000000 in ms"),
    ),
    Shape(
        "times that a spreadsheet has rounded",
        "a.csv",
        BACKWARDS.format("timestamp", "1.7E+12", "1.7E+12"),
        ("rounded", "1.7E+12", "all digits"),
    ),
    Shape(
        "all digits of a time, as NumPy writes them",
        "a.csv",
        BACKWARDS.format("timestamp", "1.700000002e+09", "1.700000001e+09"),
        gives=ANN,
    ),
    Shape(
        "days since 1970, and a time of day",
        "a.csv",
        "user_id,item_id,day,clock\nann,oil,19755,9:30\nann,tea,19754,23:59:59\n",
        ("whose unit is unknown", "--time-unit"),
        {"time": "day+clock", "time_unit": "d"},
        {"time": "day+clock"},
        ANN,
    ),
    Shape(
        "seconds with fractions, and a time of day",
        "a.csv",
        "user_id,item_id,day,clock\nann,oil,19755.5,9:30\nann,tea,19754,23:59:59\n",
        ("numbers with fractions", "whole numbers before the +"),
        options={"time": "day+clock", "time_unit": "s"},
    ),
    Shape(
        "a unit for dates",
        "a.csv",
        BACKWARDS.format("timestamp", "2024-01-02", "2024-01-01"),
        ("are dates", "--time-unit", "leave it out"),
        options={"time_unit": "s"},
    ),
    Shape("a time that is 0", "a.csv", BACKWARDS.format("timestamp", 1700000000, 0), gives=ANN),
    Shape(
        "the same two units, and 0", "a.csv", f"{TWO_UNITS}ann,rum,0\n", ("different units", "convert all")
    ),
    Shape(
        "numbers with more digits than a float64 keeps",
        "a.csv",
        "user_id,item_id,timestamp\nann,oil,1397053479.123456789\nann,tea,1397053479.123456788\n",
        ("too many digits", "whole numbers"),
    ),
]

SEPARATORS = [
    Shape("bars, from a mainframe", "a.csv", "user_id|item_id\nann|tea\nann|oil\n", gives=ANN),
    Shape("Excel's first line", "a.csv", "sep=;\nuser_id;item_id\nann;tea\nann;oil\n", gives=ANN),
    Shape(
        "spaces in a table",
        "a.csv",
        "user_id item_id\nann tea\nann   oil\n",
        ("has no comma", "it has spaces", "--separator space"),
        {"separator": "space"},
        gives=ANN,
    ),
    Shape(
        "spaces in an atomic file",
        "a.inter",
        "user_id:token item_id:token\nann tea\nann oil\n",
        ("has no tab", "it has spaces", "--separator space"),
        {"separator": "space"},
        gives=ANN,
    ),
    Shape(
        "commas called .tsv",
        "a.tsv",
        "user_id,item_id\nann,tea\nann,oil\n",
        ("has no tab", "it has commas", "--separator ','"),
        {"separator": ","},
        gives=ANN,
    ),
    Shape(
        "another character",
        "a.csv",
        "user_id^item_id\nann^tea\nann^oil\n",
        ("--separator '^'",),
        {"separator": "^"},
        gives=ANN,
    ),
    Shape(
        "two characters",
        "a.csv",
        "user_id::item_id\nann::tea\nann::oil\n",
        ("has no comma",),
        {"separator": "::"},
        gives=ANN,
    ),
    Shape(
        "a character outside ASCII",
        "a.csv",
        "user_id¦item_id\nann¦tea\nann¦oil\n",
        ("has no comma",),
        {"separator": "¦"},
        gives=ANN,
    ),
    Shape("a quote as separator", "a.csv", "a\n", ("cannot be '\"'",), options={"separator": '"'}),
]

LIST = "user_id:token\titem_id_list:token_seq\titem_id:token"

LISTS = [
    Shape(
        "RecBole's sequences: a history and the item after it",
        "a.inter",
        f"{LIST}\nann\ttea  oil \trum\nbob\t\ttea\n",
        gives={"ann": ["tea", "oil", "rum"], "bob": ["tea"]},
    ),
    Shape(
        "the same with times",
        "a.inter",
        f"{LIST}\ttimestamp_list:float_seq\ttimestamp:float\nann\ttea oil\trum\t2 1\t3\n",
        gives={"ann": ["oil", "tea", "rum"]},
    ),
    Shape(
        "the same, and the time of the last item only",
        "a.inter",
        f"{LIST}\ttimestamp:float\nann\ttea oil\trum\t3\n",
        gives={"ann": ["tea", "oil", "rum"]},
    ),
    Shape(
        "RecBole's prefixes: the same events again and again",
        "a.inter",
        f"{LIST}\nann\ttea\toil\nann\ttea oil\trum\n",
        ("line 3", "'ann'", "several rows", "longest list"),
    ),
    Shape(
        "histories without an item after them",
        "a.inter",
        "user_id:token\titem_id_list:token_seq\nann\ttea oil\n",
        ("'item_id_list'", "--item-column"),
        {"item": "item_id_list"},
        gives=ANN,
    ),
    Shape(
        "lists without ratings",
        "a.inter",
        f"{LIST}\trating:float\nann\ttea\toil\t5\n",
        ("no ratings", "--min-rating"),
        options={"min_rating": 4},
    ),
    Shape(
        "lists of times that are too short",
        "a.inter",
        f"{LIST}\ttimestamp_list:float_seq\ttimestamp:float\nann\ttea oil\trum\t2\t3\n",
        ("line 2", "3 elements", "2 in column"),
    ),
    Shape(
        "another list, of genres",
        "a.inter",
        "user_id:token\titem_id:token\tgenres:token_seq\nann\ttea\ta b\nann\toil\tb\n",
        gives=ANN,
    ),
]

NO_TIMES = ("--time-unit", "has no effect without a column of times", "leave the unit out")
NO_EFFECT = [
    Shape(
        "quotes in JSON",
        "a.jsonl",
        '{"user_id": 1, "item_id": 2}\n',
        ("--no-quotes", "has no effect", "json"),
        options={"quotes": False},
    ),
    Shape(
        "a unit of offsets for pairs",
        "a.txt",
        "ann tea\n",
        ("--offset-unit", "has no effect"),
        options={"offset_unit": "ms"},
    ),
    Shape("a unit of times for pairs", "a.txt", "ann tea\n", NO_TIMES, options={"time_unit": "ms"}),
    Shape(
        "a unit of times in a table without times",
        "a.csv",
        "user_id,item_id\nann,tea\n",
        NO_TIMES,
        options={"time_unit": "ms"},
    ),
    Shape(
        "the same with columns by position",
        "a.csv",
        "ann,tea\n",
        NO_TIMES,
        options={"time_unit": "ms", "columns": "user,item"},
    ),
    Shape(
        "a unit of times, and lists of items with one time",
        "a.inter",
        "user_id:token\titem_id_list:token_seq\titem_id:token\ttimestamp:float\nann\ttea\toil\t9\n",
        NO_TIMES,
        options={"time_unit": "ms"},
    ),
    Shape(
        "a unit of times that are not read",
        "a.csv",
        "user_id,item_id,timestamp\nann,tea,1\n",
        ("--file-order", "--time-unit", "leave one of the two out"),
        options={"time_unit": "ms", "file_order": True},
    ),
    Shape(
        "a separator for pairs",
        "a.txt",
        "ann tea\n",
        ("--separator", "has no effect", "pairs or sequences"),
        options={"separator": "space"},
    ),
    Shape(
        "a separator for a file of MovieLens",
        "a.dat",
        "1::2::5::9\n",
        ("--separator", "has no effect", "movielens"),
        options={"separator": "::"},
    ),
    Shape(
        "a unit without offsets",
        "a.csv",
        "user_id,item_id,timestamp\nann,tea,1\n",
        ("--offset-unit", "has no effect"),
        options={"offset_unit": "ms"},
    ),
    Shape(
        "the same with columns by position",
        "a.csv",
        "ann,tea,1\n",
        ("--offset-unit", "has no effect"),
        options={"offset_unit": "ms", "columns": "user,item,time"},
    ),
    Shape(
        "columns by position, and a name",
        "a.csv",
        "ann,tea,1\n",
        ("--columns", "so --user-column ann has no effect"),
        options={"user": "ann", "columns": "user,item,time"},
    ),
    Shape(
        "columns by position for an atomic file",
        "a.inter",
        "user_id:token\titem_id:token\nann\ttea\n",
        ("--columns", "without a header", "inter"),
        options={"columns": "user,item"},
    ),
    Shape(
        "a time column, and none",
        "a.csv",
        "user_id,item_id,ts\nann,tea,1\n",
        ("--file-order", "'ts'", "leave one of the two out"),
        options={"time": "ts", "file_order": True},
    ),
    Shape(
        "a row that ends before a field that is ignored",
        "a.csv",
        'ann,tea,1,"x"\nann,oil,2\n',
        options={"columns": "user,item,time,-"},
        gives=ANN,
    ),
]

WITHOUT_MEANING = [
    Shape(f"the encoding {wrong!r}", "a.csv", "a,b\n", ("no encoding",), options={"encoding": wrong})
    for wrong in ["utf-7000", "rot13", "a\0b", None]
] + [
    Shape("the number of a column as its name", "a.csv", "a,b\n", (f"{role}='1'",), options={role: 1})
    for role in ["user", "item", "time"]
]

ENCODINGS = [
    Shape(
        "Foursquare (TSMC 2014): a category with an accent",
        "a.csv",
        "user_id,item_id\nann,café\n",
        ("not UTF-8", "--encoding latin-1"),
        {"encoding": "latin-1"},
        gives={"ann": ["café"]},
    ),
]

VALUES = [
    Shape(
        "names with spaces between tabs",
        "a.txt",
        "ann\tgreen tea\nbob\toil\n",
        ("tabs and spaces", "'ann\\tgreen tea'", "--columns"),
        {"columns": "user,item"},
        gives={"ann": ["green tea"], "bob": ["oil"]},
    ),
    Shape(
        "the same, as histories",
        "a.txt",
        "ann\tgreen tea\nbob\toil\n",
        ("format sequences",),
        {"format": "sequences"},
        gives={"ann": ["green", "tea"], "bob": ["oil"]},
    ),
    Shape("tabs and spaces around them", "a.txt", "ann \t tea\nann\toil\n", gives=ANN),
    Shape(
        "lists that pandas wrote into a CSV file",
        "a.csv",
        "user_id,item_id\nann,\"['tea', 'oil']\"\nbob,['tea']\n",
        ("line 2", "a list that is written as a text", "JSON or Parquet"),
    ),
    Shape(
        "arrays that PostgreSQL wrote",
        "a.csv",
        'user_id,item_id\nann,"{tea,oil}"\n',
        ("a list that is written as a text", "a row for each item"),
    ),
    Shape(
        "ids of Microsoft in braces",
        "a.csv",
        "user_id,item_id\nann,{A1-B2}\n",
        gives={"ann": ["{A1-B2}"]},
    ),
]

JOINED = [
    Shape(
        "files that were joined with their headers",
        "a.csv",
        "user_id,item_id\nann,tea\nuser_id,item_id\nann,oil\n",
        ("line 3", "is a header again", "files that were joined"),
    ),
    Shape(
        "the same with times, and other places of the columns",
        "a.csv",
        "user_id,item_id,timestamp\nann,tea,1\nitem_id,user_id,timestamp\noil,ann,2\n",
        ("line 3", "is a header again"),
    ),
    Shape(
        "atomic files that were joined",
        "a.inter",
        "user_id:token\titem_id:token\nann\ttea\nuser_id:token\titem_id:token\nann\toil\n",
        ("line 3", "is a header again"),
    ),
    Shape(
        "a header of numbers, and an event of the same numbers",
        "a.csv",
        "0,1\n0,1\n",
        options={"user": "0", "item": "1"},
        gives={"0": ["1"]},
    ),
    Shape(
        "files of Excel that were joined, each with a byte order mark",
        "a.csv",
        "\ufeffann,tea\r\n\ufeffann,oil\r\n",
        options={"columns": "user,item"},
        gives=ANN,
    ),
]

ALL = [
    *QUOTES,
    *WITHOUT_HEADER,
    *ORDER,
    *TIMES,
    *SEPARATORS,
    *LISTS,
    *NO_EFFECT,
    *ENCODINGS,
    *VALUES,
    *JOINED,
    *WITHOUT_MEANING,
]


@pytest.mark.parametrize("shape", ALL, ids=[f"{number} {shape.where}" for number, shape in enumerate(ALL)])
def test_no_event_is_lost_and_the_remedy_works(tmp_path: Path, shape: Shape) -> None:
    path = tmp_path / shape.name
    path.write_bytes(shape.text.encode("latin-1" if shape in ENCODINGS else "utf-8"))
    options = shape.options
    if shape.says:
        with pytest.raises(InputError) as raised:
            read_dataset(path, k_core=0, **options)
        for part in shape.says:
            assert part in str(raised.value)
        options = shape.remedy
        if not options:
            return
    dataset = read_dataset(path, k_core=0, **options)
    assert as_ids(dataset) == shape.gives


@pytest.mark.parametrize(
    ("ids", "says"),
    [
        (["ann", "NULL", "NULL"], "the user 'NULL', which may mean no user, has 2 of the events"),
        (["ann", r"\N"], r"the user '\\N', which may mean no user, has 1 of the events"),
        (["7", "ann", "7.0"], "pairs of user ids such as '7' and '7.0': 1"),
        (["1.23457E+12"], "user ids such as '1.23457E+12' look rounded by a spreadsheet"),
        (["7.0", "8", "nancy", "7.5", "1E5"], ""),
    ],
)
def test_the_first_line_says_which_ids_are_doubtful(tmp_path: Path, ids: list[str], says: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text("user_id,item_id\n" + "".join(f"{one},tea\n" for one in ids))
    reading = read_dataset(path, k_core=0).reading
    assert reading is not None
    assert reading.notes == ((says,) if says else ())
    path.write_text("item_id,user_id\n" + "".join(f"{one},tea\n" for one in ids))
    assert says.replace("user", "item") in str(read_dataset(path, k_core=0).reading)


def test_excel_s_unicode_text_names_its_encoding(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes("user_id\titem_id\nann\ttea\nann\toil\n".encode("utf-16"))
    with pytest.raises(InputError, match="--encoding utf-16"):
        read_dataset(path, k_core=0)
    assert as_ids(read_dataset(path, k_core=0, encoding="utf-16")) == ANN


@pytest.mark.parametrize("option", [{"quotes": False}, {"encoding": "latin-1"}], ids=str)
def test_options_of_texts_are_refused_for_parquet(tmp_path: Path, option: dict[str, Any]) -> None:
    (tmp_path / "all").mkdir()
    pl.DataFrame({"user_id": ["ann"], "item_id": ["tea"]}).write_parquet(tmp_path / "all" / "a.parquet")
    for path in (tmp_path / "all", tmp_path / "all" / "a.parquet"):
        with pytest.raises(InputError, match="has no effect"):
            read_dataset(path, k_core=0, **option)


@pytest.mark.parametrize("name", ["2268318", "1511544071", "ann", "B1"])
def test_no_remedy_names_a_value_of_the_first_row_as_a_column(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.csv").write_text(AMAZON + "1,2268318,2520377,1511544071\n")
    (tmp_path / "b.csv").write_text("1,2268318,2520377,1511544071\n" + AMAZON)
    for file in ("a.csv", "b.csv"):
        with pytest.raises(InputError) as raised:
            read_dataset(tmp_path / file, k_core=0)
        assert f"-column {name}" not in raised.value.remedy
