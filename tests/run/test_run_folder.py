"""A run's folder: it is never created over other runs, and a damaged file gives one clear sentence."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from run import sealed
from safetensors.torch import save_file
from training.tiny_runs import contents, tiny_config, tiny_dataset

import recblr
from recblr.errors import InputError
from recblr.nn import RecBLRConfig
from recblr.run import load_model, save_model
from recblr.run.log import append_to_log
from recblr.training import Run, train
from recblr.training.evaluate import evaluate_run


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(tiny_dataset(), Run(folder), tiny_config(epochs=2), facts={"command": "recblr train d --out run"})
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Run:
    """A finished run to damage."""
    return Run(Path(shutil.copytree(finished, tmp_path / "run")))


def refused(action: Callable[[], object], *says: str) -> None:
    with pytest.raises(InputError) as raised:
        action()
    message = str(raised.value)
    assert "\n" not in message
    for part in says:
        assert part in message


def test_a_run_is_read_as_it_was_written(run: Run) -> None:
    assert run.config() == tiny_config(epochs=2)
    assert run.facts()["command"] == "recblr train d --out run"
    assert run.dataset().fingerprint == tiny_dataset().fingerprint
    assert run.model().num_items == tiny_dataset().num_items
    assert [record.epoch for record in run.log()] == [1, 2]


def test_a_run_of_a_version_that_did_not_keep_the_unit_of_times_still_opens(run: Run) -> None:
    seconds = 1_700_000_000 + np.arange(tiny_dataset().num_interactions)
    dataset = replace(tiny_dataset(), times=seconds)  # the same order, so the same fingerprint
    dataset.save(run.dataset_folder)
    about = run.dataset_folder / "dataset.json"
    about.write_text(json.dumps(json.loads(about.read_text()) | {"version": 3, "time_unit": "s"}))
    assert run.model_and_dataset()[1].times is not None
    run.resume(run.dataset(), run.config())
    evaluate_run(run)
    refused(
        lambda: run.resume(replace(dataset, time_unit="s"), run.config()),
        f"{run.folder} was started on these data without the unit of their times; resume without DATA",
    )


def test_the_parent_folders_are_created(tmp_path: Path) -> None:
    run = Run(tmp_path / "a" / "b" / "run")
    run.create(tiny_dataset(), tiny_config())
    assert run.exists()


def test_other_files_in_the_folder_are_kept(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    Run(tmp_path).create(tiny_dataset(), tiny_config())
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_run_is_not_created_over_another(run: Run) -> None:
    before = contents(run.folder)
    refused(
        lambda: train(tiny_dataset(), run, tiny_config(epochs=2)),
        f"{run.folder} already holds a run; add --resume to continue it, or choose another --out",
    )
    assert contents(run.folder) == before


def test_a_run_is_not_created_over_the_checkpoints_of_another(run: Run) -> None:
    run.facts_file.unlink()
    before = contents(run.folder)
    says = "holds checkpoints of a run whose run.json is missing; choose another --out"
    refused(lambda: train(tiny_dataset(), run, tiny_config(epochs=2)), says)
    refused(lambda: train(tiny_dataset(), run, tiny_config(epochs=2), resume=True), says)
    assert contents(run.folder) == before


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300])
def test_the_error_names_a_folder_that_cannot_be_created(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("mine")
    run = Run(tmp_path / name)
    refused(lambda: train(tiny_dataset(), run, tiny_config()), str(run.folder), "choose another --out")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("action", [Run.facts, Run.config, Run.dataset, Run.model, evaluate_run])
@pytest.mark.parametrize("name", ["", "nowhere"])
def test_the_error_names_a_folder_without_a_run(
    tmp_path: Path, name: str, action: Callable[[Run], object]
) -> None:
    run = Run(tmp_path / name)
    refused(lambda: action(run), f"{run.folder} holds no run (there is no run.json); give the folder that")


def test_a_file_in_place_of_the_folder_is_refused(run: Run) -> None:
    refused(Run(run.log_file).facts, f"{run.log_file} holds no run")


def test_the_error_says_why_a_path_cannot_be_read(tmp_path: Path) -> None:
    refused(Run(tmp_path / ("x" * 300)).facts, "cannot read", "File name too long")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[" * 100_000])
def test_damaged_facts_are_refused(run: Run, content: bytes) -> None:
    run.facts_file.write_bytes(content)
    for action in (run.config, run.dataset, run.model, lambda: evaluate_run(run)):
        refused(action, f"{run.facts_file} is damaged", "train again into another --out")


@pytest.mark.parametrize("content", [b"[]", b"{}", b"null", b'{"format": 99}'])
def test_foreign_facts_are_refused(run: Run, content: bytes) -> None:
    run.facts_file.write_bytes(content)
    refused(run.config, f"{run.facts_file} was not written by this version of recblr")


@pytest.mark.parametrize("fingerprint", ["", '"fingerprint": 3, '])
def test_facts_without_a_fingerprint_are_damaged(run: Run, fingerprint: str) -> None:
    run.facts_file.write_text("{" + fingerprint + '"format": 2}')
    refused(run.dataset, f"{run.facts_file} is damaged", "train again into another --out")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("epochs", "is not TOML: "),
        ("[optimisation]\nepochs = 0", "--epochs must be at least 1, but is 0"),
        ('[optimisation]\nepochs = "many"', "epochs in [optimisation] must be a whole number, but is"),
        ("model = 3", "model is a table"),
        ("[model]\nd-model = -1", "--d-model must be at least 1, but is -1"),
        ('[model]\nshade = "red"', "there is no shade in [model]"),
    ],
)
def test_impossible_options_give_an_error_with_the_remedy(run: Run, content: str, says: str) -> None:
    run.config_file.write_text(content)
    remedy = "; restore it from a copy, or train again into another --out"
    refused(lambda: evaluate_run(run), f"{run.config_file}", says, remedy)


def test_the_error_names_a_missing_config_file(run: Run) -> None:
    run.config_file.unlink()
    refused(run.config, f"there is no config file {run.config_file}; restore it from a copy")


def test_a_dataset_with_a_missing_file_is_refused(run: Run) -> None:
    (run.dataset_folder / "catalogue.parquet").unlink()
    refused(run.dataset, "catalogue.parquet is missing", "restore the folder from a copy, or train again")


def test_a_truncated_dataset_is_refused(run: Run) -> None:
    path = run.dataset_folder / "histories.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    refused(run.dataset, f"the dataset saved in {run.dataset_folder} is damaged; restore the folder")


def test_the_dataset_of_another_run_is_refused(run: Run) -> None:
    tiny_dataset(seed=4).save(run.dataset_folder)
    refused(run.dataset, f"{run.dataset_folder} holds other data than the run was started with")


def test_the_model_of_a_run_on_other_data_is_refused(run: Run, tmp_path: Path) -> None:
    other = Run(tmp_path / "other")
    train(tiny_dataset(seed=4), other, tiny_config(epochs=1))
    shutil.copy(other.model_file, run.model_file)
    refused(
        run.model, f"{run.model_file} belongs to another run: its data differ; restore the run's own file"
    )


def test_the_model_of_a_run_with_other_options_is_refused(run: Run, tmp_path: Path) -> None:
    other = Run(tmp_path / "other")
    train(tiny_dataset(), other, tiny_config(epochs=1, model=RecBLRConfig(d_model=8, num_layers=1)))
    shutil.copy(other.model_file, run.model_file)
    refused(run.model, f"{run.model_file} belongs to another run: its options differ")


def test_the_model_file_is_complete_without_the_folder(run: Run, tmp_path: Path) -> None:
    saved = load_model(Path(shutil.copy(run.model_file, tmp_path / "elsewhere")))
    dataset, best = tiny_dataset(), run.log()[-1].best_epoch
    assert (saved.item_ids, saved.fingerprint) == (dataset.item_ids, dataset.fingerprint)
    assert (saved.epoch, saved.metrics) == (best, run.log()[best - 1].valid)
    assert saved.version == recblr.__version__


def test_the_model_is_loaded_with_its_data(run: Run) -> None:
    saved, dataset = run.model_and_dataset()
    assert saved.item_ids == dataset.item_ids == tiny_dataset().item_ids


def test_a_model_of_format_1_has_the_item_ids_of_the_data(run: Run) -> None:
    def make_format_1(tensors: sealed.Tensors, header: sealed.Header) -> None:
        tensors.pop("item_ids")
        for name in ("format", "version", "metrics", "digest"):
            del header[name]

    sealed.rewrite(run.model_file, make_format_1)
    assert run.saved_model().item_ids is None
    assert run.model_and_dataset()[0].item_ids == tiny_dataset().item_ids
    assert evaluate_run(run)["ours"]


def test_a_model_with_other_item_ids_than_the_data_is_refused(run: Run) -> None:
    saved = run.saved_model()
    ids = [*saved.item_ids[1:], saved.item_ids[0]]
    save_model(saved.model, run.model_file, ids, fingerprint=saved.fingerprint)
    says = (
        f"{run.model_file} belongs to another run: its item ids differ; restore the run's own file, or train"
    )
    refused(run.model_and_dataset, says)
    refused(lambda: evaluate_run(run), says)


def test_a_truncated_or_foreign_model_is_refused(run: Run) -> None:
    run.model_file.write_bytes(run.model_file.read_bytes()[:-100])
    refused(lambda: evaluate_run(run), f"{run.model_file} is damaged or truncated", "train again")
    save_file({"weight": torch.zeros(2)}, run.model_file)
    refused(lambda: evaluate_run(run), f"{run.model_file} was not written by recblr", "train again")


def test_a_checkpoint_is_not_accepted_as_the_model(run: Run) -> None:
    shutil.copy(run.checkpoints / "epoch-0002" / "model.safetensors", run.model_file)
    refused(run.model, "holds a recblr checkpoint, not a model")


def test_a_run_without_an_epoch_has_no_model_yet(tmp_path: Path) -> None:
    run = Run(tmp_path / "run")
    run.create(tiny_dataset(), tiny_config())
    refused(run.model, f"holds no trained model yet; finish an epoch with {run.resume_command}")


def test_the_remedy_for_a_missing_model_is_not_to_resume(run: Run) -> None:
    # Resuming does not write the model again, so the error must not advise it.
    run.model_file.unlink()
    refused(run.model, f"there is no file {run.model_file}; restore it from a copy, or train again")


def test_the_error_names_a_damaged_line_of_the_log(run: Run) -> None:
    lines = run.log_file.read_text().splitlines()
    for damage in (lines[1][:50], "{}", "[1]", "\x00"):
        run.log_file.write_text(f"{lines[0]}\n{damage}\n")
        refused(run.log, f"{run.log_file}, line 2 is damaged", "delete the line")


@pytest.mark.parametrize(
    ("number", "value"),
    [
        ("train_seconds", "1e999"),
        ("valid_seconds", "-1"),
        ("loss", "NaN"),
        ("steps", "1" * 400),
        ("hr@10", "1.5"),
    ],
)
def test_an_impossible_number_in_the_log_is_damage(run: Run, number: str, value: str) -> None:
    # One wrong byte turns 1.25 into 1e25, and a report cannot hold infinity.
    first, *_ = run.log_file.read_text().splitlines()
    damaged, times = re.subn(rf'(?<="{number}": )[^,}}]+', value, first, count=1)
    assert times == 1
    run.log_file.write_text(damaged + "\n")
    refused(run.log, f"{run.log_file}, line 1 is damaged")


def test_the_error_names_a_log_that_cannot_be_written_to(run: Run) -> None:
    record = run.log()[0]
    run.log_file.unlink()
    run.log_file.mkdir()
    refused(
        lambda: append_to_log(run.log_file, record), f"cannot write {run.log_file}: Is a directory; make room"
    )


def test_a_missing_log_is_read_as_empty(run: Run) -> None:
    run.log_file.unlink()
    assert run.log() == []
