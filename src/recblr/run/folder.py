"""The folder of a run: its files, and how they are opened and checked.

config.toml          the options, with those for reading the data
run.json             facts: the fingerprint of the data and the command; this file marks the folder as a run
dataset/             the filtered histories, and the ids of users and items
model.safetensors    the best model so far
log.jsonl            one line for each epoch
checkpoints/         the state that --resume continues from: epoch-NNNN after an epoch, or
                     epoch-NNNN-step-MMMMMM after MMMMMM steps of the next epoch
report.json          the evaluation
curves.png           a plot of the log, where matplotlib is installed
tensorboard/         scalars for TensorBoard, with --tensorboard
.lock                keeps other processes from training into the folder; it exists only during training
"""

import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from recblr.config import OPTIONS, DataConfig, TrainingConfig
from recblr.config.file import read_config, write_config
from recblr.config.option import options
from recblr.data import Dataset, Packed, Split, split_dataset
from recblr.data.packed import time_range
from recblr.errors import InputError
from recblr.io.atomic import atomic_path
from recblr.io.reading import check_ends
from recblr.nn.base import NextItemModel
from recblr.run.lock import folder_lock
from recblr.run.log import EpochRecord, read_log
from recblr.run.model_content import ModelContent, read_model_file
from recblr.run.model_file import SavedModel, as_saved

_FORMAT = 2
_REMEDY = "restore it from a copy, or train again into another --out"
_DATA_KEYS = {option.key for option in options(DataConfig)}  # a run on a dataset in memory has none of them
_CHECKPOINT = re.compile("epoch-([0-9]+)(?:-step-([0-9]+))?")


