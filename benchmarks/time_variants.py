"""Claim: none; this program compares ways to use times, with the validation items only.

Each variant is a model of recblr whose functions of time are replaced.  A variant is a text of words:
  past     the gap before an event is added to the vector of its item
  next     the gap after an event, to the next one or to the request, is added too
  fading   the states fade by a learned factor of the gap
  answer   the hidden vector is changed by a network that sees the gap to the request
  film     instead: the hidden vector times one function of the gap, plus another
  clock    hour and weekday of the request are added
  ties     the number of earlier events in the same second is added
  visit    the time since the last gap of an hour is added
  dates    the times of the log are rounded down to whole days before the above learn from them
  buckets, fourier   the form of the functions of gaps; without these words it is piecewise linear
  none     nothing of the above
OUT gets one line of JSON for each variant.  A variant that it has already is not trained again.
Run: python benchmarks/time_variants.py DATA --out OUT.jsonl [--epochs N] [--option KEY=VALUE ...] VARIANT ...
e.g. python benchmarks/time_variants.py ml-1m.inter.gz --out time.jsonl past+next past+next+fading+answer
"""

import argparse
import json
import math
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from rich.console import Console
from search import fixed_option
from torch import nn

from recblr.cli.display import TrainingDisplay
from recblr.config import TrainingConfig
from recblr.data import read_dataset
from recblr.data.packed import DAY
from recblr.nn.model import build_model
from recblr.nn.time import Answer, Fading, GapFunction, TimeEncoder
from recblr.run.folder import settled_for, split_for
from recblr.system.machine import describe_machine, keep_freed_memory
from recblr.training import Run, learner, train, trainer
from recblr.training.progress import Listener, ListenerGroup

FORMS = ("buckets", "fourier")
WORDS = ("past", "next", "fading", "answer", "film", "clock", "ties", "visit", "dates", "none", *FORMS)
MOST_TIES, VISIT_GAP = 40, 3600
FREQUENCIES = 16
OPTIONS = {"learning-rate": 0.004, "warmup": 0.05, "dropout": 0.15, "label-smoothing": 0.0}


class Moments(NamedTuple):
    """As recblr.nn.time.Gaps, with more of each event: its request's time, its number among ties, the time
    since its visit began."""

    past: torch.Tensor
    next: torch.Tensor
    asked: torch.Tensor
    ties: torch.Tensor
    visit: torch.Tensor


class Buckets(GapFunction):
    """Constant between the knots."""

    def forward(self, gap):
        return self.knots((1.5 * torch.log2(1 + gap)).long().clamp(max=self.knots.num_embeddings - 1))


class Fourier(nn.Module):
    """A linear function of sines and cosines of log2(1 + gap), from half a wave over all gaps to 32."""

    def __init__(self, width):
        super().__init__()
        self.linear = nn.Linear(2 * FREQUENCIES, width)
        self.waves = 2 ** (torch.arange(FREQUENCIES) * 6 / (FREQUENCIES - 1)) * math.pi / 30

    def forward(self, gap):
        phases = torch.log2(1 + gap).unsqueeze(-1) * self.waves
        return self.linear(torch.cat([phases.sin(), phases.cos()], -1))


class Film(nn.Module):
    """``h * (1 + f(gap)) + g(gap)``."""

    def __init__(self, width):
        super().__init__()
        self.factor, self.shift = GapFunction(width), GapFunction(width)

    def forward(self, hidden, gap):
        return hidden * (1 + self.factor(gap)) + self.shift(gap)


class Same(nn.Module):
    """The hidden vector without a change."""

    def forward(self, hidden, gap):
        return hidden


class Unfading(nn.Module):
    """The factor 1 for every gap."""

    def forward(self, gap):
        return torch.ones_like(gap).unsqueeze(-1)


