"""The door to the built-in data: make it, write it, and say what the best possible predictor scores."""

from __future__ import annotations

from recblr.data.dataset import Dataset
from recblr.data.optimum import best_possible, last_item_only
from recblr.data.process import SyntheticParameters, generate
from recblr.data.writers import write_inter

__all__ = [
    "SyntheticParameters",
    "best_possible",
    "generate",
    "last_item_only",
    "synthesize",
    "write_inter",
]


def synthesize(
    *,
    users: int = 2000,
    series: int = 20,
    series_length: int = 50,
    noise_items: int = 100,
    threads: int = 3,
    noise: float = 0.1,
    min_events: int = 20,
    max_events: int = 40,
    seed: int = 0,
) -> Dataset:
    """The dataset of SyntheticParameters with these values; InputError where they do not fit together."""
    return generate(
        SyntheticParameters(
            users=users,
            series=series,
            series_length=series_length,
            noise_items=noise_items,
            threads=threads,
            noise=noise,
            min_events=min_events,
            max_events=max_events,
            seed=seed,
        )
    )
