"""Small models with large random weights, engines that serve them, and the scores that they must give."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from recblr.config.model import RecBLRConfig
from recblr.data import Packed
from recblr.nn.base import NextItemModel
from recblr.nn.model import build_model
from recblr.run.model_file import save_model
from recblr.serving.engine import Engine
from recblr.serving.scorer import model_scorer

NUM_ITEMS = 23
IDS = [f"i{number}" for number in range(NUM_ITEMS)]
START = 1.7e9  # seconds


@dataclass(frozen=True)
class Case:
    """A model: its configuration, its repeat bias, and the range of its times (longest gap, step, start)."""

    name: str
    config: RecBLRConfig
    bias: float | None = None
    times: tuple[int, int, int] = (10**7, 0, 0)

    def __str__(self) -> str:
        return self.name

    @property
    def timed(self) -> bool:
        return self.config.time_use != "none"


def case(
    name: str, *, bias: float | None = None, times: tuple[int, int, int] = (10**7, 0, 0), **config: Any
) -> Case:
    return Case(name, RecBLRConfig(**{"d_model": 8, "num_layers": 1, **config}), bias, times)


CASES = [
    case("plain", time="none", history_average=False),
    case("average", time="none", d_model=7, expand=1, d_conv=1, num_layers=3),
    case("wide", time="none", d_model=33, expand=1.3, d_conv=3, num_layers=2, bias=0.7),
    case("whole vectors", time="none", d_model=64, num_layers=2),
    case("one channel", time="none", d_model=2, expand=0.5, d_conv=2),
    case("past", time="past", d_model=20, expand=1.7, history_average=False, bias=-1.5, times=(10**9, 60, 5)),
    case("past in days", time="past", d_model=7, num_layers=2, times=(10**6, 86400, 3600)),
    case("request", time="request", d_model=20, num_layers=2, d_conv=5),
    case(
        "request in minutes",
        time="request", d_model=33, bias=2.5, times=(3600, 60, 13), history_average=False,
    ),
    case("epsilon", time="request", d_model=9, beta_epsilon=1e-3, lambda_init="linspace", times=(9**9, 1, 0)),
    Case("released", RecBLRConfig.released(6, d_model=20, num_layers=2)),
    Case(
        "released, with all",
        RecBLRConfig.released(5, d_model=7, history_average=True, time="request"), 0.5,
    ),
    case("window", time="past", max_length=3, d_model=16, bias=0.3),
]  # fmt: skip
BY_NAME = {case.name: case for case in CASES}


def model_of(case: Case, num_items: int = NUM_ITEMS, seed: int = 0) -> NextItemModel:
    """A model in float32 whose weights are so large that each part of it counts."""
    torch.manual_seed(seed)
    model = build_model(num_items, case.config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.25)
    if case.bias is not None:
        model.learn_repeat_bias(case.bias)
    if model.time is not None:
        model.time.set_range(*case.times)
    return model.eval()


def file_of(model: NextItemModel, ids: list[str]) -> Path:
    """A model file, which lives as long as the process."""
    path = Path(_folder().name) / f"{len(list(Path(_folder().name).iterdir()))}.safetensors"
    save_model(model, path, ids, fingerprint="f", metrics={"full": {"ndcg@10": 0.5}})
    return path


@lru_cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory()


@lru_cache
def path_of(case: Case) -> Path:
    return file_of(model_of(case), IDS)


def fresh(case: Case | str, **options: Any) -> Engine:
    """A new engine; it keeps histories if its model needs them."""
    case = BY_NAME[case] if isinstance(case, str) else case
    return Engine.load(
        path_of(case), **{"history": case.config.max_length is not None, "threads": 2, **options}
    )


@lru_cache
def shared(case: Case, **options: Any) -> Engine:
    """An engine that tests share; they use :func:`cleared`."""
    return fresh(case, **options)


def cleared(case: Case, **options: Any) -> Engine:
    engine = shared(case, **options)
    for user in engine.user_ids:
        assert engine.forget(user)
    assert (engine.num_users, engine.seen_bytes) == (0, 0)
    return engine


@lru_cache
def in_double(case: Case) -> NextItemModel:
    return model_of(case).double()


History = tuple[list[int], list[float], float]  # items, times, and the time of the request


def scores_of(case: Case, histories: list[History], model: NextItemModel | None = None) -> np.ndarray:
    """The scores (S, V) of a full pass in float64."""
    offsets = np.cumsum([0, *(len(items) for items, _, _ in histories)])
    packed = Packed(np.array([i for items, _, _ in histories for i in items], np.int64), offsets)
    if case.timed:
        packed = replace(
            packed,
            times=np.array([t for _, times, _ in histories for t in times], np.float64),
            request_times=np.array([request for _, _, request in histories], np.float64),
        )
    return model_scorer(model or in_double(case))(packed).numpy()


def everything(engine: Engine) -> dict[str, Any]:
    """All that an engine keeps, to show that nothing changed."""
    return {
        "states": {user: engine.state(user) for user in engine.user_ids},
        "seen": {user: engine.seen(user) for user in engine.user_ids},
        "users": engine.num_users,
        "seen bytes": engine.seen_bytes,
        "items": engine.item_ids,
    }


def assert_near(ours: np.ndarray, right: np.ndarray) -> None:
    """The promise of the engine: an error of at most 1e-5 of the largest score."""
    assert np.abs(ours - right).max() <= 1e-5 * np.abs(right).max()
