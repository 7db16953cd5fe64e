"""Training, evaluation and recommendation give the same bits, whatever torch's default dtype is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training.tiny_runs import CONFIG, assert_same_run, tiny_config, tiny_dataset

from recblr.nn import RecBLRConfig
from recblr.nn.model import build_model
from recblr.serving import recommend
from recblr.training import Run, TrainingConfig, train
from recblr.training.evaluate import evaluate_run

DTYPES = [torch.float64, torch.bfloat16, torch.float16]


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


RUNS: dict[str, TrainingConfig] = {
    "as by default": tiny_config(epochs=2),
    "bfloat16, moving average": tiny_config(epochs=2, precision="bfloat16", ema=0.9),
    "prefixes, BPR": tiny_config(epochs=1, samples="prefixes", batch_sequences=64, loss="bpr", negatives=8),
    "gBCE": tiny_config(epochs=1, loss="gbce", negatives=8),
    "sampled softmax": tiny_config(epochs=1, loss="sampled-softmax", negatives_from="uniform", negatives=8),
    "the released options": replace(
        CONFIG, epochs=1, model=RecBLRConfig.released(15, d_model=16, num_layers=1, dropout=0.1)
    ),
}


@pytest.mark.parametrize("config", RUNS.values(), ids=RUNS)
def test_training_under_a_default_of_float64_gives_the_same_run(
    tmp_path: Path, config: TrainingConfig
) -> None:
    train(tiny_dataset(), Run(tmp_path / "plain"), config)
    with default_dtype(torch.float64):
        train(tiny_dataset(), Run(tmp_path / "run"), config)
        assert torch.get_default_dtype() == torch.float64
    assert_same_run(tmp_path / "run", tmp_path / "plain")


@pytest.mark.parametrize("dtype", DTYPES[1:], ids=str)
def test_training_under_a_16_bit_default_gives_the_same_run(tmp_path: Path, dtype: torch.dtype) -> None:
    train(tiny_dataset(), Run(tmp_path / "plain"), tiny_config(epochs=1))
    with default_dtype(dtype):
        train(tiny_dataset(), Run(tmp_path / "run"), tiny_config(epochs=1))
    assert_same_run(tmp_path / "run", tmp_path / "plain")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A trained run."""
    folder = Run(tmp_path_factory.mktemp("run"))
    train(tiny_dataset(), folder, tiny_config(epochs=1))
    return folder


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_evaluation_and_recommendation_do_not_depend_on_the_default(run: Run, dtype: torch.dtype) -> None:
    def results() -> Any:
        report = evaluate_run(run)
        return report["ours"], report["baselines"], recommend(run.model(), [1, 2, 3], 5)

    expected = results()
    with default_dtype(dtype):
        assert results() == expected


def test_a_failure_to_build_leaves_the_default_as_it_was() -> None:
    with default_dtype(torch.float64):
        with pytest.raises(ValueError, match="num_items"):
            build_model(0, RecBLRConfig())
        assert torch.get_default_dtype() == torch.float64
