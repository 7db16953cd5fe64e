"""Our CSV reader beside Python's own: the same rows are legal, and every legal row is an event.

The files are random: quotes in any place, all separators, all line ends, blank lines, long and short rows.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recblr.data import read_dataset
from recblr.errors import InputError

SEPARATORS = [",", ";", "\t", "|"]
LINE_ENDS = ["\n", "\r\n", "\r"]

PLAIN = st.text("abc é茶", min_size=1, max_size=4).map(str.strip).filter(bool)
NASTY = st.text('ab",;\t|\n\r ', max_size=6)


@st.composite
def files(draw: st.DrawFn) -> tuple[str, str]:
    """The text of a file, and its separator. Most rows are legal."""
    mark, end = draw(st.sampled_from(SEPARATORS)), draw(st.sampled_from(LINE_ENDS))
    rows = []
    for number in range(draw(st.integers(1, 12))):
        kind = draw(st.sampled_from(["plain", "plain", "quoted", "quoted", "inch", "raw", "blank"]))
        note = {
            "plain": draw(PLAIN),
            "quoted": '"' + draw(NASTY).replace('"', '""') + '"',
            "inch": f'{draw(PLAIN)}" {draw(PLAIN)}',
            "raw": draw(NASTY),
            "blank": "",
        }[kind]
        user = draw(st.sampled_from([f"u{number}", f'"u{number}"', f" u{number} ", f'u"{number}']))
        rows.append("" if kind == "blank" else mark.join([user, f"i{number}", note]))
    return end.join([mark.join(["user_id", "item_id", "note"]), *rows]) + draw(
        st.sampled_from(["", end])
    ), mark


def by_python(text: str, mark: str) -> list[tuple[str, str]] | None:
    """The users and items of a file as Python's csv module reads them; None if the file is not legal."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=mark, strict=True))
    except csv.Error:
        return None
    rows = [row for row in rows if any(field.strip() for field in row)][1:]
    if any(len(row) < 2 or not row[0].strip() or not row[1].strip() for row in rows):
        return None
    if any(field.strip() for row in rows for field in row[3:]):
        return None
    return [(row[0].strip(), row[1].strip()) for row in rows]


@settings(max_examples=200)
@given(files())
def test_the_same_events_as_pythons_reader(
    tmp_path_factory: pytest.TempPathFactory, file: tuple[str, str]
) -> None:
    text, mark = file
    expected = by_python(text, mark)
    path = tmp_path_factory.getbasetemp() / "fuzz.csv"
    path.write_bytes(text.encode())
    try:
        dataset = read_dataset(path, k_core=0, separator=mark)
    except InputError:
        assert not expected
        return
    assert expected
    histories = dataset.histories
    events = Counter(
        (user, dataset.item_ids[item])
        for s, user in enumerate(dataset.user_ids)
        for item in histories.history(s)
    )
    assert events == Counter(expected)
    assert dataset.reading is not None
    assert dataset.reading.read == len(expected) + sum(dataset.reading.dropped.values())


def test_both_ways_of_reading_meet_the_files(tmp_path: Path) -> None:
    """A legal file with quotes is read by polars, and by csv if a row spans lines. Both keep every event."""
    rows = [f'u{n},i{n},"a ""quote"", and more"' for n in range(50)]
    head = "user_id,item_id,note"
    for text, spanning in (("\n".join([head, *rows]), 0), ("\n".join([head, *rows, 'u,i,"two\nlines"']), 1)):
        (tmp_path / "a.csv").write_text(text)
        dataset = read_dataset(tmp_path / "a.csv", k_core=0)
        assert dataset.num_interactions == 50 + spanning
        assert ("span several lines: 1" in str(dataset.reading)) == bool(spanning)
