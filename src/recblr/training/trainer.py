"""The training loop: one pass over every user's whole history an epoch, a target at every position."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import torch

from recblr.config import DataConfig, TrainingConfig
from recblr.data import (
    Dataset,
    Packed,
    PackedBatches,
    PrefixBatches,
    Split,
    packed_batches,
    prefix_batches,
)
from recblr.data.repetition import repeat_log_odds
from recblr.errors import InputError
from recblr.evaluation import rank_targets
from recblr.training.checkpoint import latest_progress, load_checkpoint, save_checkpoint
from recblr.training.learner import Learner, fits_memory
from recblr.training.listener import Listener, Several, Silent, Step
from recblr.training.model_file import save_model
from recblr.training.objective import objective
from recblr.training.progress import Progress, TrainingStopped
from recblr.training.record import EpochRecord, append_to_log, drop_log_after
from recblr.training.run import Run
from recblr.training.schedule import learning_rate
from recblr.training.scorer import model_scorer
from recblr.training.selection import SELECT_BY
from recblr.training.splitting import split_for
from recblr.training.tensorboard import TensorBoard, check_tensorboard


def train(
    dataset: Dataset,
    run: Run,
    config: TrainingConfig,
    *,
    data: DataConfig | None = None,
    resume: bool = False,
    facts: dict[str, Any] | None = None,
    listener: Listener | None = None,
    stop: Callable[[], bool] | None = None,
) -> Progress:
    """Train until the last epoch, or until validation has not improved for config.patience epochs.

    A run that is stopped at any moment, even by kill -9, continues with ``resume=True`` from its last
    checkpoint, and ends with the same bits as one that was never stopped (on the same machine and
    number of threads: PyTorch's layer norm, for one, sums its gradients thread by thread).

    Args:
        dataset: filtered histories; each needs 3 events or more.
        run: the folder; new, or with ``resume`` one that was started with the same data and options.
        config: options.
        data: how the dataset was read, to keep in the run's config.toml beside the options.
        resume: continue the run in the folder, if there is one.
        facts: plain values to keep in run.json (the command).
        listener: told of progress.
        stop: asked after every step and every chunk of validation; where it says True, a checkpoint is
            saved and TrainingStopped raised.

    Returns:
        How far the run has come, with the best epoch.  The best model is in ``run.model_file``.

    Raises:
        InputError: the folder holds a run already (without ``resume``), or one that does not fit.
        TrainingStopped: ``stop`` said so.
    """
    if config.tensorboard:
        check_tensorboard()
    split = split_for(dataset, config)
    if not _batches(split.train, config, epoch=0).num_targets:
        takes = "2 events before the validation period" if config.split == "time" else "4 events"
        raise InputError(
            f"no user of {dataset.name} has the {takes} that training takes; give longer histories"
        )
    done, new = Progress(), not (resume and run.exists())
    if not new:
        run.resume(dataset, config, data)
        done = latest_progress(run.checkpoints) or done
        if done.epoch:
            run.model()  # better told now that it is lost than after the last epoch

    with torch.random.fork_rng(devices=[]):
        learner = _learner(dataset, split, config)
        if new:
            run.create(dataset, config, data, facts)
        if done.steps:
            load_checkpoint(run.checkpoints, learner, dataset.fingerprint)
        run.tidy()
        drop_log_after(run.log_file, done.epoch)
        with _listeners(run, config, done, listener) as told:
            loop = _Loop(learner, split, run, config, dataset.fingerprint, told, stop)
            while done.epoch < config.epochs and done.epoch - done.best_epoch < config.patience:
                done = loop.epoch(done)
    return done


def _learner(dataset: Dataset, split: Split, config: TrainingConfig) -> Learner:
    try:
        if fits_memory(dataset.num_items, config):
            loss = objective(config, split.train, dataset.num_items)
            start = repeat_log_odds(split.train, dataset.num_items) if config.repeat_bias else None
            return Learner(dataset.num_items, config, loss, start)
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
    sizes = config.as_options()
    others = [f"--{key} {sizes[key]}" for key in ("expand", "d-conv", "max-length") if sizes.get(key)]
    raise InputError(
        f"there is not enough memory for a model of --d-model {sizes['d-model']} and --num-layers"
        f" {sizes['num-layers']} ({', '.join(others)}) over {dataset.num_items:,} items; make it smaller"
    )


@contextmanager
def _listeners(
    run: Run, config: TrainingConfig, done: Progress, listener: Listener | None
) -> Iterator[Listener]:
    """The caller's listener, and TensorBoard's where the options ask for it."""
    if not config.tensorboard:
        yield listener or Silent()
        return
    with closing(TensorBoard(run.tensorboard, done.steps)) as tensorboard:
        yield Several([listener or Silent(), tensorboard])


class _Loop:
    """One epoch after another, each from wherever the progress says."""

    def __init__(
        self,
        learner: Learner,
        split: Split,
        run: Run,
        config: TrainingConfig,
        fingerprint: str,
        listener: Listener,
        stop: Callable[[], bool] | None,
    ) -> None:
        self._learner, self._split, self._run, self._config = learner, split, run, config
        self._fingerprint, self._listener, self._stop = fingerprint, listener, stop
        self._saved = time.monotonic()

    def epoch(self, done: Progress) -> Progress:
        """Finish the epoch under way: train, validate, write it all down."""
        number = done.epoch + 1
        batches = _batches(self._split.train, self._config, number)
        done = self._train(done, batches)
        started = time.perf_counter()
        valid = self._validate(done)
        valid_seconds = time.perf_counter() - started

        value = valid["unmasked"][SELECT_BY]
        best = (value, number) if value > done.best else (done.best, done.best_epoch)
        record = EpochRecord(
            epoch=number,
            loss=done.loss / batches.num_targets,
            learning_rate=self._rate(number, len(batches) - 1, len(batches)),
            steps=done.steps,
            targets=batches.num_targets,
            train_seconds=round(done.step_seconds, 3),
            valid_seconds=round(valid_seconds, 3),
            valid=valid,
            best_epoch=best[1],
        )
        seconds = done.seconds + done.step_seconds + valid_seconds
        done = Progress(number, best_epoch=best[1], best=best[0], seconds=seconds, steps=done.steps)
        if done.best_epoch == number:
            # Before the checkpoint: killed in between, the epoch is done again with the same result.
            save_model(self._learner.kept, self._run.model_file, fingerprint=self._fingerprint, epoch=number)
        append_to_log(self._run.log_file, record)
        self._save(done)
        self._listener.end_epoch(record)
        self._stop_if_asked(done)
        return done

    def _train(self, done: Progress, batches: PackedBatches | PrefixBatches) -> Progress:
        """Do the epoch's steps but those that are done already."""
        number, users = done.epoch + 1, len(self._split.valid.targets)
        self._listener.start_epoch(number, self._config.epochs, batches.num_targets, users, done.targets)
        started = time.perf_counter() - done.step_seconds
        for index, batch in enumerate(islice(batches, done.step, None), done.step):
            self._stop_if_asked(done)
            rate = self._rate(number, index, len(batches))
            loss, targets = self._learner.step(batch, rate, number, index), len(batch.targets)
            if not math.isfinite(loss):
                raise _diverged(f"the loss became {loss}", number)
            done = replace(
                done,
                steps=done.steps + 1,
                step=index + 1,
                targets=done.targets + targets,
                loss=done.loss + loss * targets,
                step_seconds=time.perf_counter() - started,
            )
            self._listener.trained(Step(done.steps, targets, loss, rate))
            if 0 < 60 * self._config.checkpoint_minutes <= time.monotonic() - self._saved:
                self._save(done)
        if not self._learner.is_finite():  # by the last step, which no loss has told of
            raise _diverged("weights became infinite", number)
        return done

    def _validate(self, done: Progress) -> dict[str, dict[str, float]]:
        def show(users: int) -> None:
            self._listener.validated(users)
            self._stop_if_asked(done)

        model = self._learner.kept.eval()
        return rank_targets(model_scorer(model), self._split.valid, model.num_items, progress=show).metrics()

    def _rate(self, epoch: int, index: int, steps: int) -> float:
        before, after = ((epoch - 1 + i / steps) / self._config.epochs for i in (index, index + 1))
        return learning_rate(self._config, before, after)

    def _save(self, done: Progress) -> None:
        save_checkpoint(self._run.checkpoints, self._learner, done, self._fingerprint)
        self._saved = time.monotonic()

    def _stop_if_asked(self, done: Progress) -> None:
        if self._stop is not None and self._stop():
            if done.step:  # else there is a checkpoint of this moment, or nothing to lose
                self._save(done)
            raise TrainingStopped


def _diverged(what: str, epoch: int) -> InputError:
    return InputError(
        f"{what} in epoch {epoch}: training has diverged;"
        " start anew in another --out with a lower --learning-rate"
    )


def _batches(histories: Packed, config: TrainingConfig, epoch: int) -> PackedBatches | PrefixBatches:
    seed, longest = config.seed, config.model.max_length
    if config.samples == "prefixes":
        return prefix_batches(
            histories, sequences=config.batch_sequences, seed=seed, epoch=epoch, max_length=longest
        )
    return packed_batches(histories, tokens=config.batch_tokens, seed=seed, epoch=epoch, max_length=longest)
