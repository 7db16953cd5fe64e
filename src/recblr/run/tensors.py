"""Tensors in safetensors files: atomic writes, and reads that say what is wrong in one sentence."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from recblr.errors import InputError
from recblr.io.safetensors import read_entries, write_entries


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header; `path` holds the old file or the new one, never a part.

    Raises InputError where the folder cannot be written to.
    """
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_entries(path, lambda draft, metadata: save_file(plain, draft, metadata=metadata), header)


def read_tensors(path: Path, kind: str, *, remedy: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and header of a file that `write_tensors` wrote with header["kind"] == kind.

    Raises InputError, which ends with `remedy`, where the file is missing, truncated, damaged, not recblr's,
    or holds numbers that are none.
    """
    tensors, header = read_entries(path, kind, framework="pt", remedy=remedy)
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
