"""Models from model files and into them, and other files of tensors, with torch.

recblr.run.model_content reads and writes model files, and holds all checks that need no torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from recblr.config.model import ModelConfig
from recblr.errors import InputError
from recblr.io.safetensors import read_entries, write_entries
from recblr.nn.base import NextItemModel
from recblr.nn.model import build_model
from recblr.run.model_content import (
    Metrics,
    ModelContent,
    check_ids,
    no_model,
    other_model,
    read_model_file,
    write_model_file,
)
from recblr.run.model_tensors import REPEAT_BIAS, difference


@dataclass(frozen=True)
class SavedModel:
    """The content of a model file.

    model: the model, in evaluation mode.
    item_ids: the ids of the items in the user's data, in the order of the model's items.
    fingerprint: the fingerprint of the dataset that the model was trained on.
    epoch: the epoch of the weights.
    metrics: the validation metrics of that epoch, masking -> metric -> value.
    version: the version of recblr that wrote the file.
    retired: the numbers of the items that are never recommended, ascending.  They may be in histories.

    Everything except the model and `retired` is None if the file does not hold it.
    """

    model: NextItemModel
    item_ids: list[str] | None = None
    fingerprint: str | None = None
    epoch: int | None = None
    metrics: Metrics | None = None
    version: str | None = None
    retired: tuple[int, ...] = ()


def save_model(
    model: NextItemModel,
    path: Path,
    item_ids: Sequence[str],
    *,
    fingerprint: str | None = None,
    epoch: int | None = None,
    metrics: Metrics | None = None,
    retired: tuple[int, ...] = (),
) -> None:
    """Write the model atomically.  :class:`SavedModel` explains the other values.

    Raises InputError if the item ids are not texts that differ, one for each item; if the weights are not
    those that recblr trains, such as weights in 16 bits, or not finite; if a retired item is none; or if the
    file cannot be written.
    """
    check_ids(item_ids, model.num_items)
    state = _on_cpu(model.state_dict())
    reason = difference(state, _blank(model.num_items, model.config, state).state_dict())
    if reason is not None:
        raise InputError(f"the model cannot be saved: {reason}", "give a float32 model of its config")
    tensors = {name: tensor.numpy() for name, tensor in state.items()}
    write_model_file(
        path,
        ModelContent(
            model.config,
            list(item_ids),
            tensors,
            fingerprint=fingerprint,
            epoch=epoch,
            metrics=metrics,
            retired=retired,
        ),
    )


def load_model(path: Path) -> SavedModel:
    """The model in a file, and the other values that the file holds.  Loading draws no random numbers.

    Raises InputError if the file is missing, damaged, or written by a later recblr or another program.
    """
    return as_saved(path, read_model_file(path))


def as_saved(path: Path, content: ModelContent) -> SavedModel:
    """The content of the file `path` with its model.  Raises InputError if it is not that of its header."""
    try:
        model = _blank(content.num_items, content.config, content.tensors)
    except (TypeError, ValueError, RuntimeError, OverflowError):
        raise no_model(path) from None
    reason = difference(content.tensors, model.state_dict())
    if reason is not None:
        raise other_model(path, reason)
    model.to_empty(device="cpu")
    for name, tensor in model.state_dict().items():
        tensor.numpy()[...] = content.tensors[name]
    return SavedModel(
        model.eval(),
        content.item_ids,
        content.fingerprint,
        content.epoch,
        content.metrics,
        content.version,
        content.retired,
    )


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
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise InputError(f"{path} is damaged: {name} holds infinite values or NaN", remedy)
    return tensors, header


def _blank(num_items: int, config: ModelConfig, tensors: Mapping[str, Any]) -> NextItemModel:
    """A model without values.  It takes no memory and no random numbers, so even wrong sizes cost nothing.

    tensors: of the model to copy; they say whether it has a repeat bias.
    """
    with torch.device("meta"):
        model = build_model(num_items, config)
        if REPEAT_BIAS in tensors:
            model.learn_repeat_bias()
    return model


def _on_cpu(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
