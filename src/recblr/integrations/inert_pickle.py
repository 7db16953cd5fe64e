"""Checkpoints of strangers, read without running what is in them.

A checkpoint of `torch.save` is a pickle, and a pickle may call any function of any module.  PyTorch's own
weights-only reader refuses all but plain data and tensors.  RecBole's checkpoints also hold its configuration
object, so that reader refuses them.  The unpickler here reads those.  It knows two names: the function that
rebuilds a tensor, and the ordered dictionary.  It puts an inert object in the place of everything else.
Nothing is imported, and nothing that the file names is called.
"""

import os
import pickle
import warnings
from collections import OrderedDict
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import torch

from recblr.errors import InputError
from recblr.io.reading import check_ends
from recblr.ops.common.torch_internals import rebuild_tensor

_REMEDY = "give the checkpoint that RecBole saved"
_FORCE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
_ZIP = b"PK\x03\x04"  # torch.save's format since PyTorch 1.6, which no longer pickles the tensors' data


class Inert:
    """Stands for a class, a function or an object that was not looked up: takes everything, does nothing.

    state: what the pickle set the object's attributes to, most often a dict; None where it set none.
    """

    state: Any = None

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None:
        """Nothing; the pickle of a list's subclass calls it, as it calls the next two of others."""

    extend = add = append


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """torch handles the names of storages before it comes here."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            # A new function each time: a pickle can set attributes of whatever it is handed.
            return lambda *arguments: rebuild_tensor(*arguments)
        return Inert


def _load(file: IO[bytes], **arguments: Any) -> Any:
    return _Unpickler(file, **arguments).load()


# torch asks for a module of this shape; it reads with both, in different formats.
_INERT_PICKLE = SimpleNamespace(__name__="recblr's inert pickle", Unpickler=_Unpickler, load=_load)


def load_untrusted(path: Path) -> Any:
    """What `torch.save` wrote to `path`: plain data and CPU tensors, with :class:`Inert` for all else.

    Raises InputError where the file is missing, unreadable, damaged or of another kind.
    """
    try:
        check_ends(path)
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", _REMEDY) from None
    with file:
        if file.read(len(_ZIP)) != _ZIP:
            raise InputError(f"{path} is no file of torch.save (PyTorch 1.6 or later)", _REMEDY)
        try:
            return _load_restricted(file)
        except InputError:
            raise
        except Exception as error:  # whatever the damage makes of the file: torch and pickle raise many kinds
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"{path} is damaged, or no checkpoint ({type(error).__name__}: {reason})",
                "restore it from a copy",
            ) from None


def _load_restricted(file: IO[bytes]) -> Any:
    """PyTorch's own reader first: it also refuses compiled programs, which the other would let torch run."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pickle protocol 4, which RecBole writes
        file.seek(0)
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            if os.environ.get(_FORCE, "0").lower() in ("1", "y", "yes", "true"):
                raise InputError(
                    f"{_FORCE} is set, and RecBole's checkpoints hold more than weights",
                    "unset it (no code in the file will run), or give a file with the state dict alone",
                ) from None
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=False, pickle_module=_INERT_PICKLE)