@dataclass(frozen=True)
class Run:
    """The folder of one training run, new or finished."""

    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / "config.toml"

    @property
    def facts_file(self) -> Path:
        return self.folder / "run.json"

    @property
    def model_file(self) -> Path:
        return self.folder / "model.safetensors"

    @property
    def log_file(self) -> Path:
        return self.folder / "log.jsonl"

    @property
    def report_file(self) -> Path:
        return self.folder / "report.json"

    @property
    def curves_file(self) -> Path:
        return self.folder / "curves.png"

    @property
    def tensorboard(self) -> Path:
        return self.folder / "tensorboard"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def dataset_folder(self) -> Path:
        return self.folder / "dataset"

    @property
    def resume_command(self) -> str:
        """The command that continues the run."""
        return shlex.join(["recblr", "train", "--out", str(self.folder), "--resume"])

    def exists(self) -> bool:
        """Whether the folder holds a run, which may be damaged.  False if access is denied."""
        return os.path.exists(self.facts_file)

    def lock(self) -> AbstractContextManager[None]:
        """The lock to hold during a training into the folder.  InputError if another process holds it."""
        return folder_lock(self.folder)

    def create(
        self,
        dataset: Dataset,
        config: TrainingConfig,
        data: DataConfig | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        """Write the files of a new run.  InputError if the folder cannot be written to or holds a run."""
        with self.created(dataset, config, data, facts):
            pass

    @contextmanager
    def created(
        self,
        dataset: Dataset,
        config: TrainingConfig,
        data: DataConfig | None = None,
        facts: dict[str, Any] | None = None,
    ) -> Iterator[None]:
        """As `create`, but also hold the lock of the folder until the `with` block ends."""
        new = not os.path.lexists(self.folder)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make the folder {self.folder}: {error.strerror}", "choose another --out"
            ) from None
        with ExitStack() as held:
            try:
                held.enter_context(self.lock())
            except InputError:
                if new:
                    with suppress(OSError):  # the folder is not empty if another process was faster
                        self.folder.rmdir()
                raise
            self._check_free()
            try:
                self._write_new(dataset, config, data, facts or {})
            except InputError:
                if new:
                    shutil.rmtree(self.folder, ignore_errors=True)
                raise
            yield

    def _check_free(self) -> None:
        """Raise InputError if the folder holds a run or the remains of one."""
        if self.exists():
            raise InputError(
                f"{self.folder} already holds a run", "add --resume to continue it, or choose another --out"
            )
        if checkpoints_in(self.checkpoints):
            # A resumed run would take these checkpoints for its own.
            raise InputError(
                f"{self.folder} holds checkpoints of a run whose {self.facts_file.name} is missing",
                "choose another --out",
            )

    def _write_new(
        self, dataset: Dataset, config: TrainingConfig, data: DataConfig | None, facts: dict[str, Any]
    ) -> None:
        write_config(self.config_file, _options(config, data))
        dataset.save(self.dataset_folder)
        values = {"format": _FORMAT, "fingerprint": dataset.fingerprint, **facts}
        # Written last, because this file marks the folder as a run.
        with atomic_path(self.facts_file) as draft:
            draft.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    def tidy(self) -> None:
        """Remove what a killed run has left: drafts of files, and all checkpoints except the newest."""
        _tidy_checkpoints(self.checkpoints)
        for file in (
            self.config_file,
            self.facts_file,
            self.model_file,
            self.log_file,
            self.report_file,
            self.curves_file,
        ):
            for draft in self.folder.glob(f".{file.name}.*"):
                draft.unlink(missing_ok=True)

    def facts(self) -> dict[str, Any]:
        """The content of run.json.  InputError if the folder holds no run, or a damaged one."""
        try:
            check_ends(self.facts_file)
            values = json.loads(self.facts_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{self.folder} holds no run (there is no {self.facts_file.name})",
                "give the folder that `recblr train` wrote with --out",
            ) from None
        except OSError as error:
            raise InputError(
                f"cannot read {self.facts_file}: {error.strerror}",
                "give the folder that `recblr train` wrote with --out",
            ) from None
        except (ValueError, RecursionError):
            raise InputError(f"{self.facts_file} is damaged", _REMEDY) from None
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            raise InputError(
                f"{self.facts_file} was not written by this version of recblr",
                "train again into another --out",
            )
        if not isinstance(values.get("fingerprint"), str) or not isinstance(values.get("command", ""), str):
            raise InputError(f"{self.facts_file} is damaged", _REMEDY)
        return values

    def options(self) -> dict[str, Any]:
        """The options in config.toml as {key: value}.

        A run without the option `time` is older than it, and its model knows no time.

        Raises InputError if the folder holds no run, or the file is damaged.
        """
        self.facts()
        try:
            return {"time": "none"} | read_config(self.config_file)
        except InputError as error:
            # The remedy of read_config is for a config file that the user writes.
            raise InputError(error.problem, _REMEDY) from None

    def config(self) -> TrainingConfig:
        """The options that the run trains with."""
        return TrainingConfig.from_options(self.options())

    def data(self) -> DataConfig | None:
        """The options that the data were read with.  None if the run was given a dataset in memory."""
        values = self.options()
        return DataConfig.from_options(values) if _DATA_KEYS.intersection(values) else None

    def resume(self, dataset: Dataset, config: TrainingConfig, data: DataConfig | None = None) -> None:
        """Check that the run was started with this data and these options.  Save the options that may change.

        Raises InputError, which names the difference, if the data or an option that is fixed differs.
        """
        before = self.options()
        now = _options(config, data)
        if self.data() is None:
            now = {key: value for key, value in now.items() if key not in _DATA_KEYS}
        differing = [key for key, value in now.items() if before.get(key, OPTIONS[key].default) != value]
        for key in differing:
            if OPTIONS[key].fixed:
                earlier = before.get(key, OPTIONS[key].default)
                raise InputError(
                    f"{self.folder} was started {_difference(key, earlier, now[key])}",
                    "resume with the same options, or choose another --out",
                )
        fingerprint = self.facts()["fingerprint"]
        if fingerprint != dataset.fingerprint:
            # Earlier versions did not keep the unit of times.
            if fingerprint == replace(dataset, time_unit=None).fingerprint:
                raise InputError(
                    f"{self.folder} was started on these data without the unit of their times",
                    "resume without DATA (with Run.dataset() in Python), or choose another --out",
                )
            raise InputError(
                f"{self.folder} was started on other data than {dataset.name} holds now",
                "resume with the same data, or choose another --out",
            )
        if differing:
            write_config(self.config_file, before | now)

    def dataset(self) -> Dataset:
        """The run's filtered histories and ids.  InputError if they are missing or damaged."""
        fingerprint = self.facts()["fingerprint"]
        try:
            dataset = Dataset.load(self.dataset_folder)
        except InputError as error:
            # The remedy of Dataset.load is for a dataset that the user saved.
            raise InputError(
                error.problem, "restore the folder from a copy, or train again into another --out"
            ) from None
        if dataset.fingerprint != fingerprint:
            raise InputError(
                f"{self.dataset_folder} holds other data than the run was started with",
                "restore the run's own folder, or train again into another --out",
            )
        return dataset

    def model(self) -> NextItemModel:
        """The best model so far, in evaluation mode.

        Raises InputError if it does not belong to the run, or if it has retired items, which the model alone
        does not know.
        """
        saved = self.saved_model()
        if saved.retired:
            raise InputError(
                f"{self.model_file} has {len(saved.retired)} retired item(s), unknown to the model alone",
                "use Run.saved_model and recommend_ids, or restore the file that the training wrote",
            )
        return saved.model

    def model_and_dataset(self) -> tuple[SavedModel, Dataset]:
        """The best model so far with its item ids, and the data.  InputError if they do not match."""
        content, dataset = self.content_and_dataset()
        return as_saved(self.model_file, content), dataset

    def content_and_dataset(self) -> tuple[ModelContent, Dataset]:
        """As `model_and_dataset`, but the mapped model file in place of the model."""
        dataset, content = self.dataset(), self.content()
        if content.item_ids is None:  # files of format 1 have none
            return replace(content, item_ids=dataset.item_ids), dataset
        more = len(content.item_ids) - dataset.num_items
        if more > 0 and content.item_ids[:-more] == dataset.item_ids:
            raise InputError(
                f"{self.model_file} has {more} new item(s), which the data of the run do not know",
                "use the file outside of the run, and restore the file that the training wrote",
            )
        if content.item_ids != dataset.item_ids:
            raise self._another_runs_model("item ids")
        return content, dataset

    def saved_model(self) -> SavedModel:
        """The best model so far, with what its file says of it.  Raises InputError as `content` does."""
        return as_saved(self.model_file, self.content())

    def content(self) -> ModelContent:
        """The mapped model file.  InputError if it does not match the run's data and options."""
        fingerprint = self.facts()["fingerprint"]
        if not self.model_file.exists() and not _finished_epochs(self.checkpoints):
            raise InputError(
                f"{self.folder} holds no trained model yet", f"finish an epoch with {self.resume_command}"
            )
        content = read_model_file(self.model_file)
        if content.fingerprint != fingerprint:
            raise self._another_runs_model("data")
        if content.config != self.config().model:
            raise self._another_runs_model("options")
        return content

    def _another_runs_model(self, differing: str) -> InputError:
        return InputError(
            f"{self.model_file} belongs to another run: its {differing} differ",
            "restore the run's own file, or train again into another --out",
        )

    def log(self) -> list[EpochRecord]:
        """The records of the log, one for each epoch.  InputError if a line is damaged."""
        return read_log(self.log_file)


