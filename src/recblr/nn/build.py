"""From hyper-parameters to the model that they are of."""

from collections.abc import Callable
from typing import Any

from recblr.config.model import GRU4RecConfig, ModelConfig, RecBLRConfig, SASRecConfig
from recblr.nn.baselines import GRU4Rec, SASRec
from recblr.nn.model import RecBLR
from recblr.nn.next_item import NextItemModel

_MODELS: dict[type[ModelConfig], Callable[[int, Any], NextItemModel]] = {
    RecBLRConfig: RecBLR,
    SASRecConfig: SASRec,
    GRU4RecConfig: GRU4Rec,
}


def build_model(num_items: int, config: ModelConfig) -> NextItemModel:
    """A new model over a catalogue of num_items, its weights drawn from torch's generator."""
    return _MODELS[type(config)](num_items, config)
