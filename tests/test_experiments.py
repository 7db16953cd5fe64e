"""The recipes: their options exist, their figures are those of a report, and they fit their data."""

import os
from pathlib import Path

import pytest

from recblr.config import OPTIONS, TrainingConfig
from recblr.data import read_dataset
from recblr.errors import InputError
from recblr.experiments import RECIPES, recipe

of_every_recipe = pytest.mark.parametrize("name", RECIPES)


@of_every_recipe
def test_the_options_exist_and_differ_from_the_defaults(name: str) -> None:
    options = recipe(name).options
    for key, value in options.items():
        assert value != OPTIONS[key].default, key
    assert TrainingConfig.from_options(dict(options)).as_options().items() >= options.items()


@of_every_recipe
def test_the_papers_figures_are_shares_that_grow_with_k(name: str) -> None:
    figures = recipe(name).figures
    assert list(figures) == [f"{metric}@{k}" for k in (10, 20) for metric in ("hr", "ndcg", "mrr")]
    for metric in ("hr", "ndcg", "mrr"):
        assert 0 < figures[f"{metric}@10"] < figures[f"{metric}@20"] < 1


def test_the_error_for_another_dataset_names_both_counts() -> None:
    films = recipe("ml-1m")
    films.check_counts(6040, 3416, 999_611, source="films", filters="--k-core 5")
    for counts in ((6041, 3416, 999_611), (6040, 3706, 999_611), (6040, 3416, 1_000_209)):
        with pytest.raises(InputError, match=f"{counts[0]:,} users.* the paper's MovieLens-1M has 6,040, "):
            films.check_counts(*counts, source="films", filters="--k-core 0")


def test_the_published_files_have_the_counts_of_the_paper() -> None:
    folder = os.environ.get("RECBLR_TEST_DATA")
    if not folder:
        pytest.skip("RECBLR_TEST_DATA names no folder with published data")
    found = 0
    for name, one in RECIPES.items():
        for file in one.files:
            path = Path(folder) / name / file
            if path.exists():
                data = read_dataset(path)
                counts = data.num_users, data.num_items, data.num_interactions
                one.check_counts(*counts, source=str(path), filters="--k-core 5")
                found += 1
    if not found:
        pytest.skip(f"{folder} has none of the paper's datasets")
