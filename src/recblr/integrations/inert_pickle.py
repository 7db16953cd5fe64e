"""Reads untrusted checkpoints without running any code in them.

A checkpoint of `torch.save` is a pickle, and a pickle can call any function of any module.  PyTorch's own
weights-only reader accepts only plain data and tensors.  RecBole's checkpoints also hold a configuration
object, so that reader refuses them.  The unpickler in this file can read them.  It knows two names: the
function that rebuilds a tensor, and the ordered dictionary.  It replaces everything else with inert objects.
It imports nothing, and it calls nothing else that the file names.
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
_ZIP = b"PK\x03\x04"  # the format of torch.save since PyTorch 1.6; it does not pickle the data of tensors


class Inert:
    """Replaces a class, function or object that a pickle names.  It accepts every call and does nothing.

    state: the attributes that the pickle sets for the object, usually a dict.  None if it sets none.
    """

    state: Any = None

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        return self

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None: ...

    def append(self, item: Any) -> None:
        """Do nothing.  Pickles call `append`, `extend` or `add` to fill subclasses of list and set."""

    extend = add = append


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        """Return the class or function of a name.  torch handles the names of storages before this."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            # A new function each time, because a pickle can set the attributes of what it receives.
            return lambda *arguments: rebuild_tensor(*arguments)
        return Inert


def _load(file: IO[bytes], **arguments: Any) -> Any:
    return _Unpickler(file, **arguments).load()


# torch expects a module with these names.  It uses `Unpickler` for one file format and `load` for another.
_INERT_PICKLE = SimpleNamespace(__name__="recblr's inert pickle", Unpickler=_Unpickler, load=_load)


def load_untrusted(path: Path) -> Any:
    """Read a file of `torch.save`: plain data and CPU tensors, and :class:`Inert` instead of everything else.

    Raises InputError if the file is missing, unreadable, damaged or not a file of torch.save.
    """
    try:
        check_ends(path)
        file = open(path, "rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}", _REMEDY) from None
    with file:
        if file.read(len(_ZIP)) != _ZIP:
            raise InputError(f"{path} is not a file of torch.save (PyTorch 1.6 or later)", _REMEDY)
        try:
            return _load_restricted(file)
        except InputError:
            raise
        except Exception as error:  # for a damaged file, torch and pickle raise many kinds of errors
            reason = str(error).partition("\n")[0]
            raise InputError(
                f"{path} is damaged or not a checkpoint ({type(error).__name__}: {reason})",
                "restore it from a copy",
            ) from None


def _load_restricted(file: IO[bytes]) -> Any:
    """Read a file with PyTorch's weights-only reader.  If it refuses the file, read with the inert unpickler.

    The weights-only reader is first, because it also refuses compiled programs.  With the inert unpickler,
    torch would run them.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about pickle protocol 4, which RecBole writes
        file.seek(0)
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError:
            if os.environ.get(_FORCE, "0").lower() in ("1", "y", "yes", "true"):
                raise InputError(
                    f"{_FORCE} is set, but RecBole's checkpoints hold more than weights",
                    "unset it (no code in the file will run), or give a file that holds only the state dict",
                ) from None
            file.seek(0)
            return torch.load(file, map_location="cpu", weights_only=False, pickle_module=_INERT_PICKLE)
