"""Claim: none; this program searches for the options of a recipe, with the validation items only.

Optuna draws the options of each trial (TPE).  A trial that is below the median of the others at the same
epoch ends early.  Each trial ranks the validation items after each epoch, and never ranks the test items.
The first trial has the defaults and the options of --fix.  OUT/search.json holds all options and figures, and
OUT/search.png shows them.  After an interruption, the same command continues; only the running trial is lost.
Run: python benchmarks/search.py DATA --out OUT [--hours H] [--epochs N] [--between KEY=LOW..HIGH ...]
     [--fix KEY=VALUE ...]
"""

import argparse
import json
import shutil
import sys
import tomllib
from pathlib import Path
from time import monotonic

import optuna
import search_picture
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from recblr.cli.display import TrainingDisplay
from recblr.config import OPTIONS, TrainingConfig
from recblr.data import read_dataset
from recblr.errors import InputError
from recblr.io.atomic import atomic_path
from recblr.run.folder import settled_for, split_for
from recblr.system.machine import describe_machine, keep_freed_memory
from recblr.training import Run, train
from recblr.training.progress import SELECT_BY, Listener, ListenerGroup

# Option -> lowest value, highest value, and the step between values or "log" for a logarithmic scale.
RANGES = {
    "learning-rate": (3e-4, 5e-3, "log"),
    "dropout": (0.1, 0.7, 0.05),
    "label-smoothing": (0.0, 0.3, 0.05),
}
CHOICES = {
    "batch-tokens": [128, 256, 512, 1024, 2048],
    "weight-decay": [0.0, 0.01, 0.1],
    "warmup": [0.0, 0.05],
    "ema": [0.0, 0.99, 0.999],
}
SPACE = RANGES.keys() | CHOICES.keys()
METRICS = "hr@10", "ndcg@10", "mrr@10"
DONE = (TrialState.COMPLETE, TrialState.PRUNED)


class Pruning(Listener):
    """Ends a trial that is worse than the others at the same epoch."""

    def __init__(self, trial):
        self._trial = trial

    def end_epoch(self, record):
        self._trial.report(record.valid["unmasked"][SELECT_BY], record.epoch)
        if self._trial.should_prune():
            raise optuna.TrialPruned


def fixed_option(entry):
    """The option and the value of KEY=VALUE.  VALUE is written as in TOML, or is a plain word."""
    key, _, words = entry.partition("=")
    if key not in OPTIONS:
        sys.exit(f"--fix {entry}: there is no option {key}; recblr train --help lists them")
    try:
        value = tomllib.loads(f"value = {words}")["value"]
    except tomllib.TOMLDecodeError:
        value = words
    kind = OPTIONS[key].type
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        sys.exit(f"--fix {entry}: {key} takes a value of the type {kind.__name__}, as in TOML")
    return key, value


def narrowed(entry):
    """The option and the range of KEY=LOW..HIGH."""
    key, _, words = entry.partition("=")
    if key not in RANGES:
        sys.exit(f"--between {entry}: choose an option among {', '.join(RANGES)}")
    try:
        low, high = map(float, words.split(".."))
        TrainingConfig.from_options({key: low})
        TrainingConfig.from_options({key: high})
    except InputError as error:
        sys.exit(f"--between {entry}: {error}")
    except ValueError:
        sys.exit(f"--between {entry}: write two numbers, as in --between dropout=0.1..0.3")
    if low > high:
        sys.exit(f"--between {entry}: write the lower number first")
    return key, (low, high, RANGES[key][2])


def draw(trial, key, ranges):
    if key in CHOICES:
        return trial.suggest_categorical(key, CHOICES[key])
    low, high, step = ranges[key]
    return trial.suggest_float(key, low, high, **({"log": True} if step == "log" else {"step": step}))


def objective(trial, dataset, ranges, fixed, folder, console):
    drawn = {key: draw(trial, key, ranges) for key in (*ranges, *CHOICES) if key not in fixed}
    options = drawn | fixed
    run = Run(folder / f"trial-{trial.number}")
    shutil.rmtree(run.folder, ignore_errors=True)  # left by a trial that was interrupted
    console.rule(f"trial {trial.number}")
    console.print(", ".join(f"{key} {value:.4g}" for key, value in options.items() if key in trial.params))
    display = TrainingDisplay(console)
    try:
        with display:
            train(
                dataset,
                run,
                TrainingConfig.from_options(options),
                listener=ListenerGroup([display, Pruning(trial)]),
            )
    except InputError as error:
        if not trial.number:
            sys.exit(str(error))  # the data or the options of --fix are wrong, so every trial would fail
        console.print(str(error))  # this trial diverged
        raise optuna.TrialPruned from None
    finally:
        records = run.log() if run.log_file.exists() else []
        best = max(records, key=lambda record: record.valid["unmasked"][SELECT_BY], default=None)
        trial.set_user_attr("epochs", len(records))
        trial.set_user_attr("seconds", round(sum(record.train_seconds for record in records), 1))
        trial.set_user_attr("valid", best.valid if best else None)
        shutil.rmtree(run.folder / "checkpoints", ignore_errors=True)
    return best.valid["unmasked"][SELECT_BY]


