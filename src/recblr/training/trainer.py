"""The training loop.  An epoch is one pass over all histories, with a target at each position."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from itertools import islice
from typing import Any

import torch

from recblr.config import DataConfig, TrainingConfig
from recblr.data import Dataset, Packed, PackedBatches, PrefixBatches, Split, packed_batches, prefix_batches
from recblr.data.packed import repeat_log_odds, time_range
from recblr.errors import InputError
from recblr.evaluation import rank_targets
from recblr.run.folder import Run, settled_for, split_for
from recblr.run.log import EpochRecord, append_to_log, drop_log_after
from recblr.run.model_file import save_model
from recblr.serving.scorer import model_scorer, ranking_tokens
from recblr.system.device import device_for, device_name
from recblr.system.machine import explain_out_of_memory
from recblr.training.checkpoint import latest_progress, load_checkpoint, save_checkpoint
from recblr.training.learner import Learner, fits_memory, learning_rate, objective
from recblr.training.progress import (
    SELECT_BY,
    Listener,
    ListenerGroup,
    PendingLosses,
    Progress,
    TrainingStopped,
)
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

    Only one process at a time can train into a folder.  Others may read it.

    A run can be stopped at any moment, even by kill -9.  With ``resume=True`` it continues from its last
    checkpoint, and its result has the same bits as without the stop.  This needs the same machine, device and
    number of threads: for example, PyTorch's layer norm sums its gradients in each thread.  A run may also
    continue on another device, because its files do not depend on the device.

    Args:
        dataset: filtered histories; with leave-one-out, of at least 3 events unless config.keep_short.
        run: a new folder.  With ``resume``, it may hold a run with the same data and options.
        config: the options.
        data: how the dataset was read.  It is saved with the options in the run's config.toml.
        resume: continue the run in the folder, if there is one.
        facts: plain values to save in run.json, such as the command.
        listener: called at every step and epoch.
        stop: called before every step, and after every chunk of validation and every epoch.  If it returns
            True, a checkpoint is saved and TrainingStopped is raised.

    Returns:
        The progress of the run, with the best epoch.  The best model is in ``run.model_file``.

    Raises:
        InputError: the folder already holds a run (without ``resume``) or a run that does not fit, another
            process is training into it, or config.device does not exist.
        TrainingStopped: ``stop`` returned True.
    """
    if config.tensorboard:
        check_tensorboard()
    device, split = device_for(config.device), split_for(dataset, config)
    config = settled_for(split.train, config)
    if not _batches(split.train, config, epoch=0).num_targets:
        needed = "2 events before the validation period" if config.split == "time" else "4 events"
        raise InputError(
            f"no user of {dataset.name} has the {needed} that training needs", "give longer histories"
        )
    done, new = Progress(), not (resume and run.exists())
    with ExitStack() as contexts:
        if not new:
            contexts.enter_context(run.lock())  # before the run is read or written
            run.resume(dataset, config, data)
            done = latest_progress(run.checkpoints) or done
            if done.epoch:
                run.model()  # if the model is lost or damaged, say so now and not after the last epoch

        contexts.enter_context(torch.random.fork_rng(devices=[] if device.type == "cpu" else [device]))
        learner = _learner(dataset, split, config, device)
        if new:
            contexts.enter_context(run.created(dataset, config, data, facts))
        if done.steps:
            load_checkpoint(run.checkpoints, learner, dataset.fingerprint)
        run.tidy()
        drop_log_after(run.log_file, done.epoch)
        with _with_tensorboard(run, config, done, listener or Listener()) as listeners:
            loop = _Loop(learner, split, run, config, dataset, listeners, stop)
            while done.epoch < config.epochs and done.epoch - done.best_epoch < config.patience:
                done = loop.epoch(done)
    return done


def _learner(dataset: Dataset, split: Split, config: TrainingConfig, device: torch.device) -> Learner:
    items, sizes = dataset.num_items, config.as_options()
    others = [f"--{key} {sizes[key]}" for key in ("expand", "d-conv", "max-length") if sizes.get(key)]
    too_large = InputError(
        f"there is not enough memory for a model of --d-model {sizes['d-model']} and --num-layers"
        f" {sizes['num-layers']} ({', '.join(others)}) over {items:,} items",
        "make it smaller",
    )
    if not fits_memory(items, config, device):
        raise too_large
    with explain_out_of_memory(too_large):
        loss = objective(config, split.train, items, device)
        start = repeat_log_odds(split.train, items) if config.repeat_bias else None
        return Learner(items, config, loss, device, start, time_range(split.train))


@contextmanager
def _with_tensorboard(
    run: Run, config: TrainingConfig, done: Progress, listener: Listener
) -> Iterator[Listener]:
    """The given listener, together with a TensorBoard if the options ask for one."""
    if not config.tensorboard:
        yield listener
        return
    with closing(TensorBoard(run.tensorboard, done.steps)) as tensorboard:
        yield ListenerGroup([listener, tensorboard])


