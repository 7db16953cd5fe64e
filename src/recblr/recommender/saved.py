"""A recommender as a folder: a run's folder, with the file recommender.json beside its files.

So `recblr evaluate`, `recblr recommend` and `recblr export` take it too, and any run is a recommender.
After `fit_more`, the folder `more` has the model with its new items, and all events.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

from recblr import __version__
from recblr.data import Dataset
from recblr.errors import InputError
from recblr.io.atomic import atomic_folder, atomic_path
from recblr.io.reading import check_ends
from recblr.recommender.frames import KINDS, Ids, Kind
from recblr.run.folder import Run
from recblr.run.model_content import ModelContent, read_model_file, write_model_file

FORMAT = 1
_NAME, _KIND = "recommender.json", "recblr.Recommender"
_MORE, _MODEL, _DATASET = "more", "model.safetensors", "dataset"


@dataclass(frozen=True, eq=False)
class Fitted:
    """All that a fitted recommender knows.

    run: the run of its training.
    dataset: all events, also those of `fit_more`.
    content: of the model file, with the items of `fit_more`.
    users, items: the types of the ids.
    frames: the kind of the frames that it was fitted on.
    more: whether the dataset and the model are no longer those of the run.
    """

    run: Run
    dataset: Dataset
    content: ModelContent
    users: Ids = field(default_factory=Ids)
    items: Ids = field(default_factory=Ids)
    frames: Kind = "polars"
    more: bool = False


def save(fitted: Fitted, path: Path) -> None:
    """Write the folder, all of it or nothing.  InputError if it exists, or cannot be written."""
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise InputError(f"{path} exists already", "choose another path, or remove it first")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"cannot make the folder {path.parent}: {error.strerror}", "choose another path"
        ) from None
    run = fitted.run
    run.facts()  # somebody may have removed the folder
    with atomic_folder(path) as draft:
        files = (run.config_file, run.facts_file, run.model_file, run.log_file, run.report_file)
        for file in (*files, run.curves_file):
            if file.exists():
                shutil.copyfile(file, draft / file.name)
        shutil.copytree(run.dataset_folder, draft / run.dataset_folder.name)
        if fitted.more:
            (draft / _MORE).mkdir()
            write_model_file(draft / _MORE / _MODEL, fitted.content)
            fitted.dataset.save(draft / _MORE / _DATASET)
        (draft / _NAME).write_text(_about(fitted), encoding="utf-8")


def describe_in_run(fitted: Fitted) -> None:
    """Write the types of the ids into the folder of the run, so that `load` takes it as a saved one."""
    with atomic_path(fitted.run.folder / _NAME) as draft:
        draft.write_text(_about(fitted), encoding="utf-8")


def _about(fitted: Fitted) -> str:
    values = {
        "kind": _KIND,
        "format": FORMAT,
        "version": __version__,
        "frames": fitted.frames,
        "user": fitted.users.as_json(),
        "item": fitted.items.as_json(),
        "more": fitted.more,
    }
    return json.dumps(values, indent=2) + "\n"


def load(path: Path) -> Fitted:
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
        return _fitted_on(run)
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
        frames, more = about["frames"], about["more"]
        if frames not in KINDS or type(more) is not bool:
            raise damaged
    except (KeyError, TypeError, ValueError) as error:
        raise error if isinstance(error, InputError) else damaged from None
    fitted = replace(_fitted_on(run), users=users, items=items, frames=frames)
    if not more:
        return fitted
    content = read_model_file(path / _MORE / _MODEL)
    dataset = Dataset.load(path / _MORE / _DATASET)
    if content.item_ids != dataset.item_ids or content.origin != (
        fitted.content.origin or fitted.content.digest
    ):
        raise InputError(
            f"the files in {path / _MORE} do not belong to the run in {path}",
            "restore them from a copy, or save the recommender again",
        )
    return replace(fitted, dataset=dataset, content=content, more=True)


def _fitted_on(run: Run) -> Fitted:
    """What a run has trained.  InputError if the folder holds no run, or a damaged one."""
    content, dataset = run.content_and_dataset()
    return Fitted(run, dataset, content)
