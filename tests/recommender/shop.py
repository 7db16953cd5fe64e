"""Logs as frames, and recommenders of models with large random weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
from serving.engines import Case, model_of
from training.tiny_runs import tiny_dataset

from recblr import Dataset, Recommender
from recblr.data import Packed
from recblr.run.folder import Run
from recblr.run.model_file import save_model
from recblr.training import TrainingConfig

SMALL: dict[str, Any] = {"d_model": 16, "num_layers": 1, "dropout": 0.1, "device": "cpu", "epochs": 1}
START = 1_600_000_000


def columns(dataset: Dataset | None = None) -> dict[str, list[Any]]:
    """The events of a dataset with integers as users and texts as items, in the order of time."""
    dataset = dataset or tiny_dataset()
    owners = np.repeat(np.arange(dataset.num_users), dataset.histories.lengths)
    times = START + 3600 * np.arange(owners.size) + 7 * owners
    return {
        "uid": (7 * owners + 3).tolist(),
        "sku": [dataset.item_ids[item] for item in dataset.histories.items],
        "ts": times.tolist(),
    }


def pandas_log() -> pd.DataFrame:
    return pd.DataFrame(columns())


def polars_log() -> pl.DataFrame:
    return pl.DataFrame(columns())


NAMES = {"user": "uid", "item": "sku", "time": "ts"}


def random_dataset(num_items: int, users: int = 9, seed: int = 1) -> Dataset:
    """Histories of 1 to 30 events with times, over a catalogue whose ids are texts of numbers."""
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 30, users)
    items = random.integers(0, num_items, lengths.sum())
    times = START + random.integers(0, 10**6, lengths.sum())
    histories = Packed.from_lengths(items, lengths)
    for start, end in zip(histories.offsets[:-1], histories.offsets[1:], strict=True):
        times[start:end].sort()
    names = [f"u{user}" for user in range(users)]
    return Dataset("random", histories, names, [str(item) for item in range(num_items)], times, time_unit="s")


def of_case(case: Case, folder: Path, *, backend: Any = "auto", num_items: int = 40) -> Recommender:
    """A recommender of a model with large random weights, so that each part of it counts."""
    run, dataset = Run(folder / str(case)), random_dataset(num_items)
    if not run.exists():
        config = TrainingConfig(model=replace(case.config, time=case.config.time_use))
        run.create(dataset, config)
        model = model_of(replace(case, config=config.model), num_items)
        save_model(model, run.model_file, dataset.item_ids, fingerprint=dataset.fingerprint, epoch=1)
    return Recommender.load(run.folder, backend=backend)


def rows(frame: Any) -> list[tuple[Any, ...]]:
    """The rows of a frame of either kind."""
    if isinstance(frame, pl.DataFrame):
        return frame.rows()
    return list(frame.itertuples(index=False, name=None))
