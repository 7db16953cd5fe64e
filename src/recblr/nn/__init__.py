"""Layers and the model: BDLRU, CausalConv1d, HistoryAverage, GatedRecurrentLayer, RecBLRLayer, RecBLR."""

from recblr.config.model import RecBLRConfig
from recblr.nn.base import NextItemModel
from recblr.nn.bdlru import BDLRU
from recblr.nn.conv import CausalConv1d
from recblr.nn.history_average import HistoryAverage
from recblr.nn.layer import GatedRecurrentLayer, LayerState, RecBLRLayer
from recblr.nn.model import RecBLR
from recblr.nn.repeats import Repeats, seen_items

__all__ = [
    "BDLRU",
    "CausalConv1d",
    "GatedRecurrentLayer",
    "HistoryAverage",
    "LayerState",
    "NextItemModel",
    "RecBLR",
    "RecBLRConfig",
    "RecBLRLayer",
    "Repeats",
    "seen_items",
]