def document(study, options, dataset):
    trials = []
    for trial in study.get_trials(states=DONE):
        valid = trial.user_attrs["valid"]  # of the best epoch; None if the first epoch diverged
        if valid is not None:
            valid = {root: {metric: leaves[metric] for metric in METRICS} for root, leaves in valid.items()}
        head = {"number": trial.number, "state": trial.state.name, "options": trial.params}
        trials.append(head | trial.user_attrs | {"valid": valid})
    command = ["python benchmarks/search.py", Path(options.data).name, "--epochs", str(options.epochs)]
    for name in ("between", "fix"):
        if getattr(options, name):
            command += [f"--{name}", *getattr(options, name)]
    return {
        "claim": __doc__.split("\n")[0],
        "command": " ".join(command),
        "dataset": dataset.name,
        **study.user_attrs,
        "machine": describe_machine(),
        "trials": trials,
    }


def keep(found, folder):
    """Write search.json and search.png; neither is ever half-written."""
    with atomic_path(folder / "search.json") as draft:
        draft.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    with atomic_path(folder / "search.png") as draft:
        search_picture.draw(found, draft)


def show(study, console, most=10):
    table = Table("trial", "valid NDCG@10", "epochs", "options", box=SIMPLE_HEAD)
    done = study.get_trials(states=[TrialState.COMPLETE])
    for trial in sorted(done, key=lambda trial: -trial.value)[:most]:
        drawn = ", ".join(f"{key} {value:.4g}" for key, value in trial.params.items())
        table.add_row(str(trial.number), f"{trial.value:.4f}", str(trial.user_attrs["epochs"]), drawn)
    console.print(table)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", metavar="DATA", help="a file of interactions, as recblr train reads it")
    parser.add_argument("--out", metavar="OUT", type=Path, required=True, help="the folder for the results")
    parser.add_argument("--hours", metavar="H", type=float, default=1.0, help="start no trial later")
    parser.add_argument("--epochs", metavar="N", type=int, default=12, help="epochs of each trial")
    parser.add_argument(
        "--between", metavar="KEY=LOW..HIGH", nargs="*", default=[], help="narrow the range of an option"
    )
    parser.add_argument("--fix", metavar="KEY=VALUE", nargs="*", default=[], help="give an option this value")
    options = parser.parse_args()
    keep_freed_memory()
    console = Console()
    fixed = dict(map(fixed_option, options.fix)) | {"epochs": options.epochs}
    ranges = RANGES | dict(map(narrowed, options.between))
    try:
        if fixed.keys() >= SPACE:
            raise InputError("--fix leaves no option to search for; fix fewer options")
        config = TrainingConfig.from_options(fixed)
        dataset = read_dataset(options.data)
        settled = settled_for(split_for(dataset, config).train, config).as_options()
    except InputError as error:
        sys.exit(str(error))
    try:
        options.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        sys.exit(f"--out {options.out}: cannot create this folder ({error.strerror}); name another folder")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    journal = options.out / "study.journal"
    try:
        study = optuna.create_study(
            study_name="recipe",
            direction="maximize",
            storage=JournalStorage(JournalFileBackend(str(journal))),
            pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=options.epochs // 3),
            load_if_exists=True,
        )
    except (ValueError, KeyError, AssertionError):  # Optuna's errors when it reads a damaged journal
        sys.exit(f"{journal} is damaged; remove it, or name another folder with --out")
    searched = {"fingerprint": dataset.fingerprint, "epochs": options.epochs}
    if study.trials and study.user_attrs != searched:
        sys.exit(f"--out {options.out} holds a search of other data or epochs; name another folder")
    for key, value in searched.items():
        study.set_user_attr(key, value)
    # The seed is the number of trials, so that a continued search does not draw the same options again.
    study.sampler = optuna.samplers.TPESampler(seed=len(study.trials), n_startup_trials=5)
    defaults = {key: settled[key] for key in SPACE if key not in fixed}
    if all(trial.params != defaults for trial in study.get_trials(states=DONE)):
        study.enqueue_trial(defaults)
    ends = monotonic() + 3600 * options.hours
    try:
        while monotonic() < ends:
            study.optimize(
                lambda trial: objective(trial, dataset, ranges, fixed, options.out, console), n_trials=1
            )
            keep(document(study, options, dataset), options.out)
    except KeyboardInterrupt:
        sys.exit("stopped; the same command continues the search")
    if study.get_trials(states=DONE):
        keep(document(study, options, dataset), options.out)
        show(study, console)


if __name__ == "__main__":
    main()
