"""Makes checkpoints as RecBole's trainer writes them, and hostile variants of them, without RecBole."""

from __future__ import annotations

import sys
import types
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from nn.released import ReleasedRecBLR, with_large_weights

N_ITEMS, WIDTH, LENGTH = 17, 8, 11


@contextmanager
def fake_recbole() -> Iterator[Any]:
    """A fake of RecBole's Config, which its checkpoints pickle.  It exists only in this context."""
    name = "recbole.config.configurator"

    class Config:
        def __init__(self, settings: dict[str, Any]) -> None:
            self.final_config_dict = settings
            self.parameters = {"Training": ["learning_rate"]}
            self.model_class = ReleasedRecBLR  # pickle stores only the name of this class

    Config.__module__, Config.__qualname__ = name, "Config"
    with pytest.MonkeyPatch.context() as patch:
        for package in ("recbole", "recbole.config", name):
            module = types.ModuleType(package)
            module.Config = Config  # type: ignore[attr-defined]
            patch.setitem(sys.modules, package, module)
        yield Config


def released_model(**shape: Any) -> ReleasedRecBLR:
    torch.manual_seed(0)
    return with_large_weights(ReleasedRecBLR(N_ITEMS, WIDTH, **shape)).eval()


def save(path: Path, model: ReleasedRecBLR, settings: dict[str, Any] | None = None, **entries: Any) -> Path:
    """Write a checkpoint as RecBole's trainer does.  `entries` replace its entries or add more."""
    if settings is None:
        settings = {"MAX_ITEM_LIST_LENGTH": LENGTH, "dropout_prob": 0.3, "device": torch.device("cpu")}
    optimizer = torch.optim.Adam(model.parameters())
    model.full_sort_predict(torch.ones(1, LENGTH, dtype=torch.long), torch.tensor([2])).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    with fake_recbole() as config:
        checkpoint = {
            "config": config(settings),
            "epoch": 7,
            "cur_step": 0,
            "best_valid_score": 0.25,
            "state_dict": model.state_dict(),
            "other_parameter": {},
            "optimizer": optimizer.state_dict(),
            **entries,
        }
        torch.save(checkpoint, path, pickle_protocol=4)
    return path


def with_pickle(path: Path, pickled: bytes) -> Path:
    """Write a file of torch.save with the pickle `pickled`."""
    torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, record in records.items():
            archive.writestr(name, pickled if name.endswith("/data.pkl") else record)
    return path
