"""Models to compare RecBLR with, under the same loss, batches and evaluation: SASRec and GRU4Rec."""

from recblr.nn.baselines.gru4rec import GRU4Rec
from recblr.nn.baselines.sasrec import SASRec, SASRecEncoder

__all__ = ["GRU4Rec", "SASRec", "SASRecEncoder"]
