"""Arrays and a header in one file; each error has the problem and the remedy that the caller gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from recblr.errors import InputError
from recblr.io.safetensors import map_entries, read_entries, write_entries

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([7], dtype=np.int64)}
HEADER = {"kind": "thing", "share": 1e-05, "name": "ß"}


def written(path: Path) -> Path:
    write_entries(path, lambda draft, metadata: save_file(ARRAYS, draft, metadata=metadata), HEADER)
    return path


def copied(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return read_entries(path, "thing", framework="np", remedy="copy it")


def mapped(path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return map_entries(path, "thing", remedy="copy it", foreign="copy it")


Read = Callable[[Path], tuple[dict[str, Any], dict[str, Any]]]
both = pytest.mark.parametrize("read", [copied, mapped])


@both
def test_arrays_and_header_are_read_back(tmp_path: Path, read: Read) -> None:
    arrays, header = read(written(tmp_path / "t"))
    assert header == HEADER
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert np.array_equal(arrays[name], array)
        assert np.array_equal(load_file(tmp_path / "t")[name], array)


def save(metadata: dict[str, str] | None) -> Callable[[Path], object]:
    return lambda path: save_file(ARRAYS, path, metadata=metadata)


def respelled(write: Callable[[Path], object], path: Path) -> None:
    """The same file, with a blank more in its header: legal in the format, but safetensors writes none."""
    write(path)
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    path.write_bytes((length + 1).to_bytes(8, "little") + whole[8:9] + b" " + whole[9:])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.unlink(), "there is no file {}"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "{} is damaged or truncated ("),
        (save(None), "{} was not written by recblr"),
        (save({"recblr": "[]"}), "{} was not written by recblr"),
        (save({"recblr": "[" * 100_000}), "{} was not written by recblr"),
        (save({"recblr": json.dumps({"kind": "other"})}), "{} holds a recblr other, not a thing"),
        (lambda path: respelled(save(None), path), "{} was not written by recblr"),
        (
            save({"recblr": '{"kind":"thing"}'}),
            "{} is damaged: its recblr entry has changed since it was written",
        ),
    ],
    ids=["none", "truncated", "no entry", "a list", "deep", "kind", "foreign", "spelling"],
)
@both
def test_an_error_has_the_problem_and_the_remedy_of_the_caller(
    tmp_path: Path, make: Callable[[Path], object], says: str, read: Read
) -> None:
    path = written(tmp_path / "t")
    make(path)
    with pytest.raises(InputError) as raised:
        read(path)
    assert raised.value.problem.startswith(says.format(path))
    assert raised.value.remedy == "copy it"


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = written(tmp_path / "t")
    before = path.read_bytes()

    def fails(draft: Path, metadata: dict[str, str]) -> None:
        draft.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(InputError, match="make room or choose another place"):
        write_entries(path, fails, HEADER)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["t"]


def test_a_mapped_file_whose_header_has_another_spelling_is_refused(tmp_path: Path) -> None:
    respelled(written, tmp_path / "t")
    copied(tmp_path / "t")
    with pytest.raises(InputError, match="is damaged: its header has changed since it was written; copy it"):
        mapped(tmp_path / "t")


# --- mapped files whose header lies

RIGHT = {
    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    "b": {"dtype": "U8", "shape": [3], "data_offsets": [8, 11]},
}


def crafted(path: Path, entries: object, size: int = 11) -> Path:
    """A file with this header and `size` bytes of arrays."""
    metadata = {"recblr": json.dumps({"kind": "thing"})}
    text = json.dumps({"__metadata__": metadata, **entries}, separators=(",", ":")).encode()  # type: ignore[dict-item]
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(size))
    return path


def changed(**changes: object) -> dict[str, object]:
    return {**RIGHT, "b": {**RIGHT["b"], **changes}}


PLACE, COUNTS, UNREAD = "b does not lie where its shape", "is not of counts", "its header cannot be read"
LIES: dict[str, tuple[object, int, str]] = {
    "overlap": (changed(data_offsets=[5, 8]), 8, PLACE),
    "gap": (changed(data_offsets=[9, 12]), 12, PLACE),
    "beyond the end": (RIGHT, 10, PLACE),
    "bytes left": (RIGHT, 12, "1 bytes at its end belong to no array"),
    "size": (changed(shape=[2]), 11, PLACE),
    "negative": (changed(shape=[-3, -1]), 11, COUNTS),
    "backwards": (changed(shape=[-1], data_offsets=[8, 7]), 8, COUNTS),
    "huge": (changed(shape=[2**62, 4]), 11, PLACE),
    "one number": (changed(data_offsets=[8]), 11, UNREAD),
    "fraction": (changed(shape=[3.0]), 11, COUNTS),
    "dtype": (changed(dtype="F8_E4M3"), 11, "b has the dtype F8_E4M3"),
    "no dtype": ({**RIGHT, "b": {"shape": [3], "data_offsets": [8, 11]}}, 11, UNREAD),
    "not an entry": ({**RIGHT, "b": 7}, 11, UNREAD),
}


def test_a_crafted_file_is_read(tmp_path: Path) -> None:
    arrays, _ = mapped(crafted(tmp_path / "t", RIGHT))
    assert {name: array.shape for name, array in arrays.items()} == {"a": (2,), "b": (3,)}
    empty = {"c": {"dtype": "F32", "shape": [0, 3], "data_offsets": [0, 0]}}
    assert mapped(crafted(tmp_path / "t", {**empty, **RIGHT}))[0]["c"].shape == (0, 3)


def test_an_array_that_is_not_aligned_is_copied(tmp_path: Path) -> None:
    first = {"b": {"dtype": "U8", "shape": [3], "data_offsets": [0, 3]}}
    for pad in range(4):
        name = "a" * (pad + 1)
        entries = {**first, name: {"dtype": "F32", "shape": [2], "data_offsets": [3, 11]}}
        array = mapped(crafted(tmp_path / "t", entries))[0][name]
        assert array.flags.aligned
        assert array.tolist() == [0, 0]


@pytest.mark.parametrize(("entries", "size", "says"), LIES.values(), ids=LIES)
def test_a_header_that_lies_is_refused(tmp_path: Path, entries: object, size: int, says: str) -> None:
    path = crafted(tmp_path / "t", entries, size)
    with pytest.raises(InputError) as raised:
        mapped(path)
    assert raised.value.problem.startswith(f"{path} is damaged or truncated (")
    assert says in raised.value.problem


def test_a_header_length_that_lies_costs_no_memory(tmp_path: Path) -> None:
    for length in (2**63, 2**64 - 1, 10**9):
        (tmp_path / "t").write_bytes(length.to_bytes(8, "little") + b"{" + bytes(100))
        with pytest.raises(InputError, match="longer than the file"):
            mapped(tmp_path / "t")


@pytest.mark.parametrize("content", [b"a text file", b"\x80\x02}q\x00(X of a pickle", bytes(1000)])
def test_a_file_in_another_format_is_called_that(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(InputError) as raised:
        map_entries(tmp_path / "t", "thing", remedy="copy it", foreign="make one")
    assert raised.value.problem.startswith(f"{tmp_path / 't'} is no thing file: it does not begin as a")
    assert raised.value.remedy == "make one"
