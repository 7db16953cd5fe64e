"""Tensors in safetensors files: atomic writes, and reads that say what is wrong in one sentence."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recblr.data.atomic import atomic_path
from recblr.errors import InputError

_KEY = "recblr"  # the header entry that marks a file as ours


def write_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header; `path` holds the old file or the new one, never a part.

    Raises InputError where the folder cannot be written to.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as draft:
        try:
            save_file(plain, draft, metadata={_KEY: json.dumps(header, sort_keys=True)})
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}; free some space") from None


def read_tensors(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file that `write_tensors` wrote with header["kind"] == kind.

    Raises InputError where the file is missing, truncated, damaged or not recblr's.
    """
    if not path.is_file():
        raise InputError(f"there is no {path}; give the folder of a run that `recblr train` has made")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is damaged or truncated ({error}); restore it from a copy, or train again"
        ) from None
    try:
        header = json.loads(metadata[_KEY])
        found = header["kind"]
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{path} was not written by recblr: its header has no recblr entry; give a run of `recblr train`"
        ) from None
    if found != kind:
        raise InputError(f"{path} holds a recblr {found}, not a {kind}; give a run of `recblr train`")
    return tensors, header
