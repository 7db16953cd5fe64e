"""A trained model as one safetensors file: the weights, and in the header all it takes to rebuild it."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from recblr.config import MODELS
from recblr.errors import InputError
from recblr.io.safetensors import read_entries, write_entries
from recblr.nn.base import NextItemModel
from recblr.nn.model import build_model

KIND = "model"
_REMEDY = "restore it from a copy, or train again into another --out"


def save_model(model: NextItemModel, path: Path, **facts: Any) -> None:
    """Write the model atomically; `facts` are plain values kept in the header."""
    header = {"kind": KIND, "config": asdict(model.config), "num_items": model.num_items, **facts}
    write_tensors(path, model.state_dict(), header)


def load_model(path: Path) -> tuple[NextItemModel, dict[str, Any]]:
    """The model in evaluation mode, and the header; InputError where the file does not hold one.

    Draws no random numbers.
    """
    tensors, header = read_tensors(path, KIND, remedy=_REMEDY)
    try:
        if header["config"]["num_layers"] > len(tensors):  # a header that lies could have us build for ever
            raise ValueError
        # Files from before there were others do not name their model.
        config = MODELS[header["config"].get("model", "recblr")](**header["config"])
        # Without storage: weights about to be replaced need no drawing, and a header that lies costs nothing.
        with torch.device("meta"):
            model = build_model(header["num_items"], config)
            if "repeat_bias" in tensors:
                model.learn_repeat_bias()
    except (KeyError, TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(f"the header of {path} does not describe a model of recblr; {_REMEDY}") from None
    reason = difference(tensors, model.state_dict())
    if reason is not None:
        raise InputError(f"{path} does not hold the model that its header describes: {reason}; {_REMEDY}")
    model.to_empty(device="cpu").load_state_dict(tensors)
    return model.eval(), header


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
