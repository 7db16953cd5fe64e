"""A run's folder: what is in it, and how it is opened and checked.

config.json          options, data and command
dataset/             the filtered histories and the ids of users and items
model.safetensors    the best model so far
log.jsonl            a line an epoch
checkpoints/         what --resume continues from
report.json          the evaluation
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recblr.data import Dataset
from recblr.data.atomic import atomic_path
from recblr.errors import InputError
from recblr.nn.model import RecBLR
from recblr.training.checkpoint import has_checkpoint, tidy
from recblr.training.config import TrainingConfig
from recblr.training.model_file import load_model
from recblr.training.record import EpochRecord

_FORMAT = 1


@dataclass(frozen=True)
class Run:
    """The folder of one training run, new or finished."""

    folder: Path

    @property
    def config_file(self) -> Path:
        return self.folder / "config.json"

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
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def dataset_folder(self) -> Path:
        return self.folder / "dataset"

    def exists(self) -> bool:
        """Whether the folder holds a run, be it damaged; False too where nobody may look."""
        return os.path.exists(self.config_file)

    def create(self, dataset: Dataset, config: TrainingConfig, facts: dict[str, Any]) -> None:
        """Lay out the folder for a new run; InputError where it cannot be written to or holds a run."""
        if self.exists():
            raise InputError(
                f"{self.folder} already holds a run; add --resume to continue it, or choose another --out"
            )
        if has_checkpoint(self.checkpoints):
            # They would pass for this run's as soon as it is resumed.
            raise InputError(
                f"{self.folder} holds checkpoints of a run whose {self.config_file.name} is gone; "
                "choose another --out"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"cannot make the folder {self.folder}: {error.strerror}; choose another --out"
            ) from None
        dataset.save(self.dataset_folder)
        values = {
            "format": _FORMAT,
            "fingerprint": dataset.fingerprint,
            "training": config.as_dict(),
            **facts,
        }
        # Last, because its presence says that the folder holds a run.
        with atomic_path(self.config_file) as draft:
            draft.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")

    def tidy(self) -> None:
        """Remove what a killed run has left: drafts of files, and checkpoints but the newest."""
        tidy(self.checkpoints)
        for file in (self.config_file, self.model_file, self.log_file, self.report_file):
            for draft in self.folder.glob(f".{file.name}.*"):
                draft.unlink(missing_ok=True)

    def facts(self) -> dict[str, Any]:
        """config.json; InputError where the folder holds no run, or a damaged one."""
        try:
            values = json.loads(self.config_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{self.folder} holds no run (there is no {self.config_file.name}); "
                "give the folder that `recblr train` wrote with --out"
            ) from None
        except OSError as error:
            raise InputError(
                f"cannot read {self.config_file}: {error.strerror}; "
                "give the folder that `recblr train` wrote with --out"
            ) from None
        except (ValueError, RecursionError):
            raise self._damaged() from None
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            raise InputError(
                f"{self.config_file} was not written by this version of recblr; "
                "train again into another --out"
            )
        if not isinstance(values.get("fingerprint"), str):
            raise self._damaged()
        return values

    def config(self) -> TrainingConfig:
        """The options that the run was started with."""
        facts = self.facts()
        try:
            return TrainingConfig.from_dict(facts["training"])
        except (KeyError, TypeError, ValueError):
            raise self._damaged() from None

    def check_resumable(self, dataset: Dataset, config: TrainingConfig) -> None:
        """InputError, naming what differs, unless the run was started with this data and these options."""
        before, now = self.config().flat(), config.flat()
        for name, value in now.items():
            if before[name] != value:
                raise InputError(
                    f"{self.folder} was started with --{name} {before[name]}, not {value}; "
                    "resume with the same options, or choose another --out"
                )
        if self.facts()["fingerprint"] != dataset.fingerprint:
            raise InputError(
                f"{self.folder} was started on other data (or another --k-core) than {dataset.name} now "
                "gives; resume with the same data, or choose another --out"
            )

    def dataset(self) -> Dataset:
        """The run's filtered histories and ids; InputError where they are missing or damaged."""
        fingerprint = self.facts()["fingerprint"]
        try:
            dataset = Dataset.load(self.dataset_folder)
        except InputError as error:
            reason = str(error).rpartition(": ")[0]  # the rest is what a reader of data files may do about it
            raise InputError(
                f"{reason}; restore the folder from a copy, or train again into another --out"
            ) from None
        if dataset.fingerprint != fingerprint:
            raise InputError(
                f"{self.dataset_folder} holds other data than the run was started with; "
                "restore the run's own, or train again into another --out"
            )
        return dataset

    def model(self) -> RecBLR:
        """The best model so far, in evaluation mode; InputError where it does not fit the run's data."""
        fingerprint = self.facts()["fingerprint"]
        if not self.model_file.exists() and not has_checkpoint(self.checkpoints):
            raise InputError(
                f"{self.folder} holds no trained model yet; continue it with `recblr train … --resume`"
            )
        model, header = load_model(self.model_file)
        differs = "data" if header.get("fingerprint") != fingerprint else "options"
        if differs == "data" or model.config != self.config().model:
            raise InputError(
                f"{self.model_file} belongs to another run: its {differs} differ; "
                "restore the run's own, or train again into another --out"
            )
        return model

    def log(self) -> list[EpochRecord]:
        """The log's records, one an epoch; InputError where a line is no record."""
        if not self.log_file.exists():
            return []
        records = []
        for number, line in enumerate(self.log_file.read_bytes().splitlines(), 1):
            try:
                records.append(EpochRecord(**json.loads(line)))
            except (ValueError, TypeError, RecursionError):
                raise InputError(
                    f"{self.log_file}, line {number} is damaged; restore it from a copy, or delete the line"
                ) from None
        return records

    def _damaged(self) -> InputError:
        return InputError(
            f"{self.config_file} is damaged; restore it from a copy, or train again into another --out"
        )
