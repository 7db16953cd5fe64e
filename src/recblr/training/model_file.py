"""A trained model as one safetensors file: the weights, and in the header all it takes to rebuild it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from recblr.errors import InputError
from recblr.nn.model import RecBLR, RecBLRConfig
from recblr.training.tensors import read_tensors, write_tensors

KIND = "model"


def save_model(model: RecBLR, path: Path, **facts: Any) -> None:
    """Write the model atomically; `facts` are plain values kept in the header."""
    header = {"kind": KIND, "config": asdict(model.config), "num_items": model.num_items, **facts}
    write_tensors(path, model.state_dict(), header)


def load_model(path: Path) -> tuple[RecBLR, dict[str, Any]]:
    """The model in evaluation mode, and the header; InputError where the file does not hold one."""
    tensors, header = read_tensors(path, KIND)
    try:
        model = RecBLR(header["num_items"], RecBLRConfig(**header["config"]))
        model.load_state_dict(tensors)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} does not hold a RecBLR model ({reason}); train again") from None
    return model.eval(), header
