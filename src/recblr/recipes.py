"""The paper's experiments as data: its datasets, its settings where they are not the defaults, its figures.

A recipe is all that `recblr reproduce` knows of a dataset, and the one place where the paper's figures stand.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from recblr.errors import InputError

SOURCE = "arXiv 2406.12580v2"


@dataclass(frozen=True)
class Recipe:
    """One dataset of the paper.

    title: the dataset's name in words.
    users, items, interactions: what the paper counts once users and items with fewer than 5 are dropped.
    files: what its file is called in a folder; the first that is there is read.
    figures: the paper's, of RecBLR, by metric: each user's last item, ranked among all items.
    options: {key: value} of what training does otherwise than by default.
    """

    title: str
    users: int
    items: int
    interactions: int
    files: tuple[str, ...]
    figures: Mapping[str, float]
    options: Mapping[str, Any] = field(default_factory=dict)

    def check_counts(self, users: int, items: int, interactions: int, *, source: str, k_core: int) -> None:
        """InputError, with both sides' counts, where the data are not the paper's."""
        if (users, items, interactions) != (self.users, self.items, self.interactions):
            raise InputError(
                f"{source} holds {users:,} users, {items:,} items and {interactions:,} interactions after "
                f"--k-core {k_core}, but the paper's {self.title} has {self.users:,}, {self.items:,} and "
                f"{self.interactions:,} after --k-core 5; give that dataset with --data"
            )

    def paper(self) -> dict[str, Any]:
        """The paper's figures as a root of a report, with its leaves; they come without seeds or a spread."""
        leaves = {metric: {"mean": value, "std": 0.0, "seeds": {}} for metric, value in self.figures.items()}
        return {"source": SOURCE, "test": {"unmasked": leaves}}


RECIPES: Mapping[str, Recipe] = {
    "ml-1m": Recipe(
        title="MovieLens-1M",
        users=6040,
        items=3416,
        interactions=999_611,
        files=("ml-1m.inter.gz", "ml-1m.inter", "ratings.dat"),
        figures={
            "hr@10": 0.3285,
            "ndcg@10": 0.1901,
            "mrr@10": 0.1478,
            "hr@20": 0.4336,
            "ndcg@20": 0.2161,
            "mrr@20": 0.1547,
        },
        options={"epochs": 24},
    ),
    "beauty": Recipe(
        title="Amazon Beauty",
        users=22_363,
        items=12_101,
        interactions=198_502,
        files=("Beauty.txt", "Beauty.txt.gz"),
        figures={
            "hr@10": 0.0881,
            "ndcg@10": 0.0446,
            "mrr@10": 0.0313,
            "hr@20": 0.1243,
            "ndcg@20": 0.0538,
            "mrr@20": 0.0338,
        },
        options={"epochs": 16},
    ),
}


def recipe(name: str) -> Recipe:
    """The recipe of that name; InputError where there is none."""
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r} to reproduce: choose one of {', '.join(RECIPES)}")
    return RECIPES[name]
