"""Changing a model file and its digest, as docs/model-file.md describes the digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file

Tensors = dict[str, torch.Tensor]
Header = dict[str, Any]


def read(path: Path) -> tuple[Tensors, Header]:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["recblr"])


def write(path: Path, tensors: Tensors, header: Header) -> None:
    save_file(tensors, path, metadata={"recblr": json.dumps(header, sort_keys=True)})


def rewrite(path: Path, change: Callable[[Tensors, Header], object], *, sealed: bool = True) -> None:
    """Change the content of a model file.

    sealed: whether the digest is computed again; otherwise the file keeps the old digest.  A file of format 1
    has no digest and gets none.
    """
    tensors, header = read(path)
    change(tensors, header)
    if sealed and "digest" in header:
        header["digest"] = digest(tensors, header)
    write(path, tensors, header)


def digest(tensors: Tensors, header: Header) -> str:
    text = json.dumps({name: value for name, value in header.items() if name != "digest"}, sort_keys=True)
    parts = [text.encode()]
    for name in sorted(tensors):
        tensor = tensors[name]
        dtype = str(tensor.dtype).split(".")[1]
        parts.append(json.dumps([name, dtype, list(tensor.shape)]).encode())
        parts.append(bytes(tensor.contiguous().view(-1).view(torch.uint8).tolist()))
    return hashlib.sha256(b"".join(parts)).hexdigest()
