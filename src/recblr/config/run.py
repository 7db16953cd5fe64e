"""The options for the data and the training of a run, and the table of all options."""

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal, Self

from recblr.config.model import MODEL_OPTIONS, ModelConfig, RecBLRConfig, model_from_options
from recblr.config.option import LARGEST, Option, check_choices, from_values, option, options, values_of
from recblr.errors import InputError

DEVICE_WORDS = "auto (a GPU that the CUDA kernels support, else the CPU), cpu, cuda or cuda:N."

_DEVICE = re.compile("auto|cpu|cuda(:[0-9]+)?")

_data = partial(option, "data")
_optimisation = partial(option, "optimisation")
_loss = partial(option, "loss")
_run = partial(option, "run")

SplitName = Literal["leave-one-out", "time"]
Samples = Literal["positions", "prefixes"]
Schedule = Literal["cosine", "constant"]
Precision = Literal["float32", "bfloat16"]
Loss = Literal["cross-entropy", "bpr", "gbce", "sampled-softmax"]
NegativesFrom = Literal["uniform", "popularity"]

# The default batch size gives an epoch about this many steps, with at most this many events in a batch.
_STEPS, _MOST_TOKENS = 256, 1024

_Rule = tuple[tuple[str, ...], Callable[[Any], bool], str]
_COUNTS = ("epochs", "batch_tokens", "batch_sequences", "patience", "negatives")
_RULES: tuple[_Rule, ...] = (
    (_COUNTS, lambda value: value >= 1, "be at least 1"),
    (_COUNTS, lambda value: value <= LARGEST, f"be at most {LARGEST}"),
    (("learning_rate",), lambda value: 0 < value < math.inf, "be a positive number"),
    (("warmup", "ema", "label_smoothing"), lambda value: 0 <= value < 1, "lie in [0, 1)"),
    (("gbce_t",), lambda value: 0 <= value <= 1, "lie in [0, 1]"),
    (
        ("weight_decay", "clip_norm", "checkpoint_minutes"),
        lambda value: 0 <= value < math.inf,
        "be 0 or a positive number",
    ),
    # The range that torch's random number generator accepts.
    (("seed",), lambda value: 0 <= value < 2**64, f"lie in 0..{2**64 - 1}"),
)


def check_device(asked: str) -> None:
    """Raise InputError if `asked` does not name a device.  Whether the device exists is not checked."""
    if not _DEVICE.fullmatch(asked):
        raise InputError(f"--device must be auto, cpu, cuda or cuda:N, but is {asked!r}")


