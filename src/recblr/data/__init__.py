"""Data: reads, filters, splits and batches histories, and makes a built-in dataset."""

from recblr.data.batches import Batch, PackedBatches, PrefixBatches, in_chunks, packed_batches, prefix_batches
from recblr.data.dataset import Dataset
from recblr.data.packed import Packed
from recblr.data.read.formats import FORMATS, read_dataset
from recblr.data.splits import SPLITS, Holdout, Split, leave_one_out, split_by_time, split_dataset
from recblr.data.synthetic import SyntheticParameters, generate, synthesize
from recblr.data.synthetic_scores import best_possible, last_item_only
from recblr.data.writers import write_inter

__all__ = [
    "FORMATS",
    "SPLITS",
    "Batch",
    "Dataset",
    "Holdout",
    "Packed",
    "PackedBatches",
    "PrefixBatches",
    "Split",
    "SyntheticParameters",
    "best_possible",
    "generate",
    "in_chunks",
    "last_item_only",
    "leave_one_out",
    "packed_batches",
    "prefix_batches",
    "read_dataset",
    "split_by_time",
    "split_dataset",
    "synthesize",
    "write_inter",
]
