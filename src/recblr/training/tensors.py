"""Tensors in safetensors files: atomic writes, and reads that say what is wrong in one sentence."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from recblr.data.atomic import atomic_path
from recblr.errors import InputError

_KEY = "recblr"  # the header entry that marks a file as ours


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header; `path` holds the old file or the new one, never a part.

    Raises InputError where the folder cannot be written to.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as draft:
        # safetensors replaces the file by one that its owner alone may read.
        mode = draft.stat().st_mode
        try:
            save_file(plain, draft, metadata={_KEY: json.dumps(header, sort_keys=True)})
        except (SafetensorError, OSError) as error:
            raise InputError(f"cannot write {path}: {error}; make room or choose another place") from None
        draft.chmod(mode)


def read_tensors(path: Path, kind: str, *, remedy: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file that `write_tensors` wrote with header["kind"] == kind.

    Raises InputError, which ends with `remedy`, where the file is missing, truncated, damaged, not recblr's,
    or holds numbers that are none.
    """
    if not path.is_file():
        raise InputError(f"there is no file {path}; {remedy}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} is damaged or truncated ({error}); {remedy}") from None
    try:
        header = json.loads(metadata[_KEY])
        found = header["kind"]
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError(
            f"{path} was not written by recblr: its header has no recblr entry; {remedy}"
        ) from None
    if found != kind:
        raise InputError(f"{path} holds a recblr {found}, not a {kind}; {remedy}")
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise InputError(f"{path} is damaged: {name} holds infinite or no numbers; {remedy}")
    return tensors, header


def difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """The first way in which the names, shapes or dtypes of `found` are not those of `expected`, in words.

    None where they agree.  Loading would find most of these too, but broadcasts or converts some in silence.
    """
    for name, tensor in expected.items():
        if name not in found:
            return f"it has no tensor {name}"
        if found[name].shape != tensor.shape:
            return f"{name} has the shape {tuple(found[name].shape)}, not {tuple(tensor.shape)}"
        if found[name].dtype != tensor.dtype:
            return f"{name} is {found[name].dtype}, not {tensor.dtype}".replace("torch.", "")
    extra = next((name for name in found if name not in expected), None)
    return None if extra is None else f"it has a tensor {extra}, which has no place in it"