@dataclass(frozen=True)
class TrainingConfig:
    """The options of a training, with those of the model; `recblr train --help` explains each."""

    split: SplitName = _data(
        "leave-one-out",
        "Events to test on: leave-one-out (the last of each user) or time (the latest of all).",
    )
    valid_share: float | None = _data(
        None,
        "Share of the users to validate on, by default 1 (the other users train on one more event); "
        "with --split time, share of the events, by default 0.1.",
    )
    test_share: float | None = _data(
        None, "With --split time, share of the events to test on, the latest ones; by default 0.1."
    )
    keep_short: bool = _data(
        False, "With leave-one-out, let users with fewer than 3 events train; they are not tested."
    )
    epochs: int = _optimisation(36, "Passes over every user's whole training history.")
    samples: Samples = _optimisation(
        "positions",
        "positions (a pass for each history) or prefixes (a pass for each event, as in the authors' code).",
    )
    batch_tokens: int | None = _optimisation(
        None,
        "Number of events in a batch of whole histories; by default 128 to 1024, for about 256 steps in an "
        "epoch.",
    )
    batch_sequences: int = _optimisation(2048, "Number of prefixes in a batch, with --samples prefixes.")
    learning_rate: float = _optimisation(2e-3, "Highest learning rate of Adam.")
    schedule: Schedule = _optimisation(
        "cosine", "cosine (falls to a hundredth of the learning rate) or constant."
    )
    warmup: float = _optimisation(0.0, "Share of all steps in which the learning rate rises from 0.")
    weight_decay: float = _optimisation(
        0.0, "Weight decay of AdamW, for matrices except embeddings; 0 is plain Adam."
    )
    clip_norm: float = _optimisation(
        0.0, "Largest norm of the gradients, which are scaled down to it; 0 is off."
    )
    ema: float = _optimisation(
        0.999, "Decay of a moving average of the weights, which is validated and saved; 0 is off."
    )
    precision: Precision = _optimisation("float32", "float32, or bfloat16 for matrix products in the layers.")
    patience: int = _optimisation(10, "Stop after this many epochs without a better NDCG@10.")
    loss: Loss = _loss(
        "cross-entropy", "cross-entropy (over the whole catalogue), bpr, gbce or sampled-softmax."
    )
    label_smoothing: float = _loss(
        0.1, "Share of each target that is spread evenly over all items; for cross-entropy only."
    )
    repeat_bias: bool = _loss(
        True, "Learn how much more or less likely an item is if the user already has it."
    )
    negatives: int = _loss(256, "Number of negative items for each batch; not for cross-entropy.")
    negatives_from: NegativesFrom | None = _loss(
        None, "uniform or popularity; by default popularity for sampled-softmax, else uniform."
    )
    gbce_t: float = _loss(0.75, "Strength of the calibration of gbce, from 0 to 1.")
    seed: int = _run(0, "Seed for the weights, batches, dropout and negatives.")
    checkpoint_minutes: float = _run(
        10.0, "Minutes between checkpoints within an epoch; 0 saves one after each epoch only.", fixed=False
    )
    device: str = _run("auto", DEVICE_WORDS, fixed=False)
    tensorboard: bool = _run(False, "Write scalars for TensorBoard into RUN/tensorboard.", fixed=False)
    model: ModelConfig = field(default_factory=RecBLRConfig)

    def __post_init__(self) -> None:
        check_choices(self)
        check_device(self.device)
        for names, holds, rule in _RULES:
            for name in names:
                value = getattr(self, name)
                given = value is not None or getattr(type(self), name) is not None
                if given and not holds(value):
                    raise InputError(f"--{name.replace('_', '-')} must {rule}, but is {value}")
        if self.loss == "gbce" and self.proposal != "uniform":
            raise InputError(
                "--loss gbce is calibrated for uniform negatives, not for popularity",
                "leave --negatives-from out, or choose another loss",
            )

    def settled(self, events: int, *, times: bool = False) -> Self:
        """The same options, but with values in place of None.  The data decide them.

        events: the number of training events.
        times: whether the data have times whose unit is known, and not all the same.

        Few events in large batches make few steps, in which a model learns little.  Many events in small
        batches only take longer.  The batch size is a power of two, so that one event more or less rarely
        changes it.  With few events, more dropout ranks better (docs/experiments.md).
        """
        tokens, dropout = self.batch_tokens, self.model.dropout
        if tokens is None:
            tokens = min(_MOST_TOKENS, max(128, 1 << max(1, events // _STEPS).bit_length() - 1))
        if dropout is None:
            dropout = 0.5 if events < _STEPS * _MOST_TOKENS else self.model.dropout_rate
        time = self.model.time or ("request" if times else "none")
        return replace(self, batch_tokens=tokens, model=replace(self.model, dropout=dropout, time=time))

    @property
    def proposal(self) -> NegativesFrom:
        """The distribution that the negatives are drawn from.

        The sampled softmax estimates the same loss with either distribution.  Its error is smaller with
        popularity, because popular items contribute most of the normaliser.  The other losses change with
        the distribution of their negatives.
        """
        if self.negatives_from is not None:
            return self.negatives_from
        return "popularity" if self.loss == "sampled-softmax" else "uniform"

    @classmethod
    def from_options(cls, values: dict[str, Any]) -> "TrainingConfig":
        """Build the options from {key: value}, with those of the model; a missing key has its default."""
        return from_values(cls, values, model=model_from_options(values))

    def as_options(self) -> dict[str, Any]:
        """Every option by its key, with those of the model: the inverse of :meth:`from_options`."""
        return values_of(self) | values_of(self.model)

    def as_dict(self) -> dict[str, Any]:
        """Plain values by field name, for a report."""
        return asdict(self)


@dataclass(frozen=True)
class DataConfig:
    """The options for reading the data; `recblr train --help` explains each.

    An option that is not fixed may change on resume: the fingerprint shows whether the data are the same.
    """

    paths: tuple[str, ...] = _data((), "The data files.", fixed=False)
    format: str = _data(
        "auto",
        "auto, inter, csv, movielens, parquet, json, pairs (user item) or sequences (user item item …).",
        fixed=False,
    )
    columns: str | None = _data(
        None,
        "What each field of a line is, if there is no header: user, item, time, offset, rating or -, such as "
        "user,time,item,-.",
        fixed=False,
    )
    user_column: str | None = _data(None, "Column of user ids.", fixed=False)
    item_column: str | None = _data(None, "Column of item ids.", fixed=False)
    time_column: str | None = _data(
        None, "Column of times, or two that are added: date+time-of-day.", fixed=False
    )
    time_unit: str | None = _data(
        None,
        "Unit of times that are numbers, from 1970 on: d, h, min, s, ms, us or ns; by default the one in "
        "which all are in the years 1990 to 2100.",
        fixed=False,
    )
    offset_unit: str | None = _data(
        None, "Unit of numbers that are added to dates: h, min, s, ms, us or ns.", fixed=False
    )
    file_order: bool = _data(False, "Read no times: the rows are in the order of time already.", fixed=False)
    separator: str | None = _data(
        None, "What is between the fields of a text file: a text, or tab or space.", fixed=False
    )
    quotes: bool = _data(True, "Whether fields of a CSV file may be in quotes.", fixed=False)
    encoding: str = _data("utf-8", "How text files are encoded, such as latin-1.", fixed=False)
    drop_incomplete: bool = _data(
        False,
        "Drop and count rows without a user, an item or a time; otherwise they are an error.",
        fixed=False,
    )
    rating_column: str | None = _data(None, "Column of ratings.", fixed=False)
    min_rating: float | None = _data(
        None, "Drop interactions with a lower rating, or with none.", fixed=False
    )
    k_core: int = _data(5, "Drop users and items with fewer interactions than this, repeatedly.")
    min_user_events: int | None = _data(
        None, "Drop users with fewer interactions than this; by default the value of --k-core."
    )
    min_item_events: int | None = _data(
        None, "Drop items with fewer interactions than this; by default the value of --k-core."
    )

    @classmethod
    def from_options(cls, values: dict[str, Any]) -> "DataConfig":
        """Build the options from {key: value}; a missing key has its default."""
        return from_values(cls, values)

    def as_options(self) -> dict[str, Any]:
        """Every option by its key: the inverse of :meth:`from_options`."""
        return values_of(self)


OPTIONS: dict[str, Option] = {
    **{option.key: option for option in options(DataConfig)},
    **MODEL_OPTIONS,
    **{option.key: option for option in options(TrainingConfig)},
}
"""Every option by its key; the key is unique because it is also a flag."""
