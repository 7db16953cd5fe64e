"""The file of a trained model, and other files of tensors.  All are safetensors files.

The model file holds the weights, the item ids, and a header with everything that is needed to rebuild the
model.  A digest of all this shows whether a copy of the file is complete and unchanged.  docs/run-folder.md
describes the format for other programs.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from recblr import __version__
from recblr.config.model import model_from_fields
from recblr.errors import InputError
from recblr.io.safetensors import read_entries, write_entries
from recblr.nn.base import NextItemModel
from recblr.nn.model import build_model

KIND = "model"
FORMAT = 2  # format 1 had no number, item ids, metrics, version or digest; it can still be read
ITEM_IDS = "item_ids"
_REMEDY = "restore it from a copy, or train again into another --out"

Metrics = dict[str, dict[str, float]]  # masking -> metric -> value


@dataclass(frozen=True)
class SavedModel:
    """The content of a model file.

    model: the model, in evaluation mode.
    item_ids: the ids of the items in the user's data, in the order of the model's items.
    fingerprint: the fingerprint of the dataset that the model was trained on.
    epoch: the epoch of the weights.
    metrics: the validation metrics of that epoch, masking -> metric -> value.
    version: the version of recblr that wrote the file.

    Everything except the model is None if the file does not hold it.
    """

    model: NextItemModel
    item_ids: list[str] | None = None
    fingerprint: str | None = None
    epoch: int | None = None
    metrics: Metrics | None = None
    version: str | None = None


def save_model(
    model: NextItemModel,
    path: Path,
    item_ids: Sequence[str],
    *,
    fingerprint: str | None = None,
    epoch: int | None = None,
    metrics: Metrics | None = None,
) -> None:
    """Write the model atomically.  :class:`SavedModel` explains the other values.

    Raises InputError if the item ids are not texts that differ, one for each item, or if the file cannot be
    written.
    """
    _check_ids(item_ids, model.num_items)
    header = {
        "kind": KIND,
        "format": FORMAT,
        "version": __version__,
        "config": asdict(model.config),
        "num_items": model.num_items,
        "fingerprint": fingerprint,
        "epoch": epoch,
        "metrics": metrics,
    }
    tensors = _on_cpu({**model.state_dict(), ITEM_IDS: _ids_as_tensor(item_ids)})
    write_tensors(path, tensors, {**header, "digest": digest_of(tensors, header)})


def load_model(path: Path) -> SavedModel:
    """The model in a file, and the other values that the file holds.  Loading draws no random numbers.

    Raises InputError if the file is missing, damaged, or written by a later recblr or another program.
    """
    tensors, header = read_entries(path, KIND, framework="pt", remedy=_REMEDY)
    item_ids = _take_item_ids(path, tensors, header)
    _check_finite(path, tensors, _REMEDY)
    try:
        config = model_from_fields(header["config"])
        if config.num_layers > len(tensors):  # each layer has tensors; a wrong number could be huge
            raise ValueError
        # On the meta device, weights take no memory and no random numbers, so even wrong sizes cost nothing.
        with torch.device("meta"):
            model = build_model(header["num_items"], config)
            if "repeat_bias" in tensors:
                model.learn_repeat_bias()
        facts = {name: header.get(name) for name in ("fingerprint", "epoch", "metrics", "version")}
        _check_types(**facts)
    except InputError as error:
        raise InputError(
            f"{path}, which recblr {header.get('version', 'of an unknown version')} wrote: {error.problem}",
            "read it with the version of recblr that wrote it, or train again into another --out",
        ) from None
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError, OverflowError):
        raise InputError(f"the header of {path} does not describe a model of recblr", _REMEDY) from None
    reason = difference(tensors, model.state_dict())
    if reason is not None:
        raise InputError(f"{path} does not hold the model that its header describes: {reason}", _REMEDY)
    model.to_empty(device="cpu").load_state_dict(tensors)
    return SavedModel(model.eval(), item_ids, **facts)


def digest_of(tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> str:
    """SHA-256 in hex over the header without its digest, and each tensor's name, dtype, shape and bytes."""
    others = {name: value for name, value in header.items() if name != "digest"}
    digest = sha256(json.dumps(others, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        dtype = str(tensor.dtype).removeprefix("torch.")
        digest.update(json.dumps([name, dtype, list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def write_tensors(path: Path, tensors: Mapping[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header.  `path` always holds the whole old or the whole new file.

    Raises InputError if the file cannot be written.
    """
    write_entries(path, lambda draft, metadata: save_file(_on_cpu(tensors), draft, metadata=metadata), header)


def read_tensors(path: Path, kind: str, *, remedy: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the header of a file that `write_tensors` wrote with header["kind"] == kind.

    Raises InputError, with `remedy`, if the file is missing, truncated, damaged or not recblr's, or if it
    holds infinite values or NaN.
    """
    tensors, header = read_entries(path, kind, framework="pt", remedy=remedy)
    _check_finite(path, tensors, remedy)
    return tensors, header


def difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> str | None:
    """The first difference between `found` and `expected` in names, shapes or dtypes, as text.

    None if they agree.  `load_state_dict` would report most differences too, but it broadcasts or converts
    some tensors silently.
    """
    for name, tensor in expected.items():
        if name not in found:
            return f"it has no tensor {name}"
        if found[name].shape != tensor.shape:
            return f"{name} has the shape {tuple(found[name].shape)}, not {tuple(tensor.shape)}"
        if found[name].dtype != tensor.dtype:
            return f"{name} is {found[name].dtype}, not {tensor.dtype}".replace("torch.", "")
    extra = next((name for name in found if name not in expected), None)
    return None if extra is None else f"it has a tensor {extra}, which is unexpected"


def _take_item_ids(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> list[str] | None:
    """Check the format and the digest, then remove the item ids from the tensors and return them.

    Returns None for a file of format 1.
    """
    number = header.get("format")
    if type(number) is int and number > FORMAT:
        raise InputError(
            f"{path} has format {number}, but this recblr {__version__} reads only formats up to {FORMAT}",
            "install a later recblr, or restore the file from a copy",
        )
    # Format 1 had neither item ids nor a digest.  A file that has one of them has lost its format number.
    if "format" not in header and ITEM_IDS not in tensors and "digest" not in header:
        return None
    if type(number) is not int or number != FORMAT:
        raise InputError(f"{path} is damaged: its format is {number!r}", _REMEDY)
    if ITEM_IDS not in tensors:
        raise InputError(f"{path} lacks the item ids that format {number!r} requires", _REMEDY)
    if header.get("digest") != digest_of(tensors, header):
        raise InputError(f"{path} is damaged: its digest does not match its content", _REMEDY)
    try:
        item_ids = json.loads(tensors.pop(ITEM_IDS).numpy().tobytes())
        if not isinstance(item_ids, list):
            raise TypeError
        _check_ids(item_ids, header["num_items"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError(
            f"the item ids in {path} are not texts that differ, one for each item", _REMEDY
        ) from None
    return item_ids


def _check_ids(item_ids: Sequence[str], num_items: int) -> None:
    """Raise InputError if these are not `num_items` different texts."""
    if len(item_ids) != num_items or len(set(item_ids)) != num_items:
        raise InputError(
            f"item_ids holds {len(set(item_ids))} different ids for a model of {num_items} items",
            "give each item an id of its own, in the order of the model's items",
        )
    if not set(map(type, item_ids)) <= {str}:
        raise InputError("item_ids holds ids that are not text", "convert them with str()")


def _ids_as_tensor(item_ids: Sequence[str]) -> Tensor:
    """The ids as the bytes of a JSON list.  A list is quick to read, and may be larger than a header."""
    text = json.dumps(list(item_ids), ensure_ascii=False, separators=(",", ":"))
    return torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}


def _check_finite(path: Path, tensors: Mapping[str, Tensor], remedy: str) -> None:
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise InputError(f"{path} is damaged: {name} holds infinite values or NaN", remedy)


def _check_types(fingerprint: Any, epoch: Any, metrics: Any, version: Any) -> None:
    """Raise TypeError or AttributeError, which `load_model` catches, for a value of a wrong type."""
    if not all(isinstance(text, str | None) for text in (fingerprint, version)):
        raise TypeError
    if not isinstance(epoch, int | None):
        raise TypeError
    for values in (metrics or {}).values():
        if not all(type(value) in (int, float) for value in values.values()):
            raise TypeError
