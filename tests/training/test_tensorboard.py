"""The scalars for TensorBoard are the figures of the log, each once, even if the run was stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from training.tiny_runs import Witness, assert_same_run, at_question, contents, tiny_config, tiny_dataset

from recblr.errors import InputError
from recblr.training import Run, TrainingStopped, tensorboard, train

CONFIG = tiny_config(epochs=2, tensorboard=True)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensorboard, "EVERY", 2)


@pytest.fixture(autouse=True)
def _files_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorBoard numbers the files of a process and sorts the numbers as text: it would read 10 before 9."""
    try:
        from tensorboard.summary.writer import event_file_writer
    except ModuleNotFoundError:
        return
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(100))


def scalars(run: Run) -> dict[str, list[tuple[int, float]]]:
    """{tag: [(step, value), ...]} as TensorBoard shows them."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="scalars need tensorboard, the extra of that name",
    )
    events = accumulator.EventAccumulator(str(run.tensorboard), size_guidance={accumulator.SCALARS: 0})
    events.Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def straight(folder: Path, **options: Any) -> Run:
    pytest.importorskip("tensorboard", reason="scalars need tensorboard, the extra of that name")
    run = Run(folder)
    train(tiny_dataset(), run, CONFIG, **options)
    return run


def test_the_scalars_are_those_of_the_log(tmp_path: Path) -> None:
    witness = Witness()
    run = straight(tmp_path / "run", listener=witness)
    found, log = scalars(run), run.log()
    assert found["epoch/loss"] == [(record.steps, pytest.approx(record.loss)) for record in log]
    for masking in ("unmasked", "masked"):
        expected = [(record.steps, pytest.approx(record.valid[masking]["ndcg@10"])) for record in log]
        assert found[f"valid_{masking}/ndcg@10"] == expected
    losses = [loss for batches in witness.batches for _, loss in batches]
    expected = [(number, pytest.approx(losses[number - 1])) for number in range(2, len(losses) + 1, 2)]
    assert found["train/loss"] == expected
    assert [step for step, _ in found["train/learning_rate"]] == [step for step, _ in found["train/loss"]]


@pytest.mark.parametrize("question", [4, 6, 7, 9])
def test_a_resumed_run_has_each_step_once(tmp_path: Path, question: int) -> None:
    run, expected = Run(tmp_path / "run"), straight(tmp_path / "straight")
    with pytest.raises(TrainingStopped):
        train(tiny_dataset(), run, CONFIG, stop=at_question(question))
    train(tiny_dataset(), run, CONFIG, resume=True)
    assert without_seconds(scalars(run)) == without_seconds(scalars(expected))


def test_scalars_written_after_the_checkpoint_are_dropped(tmp_path: Path) -> None:
    run = straight(tmp_path / "run")
    before = without_seconds(scalars(run))
    for checkpoint in run.checkpoints.iterdir():
        for file in checkpoint.iterdir():
            file.unlink()
        checkpoint.rmdir()
    train(tiny_dataset(), run, CONFIG, resume=True)
    assert without_seconds(scalars(run)) == before


def test_tensorboard_does_not_affect_the_training(tmp_path: Path) -> None:
    run = straight(tmp_path / "run")
    plain = Run(tmp_path / "plain")
    train(tiny_dataset(), plain, tiny_config(epochs=2))
    assert_same_run(run.folder, plain.folder)
    assert not plain.tensorboard.exists()


def test_tensorboard_can_start_when_a_run_is_resumed(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="scalars need tensorboard, the extra of that name")
    run, asked = Run(tmp_path / "run"), iter([False, False, True])
    with pytest.raises(TrainingStopped):
        train(tiny_dataset(), run, tiny_config(epochs=2), stop=lambda: next(asked))
    train(tiny_dataset(), run, CONFIG, resume=True)
    assert run.config().tensorboard
    assert scalars(run)["train/loss"][0][0] > 2


def test_without_the_package_the_option_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorboard, "find_spec", lambda name: None)
    says = (
        r"--tensorboard needs TensorBoard; install it with pip .*\[tensorboard\].*, or leave the option out"
    )
    with pytest.raises(InputError, match=says):
        train(tiny_dataset(), Run(tmp_path / "run"), CONFIG)
    assert contents(tmp_path) == {}


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="scalars need tensorboard, the extra of that name")
    run = Run(tmp_path / "run")
    run.create(tiny_dataset(), CONFIG)
    run.tensorboard.write_text("mine")
    with pytest.raises(InputError, match=f"cannot write into {run.tensorboard}: .*--resume --no-tensorboard"):
        train(tiny_dataset(), run, CONFIG, resume=True)
    assert run.tensorboard.read_text() == "mine"
    train(tiny_dataset(), run, tiny_config(epochs=2), resume=True)


def without_seconds(found: dict[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, float]]]:
    return {tag: points for tag, points in found.items() if not tag.endswith("_seconds")}
