"""A trained model as one safetensors file: the weights, and in the header all it takes to rebuild it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from recblr.config import MODELS
from recblr.errors import InputError
from recblr.nn.base import NextItemModel
from recblr.nn.model import build_model
from recblr.run.tensors import difference, read_tensors, write_tensors

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
