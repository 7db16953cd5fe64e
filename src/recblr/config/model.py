"""The hyper-parameters: those that all models share, those of each model, and the list of models."""

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
TimeUse = Literal["none", "past", "request"]

RELEASED_BETA_EPSILON = 1e-8

KNOTS_PER_DOUBLING = 1.5
NUM_KNOTS = 48
"""The knots of a learned function of a gap; the last one lies at 2**(47 / 1.5) seconds, which is 85 years."""

_option = partial(option, "model")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The hyper-parameters of every model; a subclass for each model adds its own.

    model: the name of the architecture; the class fixes it.
    d_model: width D of the item embeddings and the layers.
    num_layers: number of layers.
    dropout: dropout probability, where the architecture has dropout.  With None, training chooses it by the
        number of training events; a model that recblr does not train then uses 0.2.
    max_length: number of newest events of a history that training, evaluation and recommendation use; None
        means all.  RecBLR's paper uses 1000 for XLong, 200 for ML-1M, 100 for Gowalla and 50 for the others.
    time: what the model knows of time: "none", only the order of the events; "past", also the gaps between
        them; "request", also when the next item is asked for.  With None, training chooses request if the
        data have times whose unit is known; a model that recblr does not train then knows none.
    """

    model: ModelName = _option("recblr", "recblr, or a baseline: sasrec or gru4rec.")
    d_model: int = _option(64, "Width of the model.")
    num_layers: int = _option(2, "Number of layers; in recblr and sasrec each layer is a whole block.")
    dropout: float | None = _option(
        None, "Dropout probability; by default 0.5 with fewer than 262,144 training events, else 0.2."
    )
    max_length: int | None = _option(
        None, "Number of newest events of a history to use; by default all, or 200 for sasrec."
    )
    time: TimeUse | None = _option(
        None,
        "Use of times: none, past (gaps between events) or request (also when the next item is asked for); "
        "by default request if the data have times.",
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
        if self.time is not None and self.time not in get_args(TimeUse):
            raise ValueError(f"time must be one of {', '.join(get_args(TimeUse))}, but is {self.time!r}")

    @property
    def dropout_rate(self) -> float:
        """The dropout probability; 0.2 where the choice is left to training."""
        return 0.2 if self.dropout is None else self.dropout

    @property
    def time_use(self) -> TimeUse:
        """What the model knows of time; none where the choice is left to training."""
        return "none" if self.time is None else self.time


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
        ValueError: beta_epsilon is negative or not finite, or lambda_init is neither uniform nor linspace.
    """
    if not 0 <= beta_epsilon < float("inf"):
        raise ValueError(f"beta_epsilon must be 0 or a positive number, but is {beta_epsilon}")
    if lambda_init not in get_args(LambdaInit):
        raise ValueError(f"lambda_init must be uniform or linspace, but is {lambda_init!r}")


