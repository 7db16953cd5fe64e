"""The model's hyper-parameters."""

from dataclasses import dataclass
from functools import partial

from recblr.config.option import option

_option = partial(option, "model")


@dataclass(frozen=True)
class RecBLRConfig:
    """The model's hyper-parameters; the defaults are the paper's (ML-1M's dropout)."""

    d_model: int = _option(64, "Width of the model.")
    num_layers: int = _option(2, "Number of RecBLR blocks.")
    expand: float = _option(2.0, "The recurrence's width, in widths of the model.")
    d_conv: int = _option(4, "Width of the causal convolution.")
    dropout: float = _option(0.2, "Dropout; more for sparse data (0.5 for Amazon's).")

    def __post_init__(self) -> None:
        for name in ("d_model", "num_layers", "d_conv"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, but is {getattr(self, name)}")
        if not 0 < self.expand < float("inf") or round(self.expand * self.d_model) < 1:
            raise ValueError(
                f"expand must be a number such that expand * d_model is at least 1, but is {self.expand}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), but is {self.dropout}")
