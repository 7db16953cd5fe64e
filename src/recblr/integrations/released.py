"""Reads the authors' checkpoints into our model, with all differences between their code and the paper."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from recblr.config import RecBLRConfig
from recblr.errors import InputError
from recblr.integrations.inert_pickle import Inert, load_untrusted
from recblr.nn.model import RecBLR
from recblr.run.model_tensors import difference

_ITEMS = "item_embedding.weight"
_CONV = "conv1d.weight"
_FIRST_CONV = f"recurrent_layers.0.behavior_modeling.{_CONV}"
_PADDING_ITEMS = 1  # RecBole's item 0, [PAD]
_REMEDY = "give a checkpoint that the authors' code saved through RecBole, or the state dict in it"


def load_released(path: str | Path, *, max_length: int | None = None) -> RecBLR:
    """Load the model of a checkpoint that the authors' released code wrote.  It is in evaluation mode.

    The tensors determine the width, layers, expansion, convolution and catalogue.  The options of
    :meth:`RecBLRConfig.released` are on.  So the scores equal those of the released code, up to rounding.

    RecBole counts its items from 1, and item 0 is its [PAD].  Our models have no padding item.  RecBole's
    item i is item i - 1 here, in histories and in `scores`, and ``num_items`` is one less than RecBole's
    number.  The released code's scores for [PAD] are dropped, because RecBole never ranks [PAD] either.
    RecBole's dataset knows your id of its item i: ``dataset.id2token(dataset.iid_field, i)``.

    Untrusted files are safe to read.  Only tensors and plain data are taken from a file.  Inert objects
    replace the objects of all other classes.  No code that a file names is imported or run.

    Args:
        path: RecBole's checkpoint (.pth), or a file that holds only its "state_dict".
        max_length: the MAX_ITEM_LIST_LENGTH of the training.  It becomes the ``max_length`` of the model's
            config.  None means the checkpoint's value; a file with only a state dict has no such value.

    Raises:
        InputError: the file is missing or damaged, or it holds another model.  The message says what is
            wrong.
    """
    path = Path(path)
    tensors, settings = _tensors_and_settings(path, load_untrusted(path))
    shape = _shape_options(path, tensors)
    length = max_length if max_length is not None else settings.get("MAX_ITEM_LIST_LENGTH")
    if isinstance(length, bool) or not isinstance(length, int):
        raise InputError(
            f"{path} does not say how long the padded histories are",
            "give max_length=, the MAX_ITEM_LIST_LENGTH of the training",
        )
    dropout = settings.get("dropout_prob", RecBLRConfig.dropout)
    try:
        config = RecBLRConfig.released(length, dropout=dropout, **shape)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path} does not describe a RecBLR model: {error}", _REMEDY) from None
    # The meta device stores no weights and draws no random numbers.  The checkpoint's weights follow below.
    # They are float32, also if torch's default dtype is another one.
    with torch.device("meta"):
        model = RecBLR(len(tensors[_ITEMS]) - _PADDING_ITEMS, config).float()
    adopt_released(model, tensors, source=str(path))
    return model.eval()


def adopt_released(model: RecBLR, tensors: Mapping[str, Tensor], *, source: str = "the state dict") -> None:
    """Copy a released state dict into a model of the same shape, without the row of item 0.

    Raises InputError.  The message names the first tensor that is missing, is too many, or has another shape
    or dtype.
    """
    ours = model.state_dict()
    reason = difference(tensors, {released_name(name): _as_released(name, t) for name, t in ours.items()})
    if reason is not None:
        raise InputError(f"{source} does not hold the authors' RecBLR: {reason}", _REMEDY)
    taken = {name: _as_ours(name, tensors[released_name(name)]) for name in ours}
    for name, tensor in taken.items():
        if not tensor.isfinite().all():
            raise InputError(f"{source}: {released_name(name)} holds infinite values or NaN", _REMEDY)
    model.to_empty(device="cpu").load_state_dict(taken)


def released_name(name: str) -> str:
    """The name in the authors' code of the parameter `name` of :class:`recblr.RecBLR`."""
    if not name.startswith("layers."):
        return name
    for ours, theirs in (
        (".recurrent.bdlru.", ".behavior_modeling."),
        (".recurrent.", ".behavior_modeling."),
        (".ffn_norm.", ".ffn.layer_norm."),
    ):
        name = name.replace(ours, theirs)
    return f"recurrent_{name}"


def _as_released(name: str, tensor: Tensor) -> Tensor:
    """A tensor of the shape that the authors' code has for our tensor."""
    if name == _ITEMS:
        return tensor.new_empty(len(tensor) + _PADDING_ITEMS, tensor.shape[1], device="meta")
    return tensor.unsqueeze(1) if name.endswith(_CONV) else tensor


def _as_ours(name: str, tensor: Tensor) -> Tensor:
    """The inverse of :func:`_as_released`.  The tensor keeps its values."""
    if name == _ITEMS:
        return tensor[_PADDING_ITEMS:]
    return tensor.squeeze(1) if name.endswith(_CONV) else tensor


def _tensors_and_settings(path: Path, checkpoint: Any) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a checkpoint and RecBole's settings.  Without settings, the second dict is empty."""
    found = checkpoint if isinstance(checkpoint, dict) else {}
    tensors = found.get("state_dict", found)
    entries = list(tensors.items()) if isinstance(tensors, dict) else []
    if not entries or not all(isinstance(name, str) and _is_plain(value) for name, value in entries):
        raise InputError(f"{path} holds no state dict", _REMEDY)
    config = found.get("config")
    if isinstance(config, Inert) and isinstance(config.state, dict):
        config = config.state.get("final_config_dict")
    return dict(tensors), config if isinstance(config, dict) else {}


def _is_plain(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type == "cpu" and value.layout == torch.strided


def _shape_options(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The hyper-parameters that follow from the shapes of the tensors."""
    for name, smallest in ((_ITEMS, (_PADDING_ITEMS + 1, 1)), (_FIRST_CONV, (1, 1, 1))):
        if name not in tensors:
            reason = f"it has no tensor {name}"
        else:
            shape = tuple(tensors[name].shape)
            if len(shape) == len(smallest) and all(map(int.__ge__, shape, smallest)):
                continue
            reason = f"{name} has the shape {shape}"
        raise InputError(f"{path} does not hold the authors' RecBLR: {reason}", _REMEDY)
    width = tensors[_ITEMS].shape[1]
    inner, _, d_conv = tensors[_FIRST_CONV].shape
    layers = {name.split(".")[1] for name in tensors if name.startswith("recurrent_layers.")}
    return {"d_model": width, "num_layers": len(layers), "expand": inner / width, "d_conv": d_conv}
