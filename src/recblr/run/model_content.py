"""The model file without torch: reading it for any use, and writing it.  All checks are here.

The file is a safetensors file with the weights, the item ids, and a header with everything that is needed to
rebuild the model.  A digest of all this shows whether a copy of the file is complete and unchanged.
docs/model-file.md describes the format for other programs.

A file is mapped, not read: a table of a million items takes no memory of its own, and processes share it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from recblr import __version__
from recblr.config.model import ModelConfig, RecBLRConfig, model_from_fields
from recblr.errors import InputError
from recblr.io.safetensors import map_entries, write_entries
from recblr.run.model_tensors import EMBEDDING, REPEAT_BIAS, difference, expected_tensors

KIND = "model"
FORMAT = 3  # format 1 had no number, item ids, metrics, version or digest; it can still be read
_WITHOUT_RETIRED = 2  # a file without retired items has this format, so that earlier versions read it
ITEM_IDS, RETIRED = "item_ids", "retired_items"
REMEDY = "restore it from a copy, or train again into another --out"
FOREIGN = f"give a file that `recblr export RUN model.safetensors` wrote, {REMEDY}"

Metrics = dict[str, dict[str, float]]  # masking -> metric -> value


@dataclass(frozen=True, eq=False)
class ModelContent:
    """The content of a model file.

    config: the hyper-parameters.
    item_ids: the ids of the items in the user's data, in the order of the model's items.  None in a file of
        format 1, which has none.
    tensors: the weights by name, as :func:`recblr.run.model_tensors.expected_tensors` lists them.  From a
        file, they are read-only views of it, and the file must not be changed in place while they are used.
    retired: the numbers of the items that are never recommended, ascending.  They may be in histories.
    fingerprint: the fingerprint of the dataset that the model was trained on.
    epoch: the epoch of the weights.
    metrics: the validation metrics of that epoch, masking -> metric -> value.
    version: the version of recblr that wrote the file.
    digest: that of the file.  None if the content was not read from a file in this form.
    origin: the digest of the file that items were added to or retired from.  None if there was none.

    The last six are None if the file does not hold them.
    """

    config: ModelConfig
    item_ids: list[str] | None
    tensors: Mapping[str, np.ndarray] = field(repr=False)
    retired: tuple[int, ...] = ()
    fingerprint: str | None = None
    epoch: int | None = None
    metrics: Metrics | None = None
    version: str | None = None
    digest: str | None = None
    origin: str | None = None

    @property
    def table(self) -> np.ndarray:
        """The item embeddings, ``(V, D)`` float32."""
        return self.tensors[EMBEDDING]

    @property
    def num_items(self) -> int:
        """The size V of the catalogue, with retired items."""
        return len(self.table)

    @property
    def repeat_bias(self) -> float | None:
        """What is added to the scores of items that the user already has.  None if the model has none."""
        return float(self.tensors[REPEAT_BIAS]) if REPEAT_BIAS in self.tensors else None


@dataclass(frozen=True, eq=False)
class ServableModel(ModelContent):
    """The content of the file of a model that can be served event by event."""

    config: RecBLRConfig
    item_ids: list[str]


def read_for_serving(path: Path) -> ServableModel:
    """The content of the file of a model that can be served event by event.

    Raises InputError as :func:`read_model_file`, and if the model is a baseline or the file has no item ids.
    """
    return servable(path, read_model_file(path))


def servable(path: Path, content: ModelContent) -> ServableModel:
    """The content of the file `path` as one that can be served.  Raises InputError if it cannot."""
    if not isinstance(content.config, RecBLRConfig):
        raise InputError(
            f"{path} holds the baseline {content.config.model}, which cannot be served event by event",
            "train a recblr with `recblr train DATA --out RUN`, then `recblr export RUN model.safetensors`",
        )
    if content.item_ids is None:
        raise InputError(
            f"{path} has the old format 1, which has no item ids",
            "write it again, from the run that it belongs to, with `recblr export RUN model.safetensors`",
        )
    return ServableModel(**vars(content))


def read_model_file(path: Path) -> ModelContent:
    """The content of a model file of any model and format.  Everything is checked, and nothing is copied.

    Raises InputError if the file is missing, damaged, or written by a later recblr or another program.
    """
    path = Path(path)
    if path.is_dir():
        inside = path / "model.safetensors"
        raise InputError(
            f"there is no file {path}, but a folder of this name",
            f"give {inside}" if inside.is_file() else REMEDY,
        )
    tensors, header = map_entries(path, KIND, remedy=REMEDY, foreign=FOREIGN)
    number = _checked_format(path, tensors, header)
    item_ids, retired = None, np.zeros(0, np.int64)
    if number is not None:
        item_ids = _read_ids(path, tensors.pop(ITEM_IDS), header)
        if number > _WITHOUT_RETIRED:
            retired = tensors.pop(RETIRED, retired)
    for name, tensor in tensors.items():
        if not _is_finite(tensor):
            raise InputError(f"{path} is damaged: {name} holds infinite values or NaN", REMEDY)
    try:
        config, num_items = model_from_fields(header["config"]), header["num_items"]
        # Each layer has tensors; a wrong number could be huge.
        if type(num_items) is not int or num_items < 1 or config.num_layers > len(tensors):
            raise ValueError
        names = ("fingerprint", "epoch", "metrics", "version", "digest", "origin")
        facts = {name: header.get(name) for name in names}
        _check_types(**facts)
        expected = _expected(config, num_items, tensors)
    except InputError as error:
        raise InputError(
            f"{path}, which recblr {header.get('version', 'of an unknown version')} wrote: {error.problem}",
            "read it with the version of recblr that wrote it, or train again into another --out",
        ) from None
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError):
        raise no_model(path) from None
    reason = None if expected is None else difference(tensors, expected)
    if reason is None and EMBEDDING not in tensors:
        reason = f"it has no tensor {EMBEDDING}"
    if reason is not None:
        raise other_model(path, reason)
    if not _is_retired(retired, num_items):
        raise InputError(
            f"the retired items in {path} are not ascending numbers of items, fewer than all", REMEDY
        )
    return ModelContent(config, item_ids, tensors, tuple(retired.tolist()), **facts)


def write_model_file(path: Path, content: ModelContent) -> str:
    """Write the content atomically, and return its digest.  `path` always holds the whole old or new file.

    `version` and `digest` of the content are not used: they describe the file that is written.

    Raises InputError if the item ids are not texts that differ, one for each item; if the tensors are not
    finite numbers or, of a RecBLR, not those of the configuration; if a retired item is none; or if the file
    cannot be written.
    """
    item_ids = content.item_ids or []
    check_ids(item_ids, content.num_items)
    tensors, remedy = dict(content.tensors), "give the tensors of a model that recblr has read or trained"
    expected = _expected(content.config, content.num_items, tensors)
    reason = None if expected is None else difference(tensors, expected)
    if reason is not None:
        raise InputError(f"the content is not that of the model that its config describes: {reason}", remedy)
    for name, tensor in tensors.items():
        if not _is_finite(tensor):
            raise InputError(f"the model cannot be saved: {name} holds infinite values or NaN", remedy)
    retired = np.array(content.retired, np.int64)
    if not _is_retired(retired, content.num_items):
        raise InputError("retired must hold ascending numbers of items, fewer than all", "give such numbers")
    tensors[ITEM_IDS] = _ids_as_bytes(item_ids)
    if len(retired):
        tensors[RETIRED] = retired
    header = {
        "kind": KIND,
        "format": FORMAT if len(retired) else _WITHOUT_RETIRED,
        "version": __version__,
        "config": asdict(content.config),
        "num_items": content.num_items,
        "fingerprint": content.fingerprint,
        "epoch": content.epoch,
        "metrics": content.metrics,
    }
    if content.origin is not None:
        header["origin"] = content.origin
    tensors = {name: np.ascontiguousarray(tensor).reshape(tensor.shape) for name, tensor in tensors.items()}
    digest = digest_of(tensors, header)
    write_entries(
        Path(path),
        lambda draft, metadata: save_file(tensors, draft, metadata=metadata),
        {**header, "digest": digest},
    )
    return digest


def digest_of(tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> str:
    """SHA-256 in hex over the header without its digest, and each tensor's name, dtype, shape and bytes.

    The tensors are contiguous.  Their bytes are not copied.
    """
    others = {name: value for name, value in header.items() if name != "digest"}
    digest = sha256(json.dumps(others, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def check_ids(item_ids: Sequence[str], num_items: int) -> None:
    """Raise InputError if these are not `num_items` different texts."""
    if len(item_ids) != num_items or len(set(item_ids)) != num_items:
        raise InputError(
            f"item_ids holds {len(set(item_ids))} different ids for a model of {num_items} items",
            "give each item an id of its own, in the order of the model's items",
        )
    if not set(map(type, item_ids)) <= {str}:
        raise InputError("item_ids holds ids that are not text", "convert them with str()")
    try:
        "".join(item_ids).encode()
    except UnicodeEncodeError:
        raise InputError(
            "item_ids holds half of a surrogate pair, which is no text", "read the ids as UTF-8"
        ) from None


def no_model(path: Path) -> InputError:
    """The error for a header that makes no sense."""
    return InputError(f"the header of {path} does not describe a model of recblr", REMEDY)


def other_model(path: Path, reason: str) -> InputError:
    """The error for tensors that the header does not describe."""
    return InputError(f"{path} does not hold the model that its header describes: {reason}", REMEDY)


def _checked_format(path: Path, tensors: Mapping[str, np.ndarray], header: Mapping[str, Any]) -> int | None:
    """The format of a file whose digest is right.  None for format 1, which had neither."""
    number = header.get("format")
    if type(number) is int and number > FORMAT:
        raise InputError(
            f"{path} has format {number}, but this recblr {__version__} reads only formats up to {FORMAT}",
            "install a later recblr, or restore the file from a copy",
        )
    # Format 1 had neither item ids nor a digest.  A file that has one of them has lost its format number.
    if "format" not in header and ITEM_IDS not in tensors and "digest" not in header:
        return None
    if type(number) is not int or not _WITHOUT_RETIRED <= number <= FORMAT:
        raise InputError(f"{path} is damaged: its format is {number!r}", REMEDY)
    if ITEM_IDS not in tensors:
        raise InputError(f"{path} lacks the item ids that format {number!r} requires", REMEDY)
    if header.get("digest") != digest_of(tensors, header):
        raise InputError(f"{path} is damaged: its digest does not match its content", REMEDY)
    return number


def _read_ids(path: Path, stored: np.ndarray, header: Mapping[str, Any]) -> list[str]:
    try:
        item_ids = json.loads(stored.tobytes())
        if not isinstance(item_ids, list):
            raise TypeError
        check_ids(item_ids, header["num_items"])
    except (KeyError, TypeError, ValueError, RecursionError):
        raise InputError(
            f"the item ids in {path} are not texts that differ, one for each item", REMEDY
        ) from None
    return item_ids


def _ids_as_bytes(item_ids: Sequence[str]) -> np.ndarray:
    """The ids as the bytes of a JSON list.  A list is quick to read, and may be larger than a header."""
    text = json.dumps(list(item_ids), ensure_ascii=False, separators=(",", ":"))
    return np.frombuffer(text.encode(), np.uint8)


def _expected(config: ModelConfig, num_items: int, tensors: Mapping[str, np.ndarray]) -> Any:
    """The tensors that the model must have.  None for a baseline, which only torch can build."""
    if not isinstance(config, RecBLRConfig):
        return None
    return expected_tensors(config, num_items, repeat_bias=REPEAT_BIAS in tensors)


def _is_finite(tensor: np.ndarray) -> bool:
    """Whether the tensor has neither NaN nor infinite values.  Allocates nothing of the tensor's size."""
    if tensor.dtype.kind != "f" or not tensor.size:
        return True
    # NaN is passed on by both.
    return bool(np.isfinite(tensor.min()) and np.isfinite(tensor.max()))


def _is_retired(items: np.ndarray, num_items: int) -> bool:
    """Whether these are ascending numbers of items, and not of all: something must be left to recommend."""
    return bool(
        items.dtype == np.int64
        and items.ndim == 1
        and len(items) < num_items
        and (np.diff(items) > 0).all()
        and (len(items) == 0 or (items[0] >= 0 and items[-1] < num_items))
    )


def _check_types(fingerprint: Any, epoch: Any, metrics: Any, version: Any, digest: Any, origin: Any) -> None:
    """Raise TypeError or AttributeError, which `read_model_file` catches, for a value of a wrong type."""
    if not all(isinstance(text, str | None) for text in (fingerprint, version, digest, origin)):
        raise TypeError
    if origin is not None and len(bytes.fromhex(origin)) != 32:
        raise ValueError
    if not isinstance(epoch, int | None):
        raise TypeError
    for values in (metrics or {}).values():
        if not all(type(value) in (int, float) for value in values.values()):
            raise TypeError
