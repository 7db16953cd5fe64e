"""The evaluation of a run: the model and the simple models on the test items, as one report."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from time import perf_counter

import numpy as np
import numpy.typing as npt
import torch

from recblr.data import Dataset, Holdout
from recblr.errors import InputError
from recblr.evaluation import Ranks, Scorer, build_report, popular, rank_targets, successor
from recblr.evaluation.beyond_accuracy import K, Popularity, beyond_accuracy, beyond_simple, intervals
from recblr.evaluation.ranking import TOKENS
from recblr.evaluation.report_file import Figures, Report
from recblr.nn.base import NextItemModel
from recblr.run.folder import Run, split_for
from recblr.run.log import EpochRecord
from recblr.serving.scorer import model_scorer, ranking_tokens
from recblr.system.build import commit
from recblr.system.device import device_for, device_name
from recblr.system.machine import describe_machine, explain_out_of_memory
from recblr.training.checkpoint import latest_progress


def evaluate_run(
    run: Run, progress: Callable[[str, int, int], object] | None = None, device: str = "auto"
) -> Report:
    """Rank the test items with the model and the simple models, and build the report.  Writes nothing.

    The model ranks the validation items, too.

    progress: called with the name of the model, the users that are done, and the number of all users.
    device: the device of the model: auto, cpu, cuda or cuda:N.

    Raises InputError if the run has no model, one of its files is damaged, the model has retired items, or
    the device does not exist or has too little memory.
    """
    chosen_device = device_for(device)
    model, dataset = _model_and_dataset(run, chosen_device)
    config, data, facts, log = run.config(), run.data(), run.facts(), run.log()
    split = split_for(dataset, config)
    holdouts = {"test": split.test, "valid": split.valid}

    def rank(name: str, scorer: Scorer, part: str, *, lists: int = K, tokens: int = TOKENS) -> Ranks:
        users = len(holdouts[part].targets)

        def show(done: int) -> None:
            if progress is not None:
                progress(name, done, users)

        return rank_targets(
            scorer, holdouts[part], dataset.num_items, progress=show, tokens=tokens, lists=lists
        )

    known = Popularity.of(split.train, dataset.num_items)

    def lists_of(ranks: Ranks) -> npt.NDArray[np.int64]:
        assert ranks.lists is not None
        return ranks.lists

    name, started = type(model).__name__, perf_counter()
    with explain_out_of_memory(_too_large(chosen_device)):
        scorer, tokens = model_scorer(model), ranking_tokens(model)
        test = rank(name, scorer, "test", tokens=tokens)
        valid = rank(name, scorer, "valid", lists=0, tokens=tokens)
    evaluated = perf_counter()
    simple = {
        "popular": rank("popular", popular(split.train, dataset.num_items), "test"),
        "successor": rank("successor", successor(split.train, dataset.num_items), "test"),
    }
    right = beyond_simple(split.test.targets, lists_of(test), [lists_of(ranks) for ranks in simple.values()])
    ours: Figures = {
        "test": {**test.metrics(), "lists": beyond_accuracy(lists_of(test), known) | right},
        "valid": valid.metrics(),
    }
    baselines: dict[str, Figures] = {
        who: {"test": {**ranks.metrics(), "lists": beyond_accuracy(lists_of(ranks), known)}}
        for who, ranks in simple.items()
    }
    training = config.as_dict()
    training["device"] = ", ".join(dict.fromkeys(record.device for record in log)) or None
    training["learned_repeat_bias"] = None if model.repeat_bias is None else model.repeat_bias.item()
    training["epochs_done"], training["best_epoch"] = _epochs(run, log)
    report = build_report(
        ours={config.seed: ours},
        baselines=baselines,
        dataset=dataset,
        protocol={
            "split": config.split,
            "time": config.model.time_use,
            "valid_users": len(split.valid.targets),
            "test_users": len(split.test.targets),
            "short_users": dataset.num_users - len(split.test.targets) if config.keep_short else 0,
            **{
                name: getattr(data, name) if data else None
                for name in ("k_core", "min_user_events", "min_item_events")
            },
        },
        model={
            "name": name,
            **asdict(config.model),
            "parameters": sum(p.numel() for p in model.parameters()),
        },
        training=training,
        command=facts.get("command", ""),
        commit=commit(),
        machine=describe_machine() | {"device": device_name(chosen_device)},
        seconds={
            "train": sum(r.train_seconds for r in log),
            "validate": sum(r.valid_seconds for r in log),
            "evaluate": round(evaluated - started, 3),
        },
    )
    report["intervals"] = {"test": intervals(test)}
    report["curve"] = [{"epoch": r.epoch, "loss": r.loss, "seconds": r.train_seconds, **r.valid} for r in log]
    return report


def rank_test(
    run: Run, progress: Callable[[int, int], object] | None = None, device: str = "auto"
) -> tuple[str, Holdout, Ranks]:
    """The name of the model of a run, its test, and the ranks of the test items.

    progress: called with the users that are done, and the number of all users.

    Raises InputError as `evaluate_run`.
    """
    chosen_device = device_for(device)
    model, dataset = _model_and_dataset(run, chosen_device)
    test = split_for(dataset, run.config()).test

    def show(done: int) -> None:
        if progress is not None:
            progress(done, len(test.targets))

    with explain_out_of_memory(_too_large(chosen_device)):
        ranks = rank_targets(
            model_scorer(model), test, dataset.num_items, progress=show, tokens=ranking_tokens(model)
        )
    return type(model).__name__, test, ranks


def _model_and_dataset(run: Run, device: torch.device) -> tuple[NextItemModel, Dataset]:
    saved, dataset = run.model_and_dataset()
    if saved.retired:
        raise InputError(
            f"{run.model_file} has {len(saved.retired)} retired item(s), but an evaluation ranks all items",
            "restore the file that the training wrote",
        )
    return saved.model.to(device), dataset


def _too_large(device: torch.device) -> InputError:
    return InputError(
        f"there is not enough memory on {device_name(device)} to rank the catalogue", "give --device cpu"
    )


def _epochs(run: Run, log: list[EpochRecord]) -> tuple[int, int | None]:
    """The number of epochs that are done, and the best of them, if there is one.

    The user may have deleted lines of the log or the checkpoints, so both are read.
    """
    known = [(record.epoch, record.best_epoch) for record in log]
    with suppress(InputError):  # a damaged checkpoint matters only for --resume, which reports it
        progress = latest_progress(run.checkpoints)
        if progress is not None:
            known.append((progress.epoch, progress.best_epoch))
    epochs, best = max(known, default=(0, 0))
    return epochs, best or None
