"""The training loop: one pass over every user's whole history an epoch, a target at every position."""

import json
import math
import time
from dataclasses import asdict, replace
from typing import Any, Protocol

import numpy as np
import torch

from recblr.config import DataConfig, TrainingConfig
from recblr.data import Batch, Dataset, PackedBatches, Split, leave_one_out, packed_batches
from recblr.data.atomic import atomic_path
from recblr.errors import InputError
from recblr.evaluation import rank_targets
from recblr.nn.losses import linear_cross_entropy
from recblr.nn.model import RecBLR
from recblr.training.checkpoint import Progress, latest_progress, load_checkpoint, save_checkpoint
from recblr.training.model_file import save_model
from recblr.training.record import EpochRecord
from recblr.training.run import Run
from recblr.training.scorer import model_scorer

SELECT_BY = "ndcg@10"
FINAL_LEARNING_RATE = 0.01  # of the first


class Listener(Protocol):
    """What the loop tells whoever shows its progress."""

    def start_epoch(self, epoch: int, epochs: int, targets: int, users: int) -> None: ...
    def trained(self, targets: int, loss: float) -> None: ...
    def validated(self, users: int) -> None: ...
    def end_epoch(self, record: EpochRecord) -> None: ...


class Silent:
    """A listener that shows nothing."""

    def start_epoch(self, epoch: int, epochs: int, targets: int, users: int) -> None: ...
    def trained(self, targets: int, loss: float) -> None: ...
    def validated(self, users: int) -> None: ...
    def end_epoch(self, record: EpochRecord) -> None: ...


def train(
    dataset: Dataset,
    run: Run,
    config: TrainingConfig,
    *,
    data: DataConfig | None = None,
    resume: bool = False,
    facts: dict[str, Any] | None = None,
    listener: Listener | None = None,
) -> Progress:
    """Train until the last epoch, or until validation has not improved for config.patience epochs.

    A run that is stopped at any moment, even by kill -9, continues with ``resume=True`` from its last
    complete epoch, and ends with the same bits as one that was never stopped (on the same machine and
    number of threads: PyTorch's layer norm, for one, sums its gradients thread by thread).

    Args:
        dataset: filtered histories; each needs 3 events or more.
        run: the folder; new, or with ``resume`` one that was started with the same data and options.
        config: options.
        data: how the dataset was read, to keep in the run's config.toml beside the options.
        resume: continue the run in the folder, if there is one.
        facts: plain values to keep in run.json (the command).
        listener: told of progress.

    Returns:
        How far the run has come, with the best epoch.  The best model is in ``run.model_file``.

    Raises:
        InputError: the folder holds a run already (without ``resume``), or one that does not fit.
    """
    listener = listener or Silent()
    split = leave_one_out(dataset)
    if not packed_batches(split.train, tokens=config.batch_tokens, seed=0, epoch=0).num_targets:
        raise InputError(
            f"no user of {dataset.name} has the 4 events that training takes; give longer histories"
        )
    done = Progress()
    if resume and run.exists():
        run.resume(dataset, config, data)
        done = latest_progress(run.checkpoints) or done
        if done.epoch:
            run.model()  # better told now that it is lost than after the last epoch
    else:
        run.create(dataset, config, data, facts)

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = RecBLR(dataset.num_items, config.model)
        optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=True)
        if done.epoch:
            load_checkpoint(run.checkpoints, model, optimizer, dataset.fingerprint)
        run.tidy()
        _drop_log_after(run, done.epoch)
        while done.epoch < config.epochs and not _out_of_patience(done, config):
            done = _epoch(model, optimizer, split, run, config, done, listener, dataset.fingerprint)
    return done


def _out_of_patience(done: Progress, config: TrainingConfig) -> bool:
    return done.epoch - done.best_epoch >= config.patience


def _epoch(
    model: RecBLR,
    optimizer: torch.optim.Optimizer,
    split: Split,
    run: Run,
    config: TrainingConfig,
    done: Progress,
    listener: Listener,
    fingerprint: str,
) -> Progress:
    epoch = done.epoch + 1
    # Each epoch's randomness comes from (seed, epoch), so that resuming needs no generator's state.
    torch.manual_seed(int(np.random.SeedSequence([config.seed, epoch]).generate_state(1)[0]))
    batches = packed_batches(split.train, tokens=config.batch_tokens, seed=config.seed, epoch=epoch)
    listener.start_epoch(epoch, config.epochs, batches.num_targets, len(split.valid.targets))
    started = time.perf_counter()
    loss = _train_pass(model, optimizer, batches, config, epoch, listener)
    trained = time.perf_counter()
    model.eval()
    ranks = rank_targets(model_scorer(model), split.valid, model.num_items, progress=listener.validated)
    valid = ranks.metrics()
    validated = time.perf_counter()

    value = valid["unmasked"][SELECT_BY]
    done = replace(done, epoch=epoch, seconds=done.seconds + validated - started)
    if value > done.best:
        done = replace(done, best=value, best_epoch=epoch)
        # Before the checkpoint: killed in between, the epoch is done again with the same result.
        save_model(model, run.model_file, fingerprint=fingerprint, epoch=epoch)
    record = EpochRecord(
        epoch=epoch,
        loss=loss,
        learning_rate=optimizer.param_groups[0]["lr"],
        targets=batches.num_targets,
        train_seconds=round(trained - started, 3),
        valid_seconds=round(validated - trained, 3),
        valid=valid,
        best_epoch=done.best_epoch,
    )
    with open(run.log_file, "a", encoding="utf-8") as log:
        log.write(json.dumps(asdict(record)) + "\n")
    save_checkpoint(run.checkpoints, model, optimizer, done, fingerprint)
    listener.end_epoch(record)
    return done


def _train_pass(
    model: RecBLR,
    optimizer: torch.optim.Optimizer,
    batches: PackedBatches,
    config: TrainingConfig,
    epoch: int,
    listener: Listener,
) -> float:
    model.train()
    total = 0.0
    for index, batch in enumerate(batches):
        progress = (epoch - 1 + index / len(batches)) / config.epochs
        optimizer.param_groups[0]["lr"] = _cosine(config.learning_rate, progress)
        loss = _loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        value = loss.item()
        if not math.isfinite(value):
            raise InputError(
                f"the loss became {value} in epoch {epoch}: training has diverged;"
                " start anew in another --out with a lower --learning-rate"
            )
        total += value * len(batch.targets)
        listener.trained(len(batch.targets), value)
    return total / batches.num_targets


def _loss(model: RecBLR, batch: Batch) -> torch.Tensor:
    hidden = model(torch.from_numpy(batch.inputs), offsets=torch.from_numpy(batch.offsets))
    return linear_cross_entropy(hidden, model.item_embedding.weight, torch.from_numpy(batch.targets))


def _cosine(learning_rate: float, progress: float) -> float:
    """From learning_rate at progress 0 to FINAL_LEARNING_RATE of it at 1, along half a cosine."""
    falling = (1 + math.cos(math.pi * progress)) / 2
    return learning_rate * (FINAL_LEARNING_RATE + (1 - FINAL_LEARNING_RATE) * falling)


def _drop_log_after(run: Run, epoch: int) -> None:
    """Forget the lines of epochs that are about to be done again."""
    if not run.log_file.exists():
        return
    lines = run.log_file.read_bytes().splitlines(keepends=True)
    if len(lines) > epoch:
        with atomic_path(run.log_file) as draft:
            draft.write_bytes(b"".join(lines[:epoch]))
