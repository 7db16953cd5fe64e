"""The hyper-parameters: those that every model has, each model's own, and the models that there are."""

from dataclasses import KW_ONLY, dataclass, fields
from functools import partial
from typing import Any, Literal, Self, get_args

from recblr.config.option import (
    LARGEST,
    Option,
    check_choice,
    from_values,
    option,
    options,
    with_default,
    with_todays_names,
)
from recblr.errors import InputError, naming_flag

ModelName = Literal["recblr", "sasrec", "gru4rec"]
LambdaInit = Literal["uniform", "linspace"]

RELEASED_BETA_EPSILON = 1e-8

_option = partial(option, "model")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The hyper-parameters of every model; each has a class of its own with what it adds.

    model: the architecture's name, fixed by the class.
    d_model: width D of items and layers.
    num_layers: number of layers.
    dropout: probability, where the architecture has dropout; None leaves it to training, which goes by the
        data, and is 0.2 in a model that is not trained by recblr.
    max_length: training, evaluation and recommendation see the last so many events of a history; None is
        all (RecBLR's paper: XLong 1000, ML-1M 200, Gowalla 100, others 50).
    """

    model: ModelName = _option("recblr", "recblr, or a baseline: sasrec or gru4rec.")
    d_model: int = _option(64, "Width of the model.")
    num_layers: int = _option(2, "Number of layers, each a whole block in recblr and sasrec.")
    dropout: float | None = _option(
        None, "Dropout; by default 0.5 where fewer than 262,144 events train, else 0.2."
    )
    max_length: int | None = _option(
        None, "See the last so many events of a history; by default all, or 200 for sasrec."
    )

    def __post_init__(self) -> None:
        if self.model != type(self).model:
            raise ValueError(
                f"model must be {type(self).model} in a {type(self).__name__}, but is {self.model!r}"
            )
        _check_counts(self, "d_model", "num_layers")
        _check_probabilities(self, "dropout")
        if self.max_length is not None:
            _check_counts(self, "max_length")

    @property
    def dropout_rate(self) -> float:
        """The probability itself, where it has not been left to training."""
        return 0.2 if self.dropout is None else self.dropout


def _check_counts(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if type(value) is not int:
            raise ValueError(f"{name} must be a whole number, but is {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, but is {value}")
        if value > LARGEST:
            raise ValueError(f"{name} must be at most {LARGEST}, but is {value}")


def _check_probabilities(config: object, *names: str) -> None:
    for name in names:
        value = getattr(config, name)
        if value is not None and not 0 <= value < 1:
            raise ValueError(f"{name} must lie in [0, 1), but is {value}")


def _check_expand(expand: float, d_model: int) -> None:
    must = "expand must be a number such that expand * d_model is"
    if not 0 < expand < float("inf") or round(expand * d_model) < 1:
        raise ValueError(f"{must} at least 1, but is {expand}")
    if expand * d_model > LARGEST:
        raise ValueError(f"{must} at most {LARGEST}, but is {expand}")


def check_recurrence(beta_epsilon: float, lambda_init: str) -> None:
    """Refuse options of :class:`recblr.nn.BDLRU` that are out of range.

    Raises:
        ValueError: beta_epsilon is negative or not finite, or lambda_init is neither of its words.
    """
    if not 0 <= beta_epsilon < float("inf"):
        raise ValueError(f"beta_epsilon must be 0 or a positive number, but is {beta_epsilon}")
    if lambda_init not in get_args(LambdaInit):
        raise ValueError(f"lambda_init must be uniform or linspace, but is {lambda_init!r}")


@dataclass(frozen=True)
class LayerConfig:
    """What one RecBLR block is made of; the defaults are the paper's, but for dropout.

    d_model: width D of input and output.
    expand: the recurrence runs in a width of H = expand * D.
    d_conv: width K of the causal convolution, which sees so many events.
    dropout: probability, applied to both sub-layers' outputs.
    ffn_expand: the feed-forward network's width is ffn_expand * D.
    ffn_dropout: probability of the dropout after the feed-forward network's SiLU.  The authors' released code
        has it, with dropout's probability; the paper has none.
    padding_steps: how many zero inputs to run before every sequence; nobody sees their outputs.  The
        convolution's bias makes them leave a state behind.  The authors' released code pads on the left to a
        power of two, so that a sequence of 200 begins after 56 such steps.  The paper has none.
    beta_epsilon, lambda_init: see :class:`recblr.nn.BDLRU`.
    history_average: add a :class:`recblr.nn.HistoryAverage` of the input, which the paper has not.
    """

    d_model: int
    expand: float = 2
    d_conv: int = 4
    dropout: float = 0.0
    ffn_expand: float = 4
    _: KW_ONLY
    ffn_dropout: float = 0.0
    padding_steps: int = 0
    beta_epsilon: float = 0.0
    lambda_init: LambdaInit = "uniform"
    history_average: bool = False

    def __post_init__(self) -> None:
        _check_counts(self, "d_model", "d_conv")
        _check_expand(self.expand, self.d_model)
        _check_probabilities(self, "dropout", "ffn_dropout")
        if self.d_ffn < 1:
            raise ValueError(
                f"the width of ffn_expand * d_model must be a whole number of at least 1, but is {self.d_ffn}"
            )
        if self.padding_steps < 0:
            raise ValueError(f"padding_steps must not be negative, but is {self.padding_steps}")
        check_recurrence(self.beta_epsilon, self.lambda_init)

    @property
    def d_inner(self) -> int:
        """H, the width in which the recurrence runs."""
        return round(self.expand * self.d_model)

    @property
    def d_ffn(self) -> int:
        """The width of the feed-forward network."""
        return round(self.ffn_expand * self.d_model)


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig(ModelConfig):
    """Of a model whose recurrence has a width of its own, expand * d_model."""

    expand: float = _option(2.0, "The recurrence's width, in widths of the model; not for sasrec.")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_expand(self.expand, self.d_model)


@dataclass(frozen=True, kw_only=True)
class RecBLRConfig(RecurrentConfig):
    """RecBLR's hyper-parameters; the defaults are the paper's, but for the last two and dropout.

    `history_average` and `ffn_dropout` rank better than the paper's model without (docs/results.md); the
    authors' released code has the second only.  That code differs from the paper in `padding_leak`,
    `beta_epsilon` and `lambda_init`.  These are there to reproduce it and its checkpoints, not to improve on
    the paper.  :meth:`released` sets all but `ffn_dropout`.

    num_layers: number of RecBLR blocks.
    expand, d_conv, beta_epsilon, lambda_init, history_average: as in :class:`LayerConfig`.
    dropout: probability, of the embedding's and both sub-layers' outputs; None as in :class:`ModelConfig`.
    ffn_dropout: as in :class:`LayerConfig`; None is dropout's, as in the released code, and 0 is the paper's.
    max_length: as in :class:`ModelConfig`; a model that is called directly runs over whatever it is given.
    padding_leak: begin every history in the state that the released code's padding leaves behind.  That code
        pads each layer's input from max_length on the left to a power of two with zeros, and the
        convolution's bias makes them count.  It is not the default: the state before the first event should
        not depend on a length, and the paper's is zero.
    """

    d_conv: int = _option(4, "Width of the causal convolution; for recblr only.")
    padding_leak: bool = _option(False, "As in the authors' code, let padding leave a state behind.")
    beta_epsilon: float = _option(0.0, "Added under the root of beta; 1e-8 in the authors' code.")
    lambda_init: LambdaInit = _option("uniform", "uniform in alpha, or linspace as in the authors' code.")
    ffn_dropout: float | None = _option(
        None, "Dropout inside the feed-forward network; by default as --dropout. For recblr only."
    )
    history_average: bool = _option(
        True, "Add a moving average of the history in every layer, which the paper has not. For recblr only."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.padding_leak and self.max_length is None:
            raise ValueError("padding_leak must come with max_length, which decides how much padding leaks")
        self.layer()  # for its checks

    def layer(self) -> LayerConfig:
        """What each block is made of."""
        return LayerConfig(
            self.d_model,
            self.expand,
            self.d_conv,
            self.dropout_rate,
            ffn_dropout=self.dropout_rate if self.ffn_dropout is None else self.ffn_dropout,
            padding_steps=self.padding_steps,
            beta_epsilon=self.beta_epsilon,
            lambda_init=self.lambda_init,
            history_average=self.history_average,
        )

    @classmethod
    def released(cls, max_length: int, **others: Any) -> Self:
        """The authors' released code: all of its differences from the paper, at its `max_length`.

        others: further fields; one that this sets goes its own way.
        """
        released = {
            "padding_leak": True,
            "beta_epsilon": RELEASED_BETA_EPSILON,
            "lambda_init": "linspace",
            "history_average": False,
        }
        return cls(max_length=max_length, **{**released, **others})

    @property
    def padding_steps(self) -> int:
        """How many steps of padding leak into each history: 56 at max_length 200, as that lacks to 256."""
        if not self.padding_leak or self.max_length is None:
            return 0
        return (1 << (self.max_length - 1).bit_length()) - self.max_length


@dataclass(frozen=True, kw_only=True)
class SASRecConfig(ModelConfig):
    """SASRec's hyper-parameters; its number of blocks and its max_length are the paper's for MovieLens-1M.

    num_heads: attention heads, each d_model / num_heads wide.
    max_length: how many positions are learned, and so the most events that the model can see.
    """

    model: ModelName = with_default(ModelConfig, "model", "sasrec")
    max_length: int = with_default(ModelConfig, "max_length", 200)
    num_heads: int = _option(2, "Number of attention heads; for sasrec only.")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_counts(self, "max_length", "num_heads")  # here max_length must not be None
        if self.d_model % self.num_heads:
            raise ValueError(
                f"num_heads must divide d_model, which is {self.d_model}, but is {self.num_heads}"
            )


@dataclass(frozen=True, kw_only=True)
class GRU4RecConfig(RecurrentConfig):
    """GRU4Rec's hyper-parameters.

    expand: the GRU's hidden state is expand * d_model wide.
    """

    model: ModelName = with_default(ModelConfig, "model", "gru4rec")


MODELS: dict[str, type[ModelConfig]] = {
    "recblr": RecBLRConfig,
    "sasrec": SASRecConfig,
    "gru4rec": GRU4RecConfig,
}
"""The class of a model's hyper-parameters by the model's name."""

MODEL_OPTIONS: dict[str, Option] = {}
"""Every option of every model by its key; where models share one, with the default of the first."""

for _config in MODELS.values():
    for _entry in options(_config):
        MODEL_OPTIONS.setdefault(_entry.key, _entry)


def model_from_fields(values: dict[str, Any]) -> ModelConfig:
    """The hyper-parameters of {field: value}, as a model file has them: the inverse of `asdict`.

    Old names of fields are understood; what is missing has its default.

    Raises InputError, naming the field, where there is no such field, and ValueError or TypeError for
    an unknown model or a value out of range.
    """
    values = with_todays_names(values)
    # Files from before there were others do not name their model.
    name = values.get("model", RecBLRConfig.model)
    if not isinstance(name, str) or name not in MODELS:
        raise ValueError(f"there is no model {name!r}")
    known = {field.name for field in fields(MODELS[name])}
    unknown = next((field for field in values if field not in known), None)
    if unknown is not None:
        raise InputError(f"this recblr knows no option {unknown} of the model {name}")
    return MODELS[name](**values)


def model_from_options(values: dict[str, Any]) -> ModelConfig:
    """The hyper-parameters of {key: value}, in which other tables' keys are passed over.

    What is missing has its default.  An option of another model may be there with its default, so that a
    config file serves for all models.

    Raises InputError, naming the flag, for an unknown model, another model's option, or a value out of range.
    """
    name = values.get("model", RecBLRConfig.model)
    check_choice(MODEL_OPTIONS["model"], name)
    config = MODELS[name]
    own = {entry.key for entry in options(config)}
    for key, entry in MODEL_OPTIONS.items():
        if key not in own and values.get(key, entry.default) != entry.default:
            raise InputError(f"--{key} is no option of --model {name}", "leave it out")
    try:
        return from_values(config, values)
    except ValueError as error:
        raise naming_flag(error) from None
