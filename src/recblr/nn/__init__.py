"""Layers and models: BDLRU, CausalConv1d, HistoryAverage, GatedRecurrentLayer, RecBLRLayer, RecBLR."""

from recblr.config.model import LayerConfig, RecBLRConfig
from recblr.nn.base import NextItemModel
from recblr.nn.layer import GatedRecurrentLayer, LayerState, RecBLRLayer
from recblr.nn.model import RecBLR
from recblr.nn.repeats import Repeats, seen_items
from recblr.nn.states import Pending, TimedState
from recblr.nn.units import BDLRU, CausalConv1d, HistoryAverage

__all__ = [
    "BDLRU",
    "CausalConv1d",
    "GatedRecurrentLayer",
    "HistoryAverage",
    "LayerConfig",
    "LayerState",
    "NextItemModel",
    "Pending",
    "RecBLR",
    "RecBLRConfig",
    "RecBLRLayer",
    "Repeats",
    "TimedState",
    "seen_items",
]
