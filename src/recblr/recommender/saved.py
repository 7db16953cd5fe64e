"""A recommender as a folder: a run's folder, with the file recommender.json beside its files.

So `recblr evaluate`, `recblr recommend` and `recblr export` take it too, and any run is a recommender.
After `fit_more`, the folder `more` has the model with its new items, and all events.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
import weakref
from dataclasses import replace
from pathlib import Path

from recblr import __version__
from recblr.data import Dataset
from recblr.errors import InputError
from recblr.io.atomic import atomic_folder, atomic_path
from recblr.io.reading import check_ends
from recblr.recommender.frames import KINDS, Ids
from recblr.recommender.reading import Data
from recblr.run.folder import Run
from recblr.run.model_content import ModelContent, read_model_file, write_model_file

FORMAT = 1
_NAME, _KIND = "recommender.json", "recblr.Recommender"
_MORE, _MODEL, _DATASET = "more", "model.safetensors", "dataset"


def save(run: Run, data: Data, content: ModelContent, path: Path) -> None:
    """Write a run with its data and model into a folder, all of it or nothing.

    Raises InputError if the folder exists, or cannot be written.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists already", "choose another path, or remove it first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the folder {path.parent}: {error.strerror}", "choose another path"
        ) from None
    run.facts()  # somebody may have removed the folder
    with atomic_folder(path) as draft:
        files = (run.config_file, run.facts_file, run.model_file, run.log_file, run.report_file)
        for file in (*files, run.curves_file):
            if file.exists():
                shutil.copyfile(file, draft / file.name)
        shutil.copytree(run.dataset_folder, draft / run.dataset_folder.name)
        if data.more:
            (draft / _MORE).mkdir()
            write_model_file(draft / _MORE / _MODEL, content)
            data.dataset.save(draft / _MORE / _DATASET)
        (draft / _NAME).write_text(_about(data), encoding="utf-8")


def describe_in_run(run: Run, data: Data) -> None:
    """Write what the run itself does not know of the data into its folder, for `load`."""
    with atomic_path(run.folder / _NAME) as draft:
        draft.write_text(_about(data), encoding="utf-8")


def _about(data: Data) -> str:
    values = {
        "kind": _KIND,
        "format": FORMAT,
        "version": __version__,
        "frames": data.frames,
        "user": data.users.as_json(),
        "item": data.items.as_json(),
        "more": data.more,
        "read": data.said,
    }
    return json.dumps(values, indent=2) + "\n"


def load(path: Path) -> tuple[Run, Data, ModelContent]:
    """Read what `save` wrote, or any run.  InputError if it is missing, damaged or of a later version."""
    run, file = Run(path), path / _NAME
    if not path.is_dir():
        raise InputError(
            f"there is no folder {path}",
            "give one that Recommender.save or `recblr train` wrote",
        )
    damaged = InputError(f"{file} is damaged", "restore it from a copy, or save the recommender again")
    try:
        check_ends(file)
        about = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        content, dataset = run.content_and_dataset()
        return run, Data(dataset, config=run.data()), content
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}", "check who may read it") from None
    except (ValueError, RecursionError):
        raise damaged from None
    try:
        if about["kind"] != _KIND or type(about["format"]) is not int or about["format"] < 1:
            raise damaged
        if about["format"] > FORMAT:
            raise InputError(
                f"{path} was saved by recblr {about['version']} in format {about['format']}, but this recblr "
                f"{__version__} reads only formats up to {FORMAT}",
                "install a later recblr, or fit again",
            )
        users, items = Ids.from_json(about["user"]), Ids.from_json(about["item"])
        frames, more, said = about["frames"], about["more"], about.get("read", "")
        if frames not in KINDS or type(more) is not bool or type(said) is not str:
            raise damaged
    except (KeyError, TypeError, ValueError) as error:
        raise error if isinstance(error, InputError) else damaged from None
    content, dataset = run.content_and_dataset()
    data = Data(dataset, users, items, frames, run.data(), more, said)
    if not more:
        return run, data, content
    later = read_model_file(path / _MORE / _MODEL)
    dataset = Dataset.load(path / _MORE / _DATASET)
    if later.item_ids != dataset.item_ids or later.origin != (content.origin or content.digest):
        raise InputError(
            f"the files in {path / _MORE} do not belong to the run in {path}",
            "restore them from a copy, or save the recommender again",
        )
    return run, replace(data, dataset=dataset), later


def archive(run: Run, data: Data, content: ModelContent) -> bytes:
    """The folder of `save` in one piece, for pickle."""
    with tempfile.TemporaryDirectory(prefix="recblr-") as folder:
        save(run, data, content, Path(folder, "saved"))
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as files:
            files.add(Path(folder, "saved"), "saved")
    return buffer.getvalue()


def unpacked(content: bytes, folder: Path) -> Path:
    """Write what `archive` packed into a folder, and return its path there."""
    with tarfile.open(fileobj=io.BytesIO(content)) as files:
        files.extractall(folder, filter="data")
    return folder / "saved"


class TemporaryFolder:
    """A folder that goes when this object or the process does."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="recblr-"))
        weakref.finalize(self, _remove, self.path, os.getpid())


def _remove(folder: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked process ends without the folder of its parent
        shutil.rmtree(folder, ignore_errors=True)
