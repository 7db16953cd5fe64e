"""The baselines' hyper-parameters."""

from dataclasses import dataclass

from recblr.config.model import ModelConfig, ModelName, RecurrentConfig
from recblr.config.option import option, with_default


@dataclass(frozen=True, kw_only=True)
class SASRecConfig(ModelConfig):
    """SASRec's hyper-parameters; its number of blocks and its max_length are the paper's for MovieLens-1M.

    num_heads: attention heads, each d_model / num_heads wide.
    max_length: how many positions are learned, and so the most events that the model can see.
    """

    model: ModelName = with_default(ModelConfig, "model", "sasrec")
    max_length: int = with_default(ModelConfig, "max_length", 200)
    num_heads: int = option("model", 2, "Number of attention heads; for sasrec only.")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts("max_length", "num_heads")  # here max_length must not be None
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
