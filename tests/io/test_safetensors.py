"""Arrays and a header in one file; each error has the problem and the remedy that the caller gives."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from recblr.errors import InputError
from recblr.io.safetensors import read_entries, write_entries

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.array([7], dtype=np.int64)}
HEADER = {"kind": "thing", "share": 1e-05, "name": "ß"}


def written(path: Path) -> Path:
    write_entries(path, lambda draft, metadata: save_file(ARRAYS, draft, metadata=metadata), HEADER)
    return path


def test_arrays_and_header_are_read_back(tmp_path: Path) -> None:
    arrays, header = read_entries(written(tmp_path / "t"), "thing", framework="np", remedy="copy it")
    assert header == HEADER
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        assert np.array_equal(arrays[name], array)
        assert np.array_equal(load_file(tmp_path / "t")[name], array)


def save(metadata: dict[str, str] | None) -> Callable[[Path], object]:
    return lambda path: save_file(ARRAYS, path, metadata=metadata)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: path.unlink(), "there is no file {}"),
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "{} is damaged or truncated ("),
        (save(None), "{} was not written by recblr"),
        (save({"recblr": "[]"}), "{} was not written by recblr"),
        (save({"recblr": "[" * 100_000}), "{} was not written by recblr"),
        (save({"recblr": json.dumps({"kind": "other"})}), "{} holds a recblr other, not a thing"),
        (
            save({"recblr": '{"kind":"thing"}'}),
            "{} is damaged: its recblr entry has changed since it was written",
        ),
    ],
    ids=["none", "truncated", "no entry", "a list", "deep", "kind", "spelling"],
)
def test_an_error_has_the_problem_and_the_remedy_of_the_caller(
    tmp_path: Path, make: Callable[[Path], object], says: str
) -> None:
    path = written(tmp_path / "t")
    make(path)
    with pytest.raises(InputError) as raised:
        read_entries(path, "thing", framework="np", remedy="copy it")
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
