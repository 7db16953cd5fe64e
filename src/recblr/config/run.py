"""Which data a run is made from, how it trains, and every option of a run in one place."""

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Literal, Self

from recblr.config.model import MODEL_OPTIONS, ModelConfig, RecBLRConfig, model_from_options
from recblr.config.option import LARGEST, Option, check_choices, from_values, option, options, values_of
from recblr.errors import InputError

DEVICE_WORDS = "auto (a GPU that the CUDA kernels serve, else the CPU), cpu, cuda or cuda:N."

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

# A batch is so small that an epoch takes so many steps, but no larger than most tokens.
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
    # What torch's generator takes.
    (("seed",), lambda value: 0 <= value < 2**64, f"lie in 0..{2**64 - 1}"),
)


def check_device(asked: str) -> None:
    """InputError where `asked` is no word for a device; whether that device is there is not looked at."""
    if not _DEVICE.fullmatch(asked):
        raise InputError(f"--device must be auto, cpu, cuda or cuda:N, but is {asked!r}")


@dataclass(frozen=True)
class TrainingConfig:
    """Options of a run, the model's among them; `recblr train --help` says what each means."""

    split: SplitName = _data(
        "leave-one-out", "leave-one-out (each user's last), or time (everybody's latest)."
    )
    valid_share: float | None = _data(
        None,
        "Share that validates: of the users (1), whose others train on one event more; of a split by time, "
        "of the events (0.1).",
    )
    test_share: float | None = _data(
        None, "Of a split by time, the share of events, the last, that test (0.1)."
    )
    epochs: int = _optimisation(36, "Passes over every user's whole training history.")
    samples: Samples = _optimisation(
        "positions",
        "positions (all of a history in one pass) or prefixes (a pass each, as the authors' code has it).",
    )
    batch_tokens: int | None = _optimisation(
        None,
        "Events in a batch, filled with whole histories; by default so many that an epoch takes 256 steps, "
        "from 128 to 1024.",
    )
    batch_sequences: int = _optimisation(2048, "Prefixes in a batch, where samples are prefixes.")
    learning_rate: float = _optimisation(2e-3, "Adam's, at its highest.")
    schedule: Schedule = _optimisation("cosine", "cosine (down to a hundredth of the rate) or constant.")
    warmup: float = _optimisation(0.0, "Share of all steps in which the rate rises from 0.")
    weight_decay: float = _optimisation(0.0, "AdamW's, of matrices but embeddings; 0 is plain Adam.")
    clip_norm: float = _optimisation(0.0, "Scale gradients with a larger norm down to it; 0 is off.")
    ema: float = _optimisation(
        0.999, "Validate and keep a moving average of the weights, of this decay; 0 is off."
    )
    precision: Precision = _optimisation("float32", "float32, or bfloat16 for the layers' products.")
    patience: int = _optimisation(10, "Stop after so many epochs without a better NDCG@10.")
    loss: Loss = _loss(
        "cross-entropy", "cross-entropy (over the whole catalogue), bpr, gbce or sampled-softmax."
    )
    label_smoothing: float = _loss(
        0.1, "Share of each target that all items get alike; for cross-entropy only."
    )
    repeat_bias: bool = _loss(
        True, "Learn how much likelier or less likely items are that a user already has."
    )
    negatives: int = _loss(256, "Items that a batch is compared with, but for cross-entropy.")
    negatives_from: NegativesFrom | None = _loss(
        None, "uniform, or popularity; by default popularity for sampled-softmax only."
    )
    gbce_t: float = _loss(0.75, "How far gbce is calibrated, from 0 to 1.")
    seed: int = _run(0, "Of weights, batches, dropout and negatives.")
    checkpoint_minutes: float = _run(
        10.0, "Save what it takes to resume this often within an epoch too; 0 is never.", fixed=False
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
                left_to_data = value is None and getattr(type(self), name) is None
                if not left_to_data and not holds(value):
                    raise InputError(f"--{name.replace('_', '-')} must {rule}, but is {value}")
        if self.loss == "gbce" and self.proposal != "uniform":
            raise InputError(
                "--loss gbce is calibrated for uniform negatives, not by popularity",
                "leave --negatives-from out, or choose another loss",
            )

    def settled(self, events: int) -> Self:
        """The same with numbers for what was left to the data, where so many events train.

        Few events in large batches make few steps, and learn little in any number of epochs that a user would
        wait for; many events in small ones only take longer.  A power of two, so that an event more or less
        seldom changes anything.  Few events also want more dropout (docs/experiments.md).
        """
        tokens, dropout = self.batch_tokens, self.model.dropout
        if tokens is None:
            tokens = min(_MOST_TOKENS, max(128, 1 << max(1, events // _STEPS).bit_length() - 1))
        if dropout is None:
            dropout = 0.5 if events < _STEPS * _MOST_TOKENS else self.model.dropout_rate
        return replace(self, batch_tokens=tokens, model=replace(self.model, dropout=dropout))

    @property
    def proposal(self) -> NegativesFrom:
        """How negatives are drawn.

        The sampled softmax estimates the same from either, and by popularity with less error: the popular
        items make most of the normaliser. The other losses are changed by what they are compared with.
        """
        if self.negatives_from is not None:
            return self.negatives_from
        return "popularity" if self.loss == "sampled-softmax" else "uniform"

    @classmethod
    def from_options(cls, values: dict[str, Any]) -> "TrainingConfig":
        """Of {key: value}, the model's among them; what is missing has its default."""
        return from_values(cls, values, model=model_from_options(values))

    def as_options(self) -> dict[str, Any]:
        """Every option by its key, the model's among them: the inverse of :meth:`from_options`."""
        return values_of(self) | values_of(self.model)

    def as_dict(self) -> dict[str, Any]:
        """Plain values by field, for a report."""
        return asdict(self)


@dataclass(frozen=True)
class DataConfig:
    """Options of reading; `recblr train --help` says what each means.

    What the data's fingerprint tells anyway need not be the same to resume.
    """

    paths: tuple[str, ...] = _data((), "The data files.", fixed=False)
    format: str = _data(
        "auto",
        "auto, inter, csv, movielens, parquet, pairs (user item) or sequences (user item item …).",
        fixed=False,
    )
    user_column: str | None = _data(None, "Column of user ids.", fixed=False)
    item_column: str | None = _data(None, "Column of item ids.", fixed=False)
    time_column: str | None = _data(None, "Column of times.", fixed=False)
    rating_column: str | None = _data(None, "Column of ratings.", fixed=False)
    min_rating: float | None = _data(None, "Drop interactions that are rated lower.", fixed=False)
    k_core: int = _data(5, "Drop users and items with fewer interactions, repeatedly.")

    @classmethod
    def from_options(cls, values: dict[str, Any]) -> "DataConfig":
        """Of {key: value}; what is missing has its default."""
        return from_values(cls, values)

    def as_options(self) -> dict[str, Any]:
        """Every option by its key: the inverse of :meth:`from_options`."""
        return values_of(self)


OPTIONS: dict[str, Option] = {
    **{option.key: option for option in options(DataConfig)},
    **MODEL_OPTIONS,
    **{option.key: option for option in options(TrainingConfig)},
}
"""Every option by its key, which is unique because it is a flag."""
