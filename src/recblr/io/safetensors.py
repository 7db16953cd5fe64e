"""Files in the safetensors format: atomic writes, and reads that explain each error in one sentence.

The caller chooses the library of the arrays (NumPy or torch), so nothing here imports torch.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from recblr.errors import InputError
from recblr.io.atomic import atomic_path

_KEY = "recblr"  # the header entry that marks a file as ours


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
    try:
        header = json.loads(metadata[_KEY])
        found = header["kind"]
        as_written = _as_text(header)
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError(
            f"{path} was not written by recblr: its header has no recblr entry", remedy
        ) from None
    if found != kind:
        raise InputError(f"{path} holds a recblr {found}, not a {kind}", remedy)
    if metadata[_KEY] != as_written:  # a changed byte may keep the value: 1e-5 and 1E-5
        raise InputError(f"{path} is damaged: its recblr entry has changed since it was written", remedy)
    return arrays, header


def _as_text(header: dict[str, Any]) -> str:
    return json.dumps(header, sort_keys=True)
