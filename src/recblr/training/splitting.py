"""The split that a run's options ask for, the same in training and in evaluation."""

from recblr.config import TrainingConfig
from recblr.data import Dataset, Split, split_dataset


def split_for(dataset: Dataset, config: TrainingConfig) -> Split:
    """What trains, validates and tests; InputError where the data cannot be split so."""
    return split_dataset(dataset, config.split, valid_share=config.valid_share, test_share=config.test_share)