class _Loop:
    """Trains one epoch after another.  An epoch that was stopped in its middle continues there."""

    def __init__(
        self,
        learner: Learner,
        split: Split,
        run: Run,
        config: TrainingConfig,
        dataset: Dataset,
        listener: Listener,
        stop: Callable[[], bool] | None,
    ) -> None:
        self._learner, self._split, self._run, self._config = learner, split, run, config
        self._dataset, self._listener, self._stop = dataset, listener, stop
        self._saved = time.monotonic()

    def epoch(self, done: Progress) -> Progress:
        """Finish the next epoch: train, validate, and save the results."""
        number = done.epoch + 1
        batches = _batches(self._split.train, self._config, number)
        with explain_out_of_memory(_too_large_a_batch(self._config, self._learner.device)):
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
            device=device_name(self._learner.device),
        )
        seconds = done.seconds + done.step_seconds + valid_seconds
        done = Progress(number, best_epoch=best[1], best=best[0], seconds=seconds, steps=done.steps)
        if done.best_epoch == number:
            # Before the checkpoint: after a kill between them, the epoch is repeated with the same result.
            save_model(
                self._learner.kept,
                self._run.model_file,
                self._dataset.item_ids,
                fingerprint=self._dataset.fingerprint,
                epoch=number,
                metrics=valid,
            )
        append_to_log(self._run.log_file, record)
        self._save(done)
        self._listener.end_epoch(record)
        if self._asked_to_stop():
            raise self._stopped(done)
        return done

    def _train(self, done: Progress, batches: PackedBatches | PrefixBatches) -> Progress:
        """Do the steps of the epoch that are not done yet."""
        number, users = done.epoch + 1, len(self._split.valid.targets)
        self._listener.start_epoch(number, self._config.epochs, batches.num_targets, users, done.targets)
        started = time.perf_counter() - done.step_seconds
        pending = PendingLosses(self._learner.device)
        for index, batch in enumerate(islice(batches, done.step, None), done.step):
            if self._asked_to_stop():
                raise self._stopped(self._read(pending, done, started))
            rate = self._rate(number, index, len(batches))
            pending.add(len(batch.targets), self._learner.step(batch, rate, number, index), rate)
            to_save = 0 < 60 * self._config.checkpoint_minutes <= time.monotonic() - self._saved
            if to_save or pending.due():
                done = self._read(pending, done, started)
            if to_save:
                self._save(done)
        done = self._read(pending, done, started)
        if not self._learner.is_finite():  # no loss was computed after the last step
            raise _diverged("weights became infinite", number)
        return done

    def _read(self, pending: PendingLosses, done: Progress, started: float) -> Progress:
        """Read the pending losses, add their steps to the progress, and call the listener for each step."""
        for step in pending.read(done.steps):
            if not math.isfinite(step.loss):
                raise _diverged(f"the loss became {step.loss}", done.epoch + 1)
            done = replace(
                done,
                steps=done.steps + 1,
                step=done.step + 1,
                targets=done.targets + step.targets,
                loss=done.loss + step.loss * step.targets,
                step_seconds=time.perf_counter() - started,
            )
            self._listener.trained(step)
        return done

    def _validate(self, done: Progress) -> dict[str, dict[str, float]]:
        def show(users: int) -> None:
            self._listener.validated(users)
            if self._asked_to_stop():
                raise self._stopped(done)

        model = self._learner.kept.eval()
        ranks = rank_targets(
            model_scorer(model),
            self._split.valid,
            model.num_items,
            progress=show,
            tokens=ranking_tokens(model),
        )
        return ranks.metrics()

    def _rate(self, epoch: int, index: int, steps: int) -> float:
        before, after = ((epoch - 1 + i / steps) / self._config.epochs for i in (index, index + 1))
        return learning_rate(self._config, before, after)

    def _save(self, done: Progress) -> None:
        save_checkpoint(self._run.checkpoints, self._learner, done, self._dataset.fingerprint)
        self._saved = time.monotonic()

    def _asked_to_stop(self) -> bool:
        return self._stop is not None and self._stop()

    def _stopped(self, done: Progress) -> TrainingStopped:
        """Save a checkpoint if it is needed, and return the exception to raise."""
        if done.step:  # else this state is already saved, or nothing is done yet
            self._save(done)
        return TrainingStopped()


def _too_large_a_batch(config: TrainingConfig, device: torch.device) -> InputError:
    prefixes = config.samples == "prefixes"
    flag, size = (
        ("--batch-sequences", config.batch_sequences) if prefixes else ("--batch-tokens", config.batch_tokens)
    )
    on_gpu = device.type != "cpu"
    where = f" on {device_name(device)}" if on_gpu else ""
    return InputError(
        f"there is not enough memory{where} for batches of {flag} {size}",
        f"start a new run in another --out with a lower {flag} or with a --max-length"
        + (", or continue with --resume --device cpu" if on_gpu else ""),
    )


def _diverged(what: str, epoch: int) -> InputError:
    return InputError(
        f"{what} in epoch {epoch}: training has diverged",
        "start a new run in another --out with a lower --learning-rate",
    )


def _batches(histories: Packed, config: TrainingConfig, epoch: int) -> PackedBatches | PrefixBatches:
    seed, longest = config.seed, config.model.max_length
    if config.samples == "prefixes":
        return prefix_batches(
            histories, sequences=config.batch_sequences, seed=seed, epoch=epoch, max_length=longest
        )
    assert config.batch_tokens is not None, "the options must be settled"
    return packed_batches(histories, tokens=config.batch_tokens, seed=seed, epoch=epoch, max_length=longest)