@dataclass(frozen=True)
class LayerConfig:
    """The parameters of one RecBLR block.

    The defaults are those of :class:`RecBLRConfig`, except for dropout, which is off: they are the paper's,
    except for `history_average`.

    d_model: width D of the input and the output.
    expand: the recurrence has a width of H = expand * D.
    d_conv: width K of the causal convolution, which is the number of events that it sees.
    dropout: probability for the outputs of both sub-layers.
    ffn_expand: the feed-forward network has a width of ffn_expand * D.
    ffn_dropout: probability of the dropout after the SiLU of the feed-forward network.  The authors' released
        code has it, with the probability of `dropout`; the paper has none.
    padding_steps: number of zero inputs to run before every sequence; their outputs are not used.  The bias
        of the convolution makes them leave a state behind.  The authors' released code pads on the left to a
        power of two, so a sequence of 200 events begins after 56 such steps.  The paper has none.
    beta_epsilon, lambda_init: see :class:`recblr.nn.BDLRU`.
    history_average: whether to add a :class:`recblr.nn.HistoryAverage` of the input; False is the paper's
        block.
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
    history_average: bool = True

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
        """H, the width of the recurrence."""
        return round(self.expand * self.d_model)

    @property
    def d_ffn(self) -> int:
        """The width of the feed-forward network."""
        return round(self.ffn_expand * self.d_model)


@dataclass(frozen=True, kw_only=True)
class RecurrentConfig(ModelConfig):
    """The hyper-parameters of a model whose recurrence has its own width, expand * d_model."""

    expand: float = _option(
        2.0, "Width of the recurrence, as a multiple of the model's width; not for sasrec."
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_expand(self.expand, self.d_model)


@dataclass(frozen=True, kw_only=True)
class RecBLRConfig(RecurrentConfig):
    """RecBLR's hyper-parameters; the defaults are the paper's, except for `dropout` and the last two fields.

    With `history_average` and `ffn_dropout` the model ranks better than the paper's model (docs/results.md).
    The authors' released code has only `ffn_dropout`.  That code differs from the paper in `padding_leak`,
    `beta_epsilon` and `lambda_init`.  These three exist to reproduce the code and its checkpoints, not to
    improve on the paper.  :meth:`released` sets all of these except `ffn_dropout`.

    num_layers: number of RecBLR blocks.
    expand, d_conv, beta_epsilon, lambda_init, history_average: as in :class:`LayerConfig`.
    dropout: probability for the outputs of the embedding and of both sub-layers; None as in
        :class:`ModelConfig`.
    ffn_dropout: as in :class:`LayerConfig`.  None means the value of `dropout`, as in the released code; 0 is
        the paper's value.
    max_length: as in :class:`ModelConfig`; a model that is called directly processes its whole input.
    padding_leak: start every history in the state that the released code's padding leaves behind.  That code
        pads each layer's input with zeros on the left, from max_length to a power of two, and the bias of
        the convolution makes the zeros count.  This is off by default because the state before the first
        event is zero in the paper and should not depend on a length.
    """

    d_conv: int = _option(4, "Width of the causal convolution; for recblr only.")
    padding_leak: bool = _option(False, "Let padding leave a state behind, as in the authors' code.")
    beta_epsilon: float = _option(0.0, "Added under the square root of beta; 1e-8 in the authors' code.")
    lambda_init: LambdaInit = _option(
        "uniform", "Initial decay: uniform in alpha, or linspace as in the authors' code."
    )
    ffn_dropout: float | None = _option(
        None, "Dropout inside the feed-forward network; by default the value of --dropout. For recblr only."
    )
    history_average: bool = _option(
        LayerConfig.history_average,
        "Add a moving average of the history in every layer, unlike the paper's model. For recblr only.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.padding_leak and self.max_length is None:
            raise ValueError("padding_leak must come with max_length, which decides how much padding leaks")
        self.layer()  # LayerConfig checks the other options

    def layer(self) -> LayerConfig:
        """The parameters of each block."""
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
        """The options of the authors' released code: all its differences from the paper, at its `max_length`.

        others: values of further fields; they override the released ones.
        """
        released = {
            "padding_leak": True,
            "beta_epsilon": RELEASED_BETA_EPSILON,
            "lambda_init": "linspace",
            "history_average": False,
            "time": "none",
        }
        return cls(max_length=max_length, **{**released, **others})

    @property
    def padding_steps(self) -> int:
        """Number of padding steps that leak into each history: 56 at max_length 200, which is 256 - 200."""
        if not self.padding_leak or self.max_length is None:
            return 0
        return (1 << (self.max_length - 1).bit_length()) - self.max_length


@dataclass(frozen=True, kw_only=True)
class SASRecConfig(ModelConfig):
    """SASRec's hyper-parameters; num_layers and max_length are the values of its paper for MovieLens-1M.

    num_heads: number of attention heads, each d_model / num_heads wide.
    max_length: number of learned positions, which is the largest number of events that the model can see.
    """

    model: ModelName = with_default(ModelConfig, "model", "sasrec")
    max_length: int = with_default(ModelConfig, "max_length", 200)
    num_heads: int = _option(2, "Number of attention heads; for sasrec only.")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_counts(self, "max_length", "num_heads")  # here max_length must not be None
        if self.d_model % self.num_heads:
            raise ValueError(f"num_heads must divide d_model ({self.d_model}), but is {self.num_heads}")


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
"""The class of hyper-parameters for each model name."""

MODEL_OPTIONS: dict[str, Option] = {}
"""Every option of every model, by key; a shared option has the default of the first model."""

for _config in MODELS.values():
    for _entry in options(_config):
        MODEL_OPTIONS.setdefault(_entry.key, _entry)


def model_from_fields(values: dict[str, Any]) -> ModelConfig:
    """Build the hyper-parameters from {field: value}, as a model file stores them: the inverse of `asdict`.

    Old names of fields are accepted; a missing field has its default.  A missing `time` is none: the file is
    older than this field, and its model knows no time.

    Raises InputError, naming the field, for an unknown field, and ValueError or TypeError for an unknown
    model or a value out of range.
    """
    values = {"time": "none"} | with_todays_names(values)
    # The oldest files do not name their model, because RecBLR was the only one.
    name = values.get("model", RecBLRConfig.model)
    if not isinstance(name, str) or name not in MODELS:
        raise ValueError(f"there is no model {name!r}")
    known = {field.name for field in fields(MODELS[name])}
    unknown = next((field for field in values if field not in known), None)
    if unknown is not None:
        raise InputError(f"this version of recblr has no option {unknown} for the model {name}")
    return MODELS[name](**values)


def model_from_options(values: dict[str, Any]) -> ModelConfig:
    """Build the hyper-parameters from {key: value}; keys of other tables are ignored.

    A missing key has its default.  An option of another model is accepted if it has its default value, so
    that one config file can serve all models.

    Raises InputError, naming the flag, for an unknown model, another model's option, or a value out of range.
    """
    name = values.get("model", RecBLRConfig.model)
    check_choice(MODEL_OPTIONS["model"], name)
    config = MODELS[name]
    own = {entry.key for entry in options(config)}
    for key, entry in MODEL_OPTIONS.items():
        if key not in own and values.get(key, entry.default) != entry.default:
            raise InputError(f"--{key} is not an option of --model {name}", "leave it out")
    try:
        return from_values(config, values)
    except ValueError as error:
        raise naming_flag(error) from None
