"""How a run trains."""

from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

from recblr.config.model import RecBLRConfig
from recblr.config.option import from_values, option, values_of
from recblr.errors import InputError

_optimisation = partial(option, "optimisation")
_run = partial(option, "run")


@dataclass(frozen=True)
class TrainingConfig:
    """Options of a run, the model's among them."""

    epochs: int = _optimisation(36, "Passes over every user's whole training history.")
    batch_tokens: int = _optimisation(1024, "Events in a batch, filled with whole histories.")
    learning_rate: float = _optimisation(1e-3, "Adam's at the start; follows a cosine down to a hundredth.")
    patience: int = _optimisation(10, "Stop after so many epochs without a better NDCG@10.")
    seed: int = _run(0, "Of weights, batches and dropout.")
    model: RecBLRConfig = field(default_factory=RecBLRConfig)

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_tokens", "patience"):
            if getattr(self, name) < 1:
                flag = name.replace("_", "-")
                raise InputError(f"--{flag} must be at least 1, but is {getattr(self, name)}")
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"--learning-rate must be a positive number, but is {self.learning_rate}")
        if not 0 <= self.seed < 2**64:  # what torch's generator takes
            raise InputError(f"--seed must lie in 0..{2**64 - 1}, but is {self.seed}")

    @classmethod
    def from_options(cls, values: dict[str, Any]) -> "TrainingConfig":
        """Of {key: value}, the model's among them; what is missing has its default."""
        try:
            model = from_values(RecBLRConfig, values)
        except ValueError as error:
            # It begins with the parameter's name, and is read by somebody who knows the flag.
            name, _, rest = str(error).partition(" ")
            raise InputError(f"--{name.replace('_', '-')} {rest}") from None
        return from_values(cls, values, model=model)

    def as_options(self) -> dict[str, Any]:
        """Every option by its key, the model's among them: the inverse of :meth:`from_options`."""
        return values_of(self) | values_of(self.model)

    def as_dict(self) -> dict[str, Any]:
        """Plain values by field, for a report."""
        return asdict(self)
