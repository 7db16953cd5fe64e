"""What a training run is asked to do, apart from its data."""

from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from recblr.errors import InputError
from recblr.nn.model import RecBLRConfig

Samples = Literal["positions", "prefixes"]


@dataclass(frozen=True)
class TrainingConfig:
    """Options of a run; a resumed run must have the same.

    epochs: passes over every user's whole training history.
    samples: positions trains on whole histories, with a target at every position; prefixes, as the authors'
        released code does through RecBole, on every prefix of a history as a sequence of its own with one
        target, for about the mean length times the work.
    batch_tokens: events in a batch of whole histories.
    batch_sequences: prefixes in a batch of prefixes.
    learning_rate: Adam's, at the start; it follows a cosine down to a hundredth over all epochs.
    patience: stop after so many epochs without a better validation NDCG@10 (unmasked).
    seed: of initial weights, batches and dropout.
    """

    epochs: int = 36
    samples: Samples = "positions"
    batch_tokens: int = 1024
    batch_sequences: int = 2048
    learning_rate: float = 1e-3
    patience: int = 10
    seed: int = 0
    model: RecBLRConfig = field(default_factory=RecBLRConfig)

    def __post_init__(self) -> None:
        if self.samples not in get_args(Samples):
            raise InputError(f"--samples must be positions or prefixes, but is {self.samples}")
        for name in ("epochs", "batch_tokens", "batch_sequences", "patience"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} must be at least 1, but is {getattr(self, name)}")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"--learning-rate must be a positive number, but is {self.learning_rate}")
        if not 0 <= self.seed < 2**64:  # what torch's generator takes
            raise InputError(f"--seed must lie in 0..{2**64 - 1}, but is {self.seed}")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "TrainingConfig":
        """The inverse of :meth:`as_dict`; TypeError or KeyError where the keys differ."""
        model = RecBLRConfig(**values["model"])
        return cls(**{f.name: values[f.name] for f in fields(cls) if f.name != "model"}, model=model)

    def flat(self) -> dict[str, Any]:
        """Every option by its flag's name, to compare two runs and name what differs."""
        values = self.as_dict()
        values.update(values.pop("model"))
        return {name.replace("_", "-"): value for name, value in values.items()}