def runs_in(folder: Path) -> list[Run]:
    """The run in a folder of `recblr train`, or the runs of all seeds in one of `recblr reproduce`.

    Raises InputError if there is none.
    """
    if Run(folder).exists():
        return [Run(folder)]
    runs = [run for run in map(Run, sorted(folder.glob("seed-*"))) if run.exists()]
    if not runs:
        raise InputError(
            f"{folder} holds no run", "give a folder that `recblr train` or `recblr reproduce` wrote"
        )
    return runs


def _difference(key: str, before: Any, now: Any) -> str:
    """How the values of an option differ; None is an option that is not given."""
    if before is None:
        return f"without --{key}, not with {now}"
    return f"with --{key} {before}, not " + ("without it" if now is None else f"{now}")


def _options(config: TrainingConfig, data: DataConfig | None) -> dict[str, Any]:
    return (data.as_options() if data else {}) | config.as_options()


def split_for(dataset: Dataset, config: TrainingConfig) -> Split:
    """Split the data as a run's options say.  InputError if the data cannot be split in this way."""
    return split_dataset(
        dataset,
        config.split,
        valid_share=config.valid_share,
        test_share=config.test_share,
        keep_short=config.keep_short,
    )


def settled_for(train: Packed, config: TrainingConfig) -> TrainingConfig:
    """The options with the values that the histories of training decide, see :meth:`TrainingConfig.settled`.

    Raises InputError if the model is to use times, but no times are known, or all are the same.
    """
    times = time_range(train) is not None
    if not times and config.model.time not in (None, "none"):
        what = "are all the same" if train.times is not None else "are missing, or have an unknown unit"
        raise InputError(
            f"--time {config.model.time} needs the times of the events, but they {what}",
            "give a log with times (--time-column, --time-unit, no --file-order), or --time none",
        )
    return config.settled(train.items.size, times=times)


def checkpoint_name(epoch: int, step: int) -> str:
    """The name of the checkpoint after `epoch` complete epochs and `step` steps of the next one."""
    return f"epoch-{epoch:04d}" + (f"-step-{step:06d}" if step else "")


def checkpoints_in(folder: Path) -> list[Path]:
    """The checkpoints in `folder`, the newest last.  They may be damaged."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted((folder / name for name in names if _CHECKPOINT.fullmatch(name)), key=position)


def position(checkpoint: Path) -> tuple[int, int]:
    """The position that a checkpoint's name says: (complete epochs, steps of the next epoch)."""
    match = _CHECKPOINT.fullmatch(checkpoint.name)
    assert match is not None
    return int(match[1]), int(match[2] or 0)


def _tidy_checkpoints(folder: Path) -> None:
    """Remove what a killed run has left beside the newest checkpoint: older checkpoints and drafts."""
    for path in (*checkpoints_in(folder)[:-1], *folder.glob(".epoch-*")):
        shutil.rmtree(path, ignore_errors=True)


def _finished_epochs(folder: Path) -> int:
    """The number of complete epochs at the newest checkpoint, damaged or not.  0 without a checkpoint."""
    found = checkpoints_in(folder)
    return position(found[-1])[0] if found else 0