class Variant(TimeEncoder):
    """The functions of time that the words name."""

    def __init__(self, width, words):
        super().__init__(width, with_request=True)
        form = Buckets if "buckets" in words else Fourier if "fourier" in words else GapFunction
        self.words = words
        self.past, self.next = form(width), form(width)
        self.visit, self.ties = GapFunction(width), nn.Embedding(MOST_TIES, width)
        self.hour, self.weekday = nn.Embedding(24, width), nn.Embedding(7, width)
        self.answer = Answer(width) if "answer" in words else Film(width) if "film" in words else Same()

    def gaps(self, times, request_times, offsets, before=None):
        gaps = super().gaps(times, request_times, offsets, before)
        numbers = torch.arange(len(times))
        starts = torch.zeros(len(times), dtype=torch.bool)
        starts[offsets[:-1][offsets.diff() > 0]] = True

        def first(of_group):
            return torch.where(of_group, numbers, 0).cummax(0).values

        ties = numbers - first(starts | (gaps.past > 0))
        visit = (times - times[first(starts | (gaps.past > VISIT_GAP))]).clamp(min=0).float()
        return Moments(*gaps, times + gaps.next.double(), ties.clamp(max=MOST_TIES - 1), visit)

    def forward(self, gaps):
        parts = {
            "past": lambda: self.past(gaps.past),
            "next": lambda: self.next(gaps.next),
            "clock": lambda: (
                self.hour((gaps.asked // 3600 % 24).long()) + self.weekday((gaps.asked // 86400 % 7).long())
            ),
            "ties": lambda: self.ties(gaps.ties),
            "visit": lambda: self.visit(gaps.visit),
        }
        return sum((part() for word, part in parts.items() if word in self.words), torch.zeros(()))


def builder(words):
    """A function that replaces `build_model` in training."""

    def build(num_items, config):
        model = build_model(num_items, config)
        model.time = Variant(config.d_model, words)
        model.fading = Fading() if "fading" in words else Unfading()
        for module in (model.time, model.fading):
            for part in module.modules():
                if isinstance(part, nn.Embedding | nn.Linear):
                    nn.init.normal_(part.weight, std=0.02)
        if "answer" in words:
            model.time.reset_answer()
        if "film" in words:
            nn.init.zeros_(model.time.answer.factor.knots.weight)
        return model

    return build


class Records(Listener):
    """Keeps the record of each epoch."""

    def __init__(self):
        self.records = []

    def end_epoch(self, record):
        self.records.append(record)


def parsed(variant):
    words = variant.split("+")
    unknown = [word for word in words if word not in WORDS]
    if unknown:
        raise SystemExit(f"there is no word {unknown[0]!r} for a variant; the words are {', '.join(WORDS)}")
    return frozenset(words)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("variants", nargs="+", metavar="VARIANT")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument(
        "--option", nargs="*", default=[], metavar="KEY=VALUE", help="give an option this value"
    )
    arguments = parser.parse_args()
    keep_freed_memory()
    variants = {variant: parsed(variant) for variant in arguments.variants}
    lines = arguments.out.read_text(encoding="utf-8").splitlines() if arguments.out.exists() else []
    values = OPTIONS | {"epochs": arguments.epochs, "time": "request"}
    values |= dict(map(fixed_option, arguments.option))
    dataset = read_dataset(arguments.data)
    config = TrainingConfig.from_options(values)
    config = settled_for(split_for(dataset, config).train, config)
    days = np.floor(dataset.seconds / DAY) * DAY
    dated = replace(dataset, times=days, time_unit="s")
    console = Console()
    # Only the log is used.  A variant has other weights than its configuration says: no file may hold them.
    trainer.save_model = lambda *given, **named: None
    for variant, words in variants.items():
        about = {"variant": variant, "data": dataset.name, "options": config.as_options()}
        if any(about.items() <= json.loads(line).items() for line in lines):
            console.print(f"{variant} is already in {arguments.out}")
            continue
        records = Records()
        learner.build_model = builder(words)
        with tempfile.TemporaryDirectory() as folder, TrainingDisplay(console, variant) as display:
            log = dated if "dates" in words else dataset
            train(log, Run(Path(folder) / "run"), config, listener=ListenerGroup([records, display]))
        result = {
            **about,
            "valid": [record.valid["unmasked"] for record in records.records],
            "loss": [record.loss for record in records.records],
            "seconds": sum(record.train_seconds for record in records.records),
            "machine": describe_machine(),
        }
        with arguments.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
