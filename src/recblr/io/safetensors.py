"""Files in the safetensors format: atomic writes, and reads that explain each error in one sentence.

The caller chooses the library of the arrays (NumPy or torch), so nothing here imports torch.
"""

import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from recblr.errors import InputError
from recblr.io.atomic import atomic_path

_KEY = "recblr"  # the header entry that marks a file as ours
_METADATA = "__metadata__"
_LONGEST_HEADER = 100_000_000  # bytes, as in safetensors
_DTYPES = {
    "C64": "<c8",
    "F64": "<f8",
    "F32": "<f4",
    "F16": "<f2",
    "I64": "<i8",
    "I32": "<i4",
    "I16": "<i2",
    "I8": "<i1",
    "U8": "<u1",
    "BOOL": "?",
}
"""The types of NumPy by the names that the format gives them."""


def write_entries(path: Path, save: Callable[[Path, dict[str, str]], object], header: dict[str, Any]) -> None:
    """Write a file with a JSON header.  `path` always holds the whole old or the whole new file.

    save: writes the arrays.  It gets the path of the file and the metadata to put into it.

    Raises InputError if the file cannot be written.
    """
    with atomic_path(path) as draft:
        # safetensors replaces the draft with a file that only its owner may read, so the mode is set again.
        mode = draft.stat().st_mode
        try:
            save(draft, {_KEY: _as_text(header)})
        except (SafetensorError, OSError) as error:
            raise InputError(f"cannot write {path}: {error}", "make room or choose another place") from None
        draft.chmod(mode)


def read_entries(
    path: Path, kind: str, *, framework: str, remedy: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The arrays and the header of a file that `write_entries` wrote with header["kind"] == kind.

    framework: the library of the arrays, as safetensors names it: "np" or "pt".

    Raises InputError, with `remedy`, if the file is missing, truncated, damaged or not recblr's.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}", remedy)
    try:
        with safe_open(path, framework=framework) as file:
            metadata = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged or truncated ({error})", remedy) from None
    return arrays, _header(path, metadata, kind, remedy, remedy)


def map_entries(
    path: Path, kind: str, *, remedy: str, foreign: str
) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """As `read_entries`, but the arrays are read-only views of the mapped file: no array is copied.

    foreign: the remedy for a file that is not recblr's, or of another kind.

    safetensors itself copies every array that it reads for NumPy.  The file must not be changed while the
    arrays are in use; a file that is replaced by another one, as `write_entries` does, stays as it was.

    An entry of a file that was changed in any way, even into another spelling of the same, is refused.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}", remedy)
    try:
        whole = np.asarray(np.memmap(path, np.uint8, "r"))
        arrays, metadata, exact = _entries(whole)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", remedy) from None
    except _Foreign as error:
        raise InputError(f"{path} is no {kind} file: {error}", foreign) from None
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
        reason = error if isinstance(error, _Wrong) else "its header cannot be read"
        raise InputError(f"{path} is damaged or truncated ({reason})", remedy) from None
    header = _header(path, metadata, kind, remedy, foreign)
    if not exact:  # last, because another program may have written a file that is not ours in another way
        raise InputError(f"{path} is damaged: its header has changed since it was written", remedy)
    return arrays, header


class _Wrong(ValueError):
    """What is wrong with the bytes of a file."""


class _Foreign(ValueError):
    """Why a file cannot be in the format, not even a part of one."""


def _entries(whole: np.ndarray) -> tuple[dict[str, np.ndarray], Any, bool]:
    """The arrays and the metadata in the bytes of a file, and whether safetensors could have written them so.

    The arrays are views.

    The bytes are: the length of a text in 8 bytes, the text, the arrays.  The text is JSON, and says of each
    array its dtype, its shape, and where it lies after the text.  Every byte belongs to exactly one of these.

    Raises _Foreign or _Wrong, or what a text of another form leads to.
    """
    if whole[8:9].tobytes() not in (b"", b"{"):
        raise _Foreign("it does not begin as a safetensors file does")
    start = 8 + int.from_bytes(whole[:8].tobytes(), "little")
    if not 8 <= start <= min(len(whole), _LONGEST_HEADER):
        raise _Wrong("its header is longer than the file, or than any header")
    text = whole[8:start].tobytes().decode()
    header = json.loads(text)
    exact = json.dumps(header, separators=(",", ":"), ensure_ascii=False) == text.rstrip(" ")
    metadata = header.pop(_METADATA, {})
    if {type(value) for value in metadata.values()} - {str}:
        raise _Wrong("its metadata are not all texts")
    arrays, end = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = entry["data_offsets"]
        shape = entry["shape"]
        if entry["dtype"] not in _DTYPES:
            raise _Wrong(f"{name} has the dtype {entry['dtype']}")
        dtype = np.dtype(_DTYPES[entry["dtype"]])
        if {type(number) for number in (first, last, *shape)} != {int} or min(shape, default=0) < 0:
            raise _Wrong(f"{name} has a place or a shape that is not of counts")
        if first != end or last - first != math.prod(shape) * dtype.itemsize or start + last > len(whole):
            raise _Wrong(f"{name} does not lie where its shape and the other arrays leave room")
        array = whole[start + first : start + last].view(dtype).reshape(shape)
        # An array that is not aligned is legal in the format, but cannot be used in place.
        arrays[name] = array if array.flags.aligned else array.copy()
        end = last
    if start + end != len(whole):
        raise _Wrong(f"{len(whole) - start - end} bytes at its end belong to no array")
    return arrays, metadata, exact


def _header(path: Path, metadata: Mapping[str, str], kind: str, remedy: str, foreign: str) -> dict[str, Any]:
    """Our header in the metadata of a file.  InputError if it is missing, changed or of another kind."""
    try:
        header: dict[str, Any] = json.loads(metadata[_KEY])
        found = header["kind"]
        as_written = _as_text(header)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError(
            f"{path} was not written by recblr: its header has no recblr entry", foreign
        ) from None
    if found != kind:
        raise InputError(f"{path} holds a recblr {found}, not a {kind}", foreign)
    if metadata[_KEY] != as_written:  # a changed byte may keep the value: 1e-5 and 1E-5
        raise InputError(f"{path} is damaged: its recblr entry has changed since it was written", remedy)
    return header


def _as_text(header: dict[str, Any]) -> str:
    return json.dumps(header, sort_keys=True)
