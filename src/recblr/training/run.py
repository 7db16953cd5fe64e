"""A run's folder: what is in it, and how it is opened and checked.

config.json          options, data and command
dataset/             the filtered histories and the ids of users and items
model.safetensors    the best model so far
log.jsonl            a line an epoch
checkpoints/         what --resume continues from
report.json          the evaluation
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recblr.data import Dataset
from recblr.data.atomic import atomic_path
from recblr.errors import InputError
from recblr.nn.model import RecBLR
from recblr.training.config import TrainingConfig
from recblr.training.model_file import load_model

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

    def create(self, dataset: Dataset, config: TrainingConfig, facts: dict[str, Any]) -> None:
        """Lay out the folder for a new run; InputError where it cannot be written to or holds a run."""
        if self.config_file.exists():
            raise InputError(
                f"{self.folder} already holds a run; add --resume to continue it, or choose another --out"
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

    def facts(self) -> dict[str, Any]:
        """config.json; InputError where the folder holds no run, or a damaged one."""
        try:
            values = json.loads(self.config_file.read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise InputError(
                f"{self.folder} holds no run (there is no {self.config_file.name}); "
                "give the folder that `recblr train` wrote with --out"
            ) from None
        except (OSError, ValueError):
            raise InputError(f"{self.config_file} is damaged; train again into another --out") from None
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            raise InputError(
                f"{self.config_file} was not written by this version of recblr;"
                " train again into another --out"
            )
        return values

    def config(self) -> TrainingConfig:
        """The options that the run was started with."""
        try:
            return TrainingConfig.from_dict(self.facts()["training"])
        except (KeyError, TypeError, AttributeError):
            raise InputError(f"{self.config_file} is damaged; train again into another --out") from None

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
                f"{self.folder} was started on other data (or another --k-core) than {dataset.name} now"
                " gives; "
                "resume with the same data, or choose another --out"
            )

    def dataset(self) -> Dataset:
        """The run's filtered histories and ids."""
        self.facts()
        return Dataset.load(self.dataset_folder)

    def model(self) -> RecBLR:
        """The best model so far, in evaluation mode; InputError where it does not fit the run's data."""
        self.facts()
        if not self.model_file.exists():
            raise InputError(
                f"{self.folder} holds no trained model yet; continue it with `recblr train … --resume`"
            )
        model, header = load_model(self.model_file)
        if header.get("fingerprint") != self.facts()["fingerprint"]:
            raise InputError(
                f"{self.model_file} belongs to another run: its data differ; restore the run's own"
            )
        return model

    def log(self) -> list[dict[str, Any]]:
        """The log's records, a dictionary an epoch."""
        if not self.log_file.exists():
            return []
        try:
            return [json.loads(line) for line in self.log_file.read_text(encoding="utf-8").splitlines()]
        except ValueError:
            raise InputError(f"{self.log_file} is damaged; delete its last line") from None
