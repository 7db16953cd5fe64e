"""The paper's experiments: recipes, and what `recblr reproduce` makes of their runs.

A recipe is a dataset, the paper's settings where they are not the defaults, and its figures. It is all that
`recblr reproduce` knows of a dataset, and the one place where the paper's figures stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recblr.config import OPTIONS, DataConfig, TrainingConfig
from recblr.errors import InputError

if TYPE_CHECKING:  # the command's help needs no torch
    from recblr.data import Dataset
    from recblr.evaluation.report_file import Report
    from recblr.run import Run

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
                f"{self.interactions:,} after --k-core 5",
                "give that dataset with --data",
            )

    def file_in(self, folder: Path) -> Path:
        """The dataset's file in a folder; InputError where it has none."""
        for file in self.files:
            if (folder / file).exists():
                return folder / file
        raise InputError(
            f"the folder {folder} has none of {', '.join(self.files)}",
            f"give {self.title}'s file with --data",
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


def finished_report(run: Run, epochs: int) -> Report | None:
    """The report that a run has; None where it is missing, damaged or of another number of epochs."""
    from recblr.evaluation import read_report

    report: Report = {}
    with suppress(InputError):
        report = read_report(run.report_file)
    return report if report.get("training", {}).get("epochs_done") == epochs else None


def combined_report(
    name: str,
    reports: Mapping[int, Report],
    dataset: Dataset,
    config: TrainingConfig,
    reading: DataConfig,
    *,
    events: int,
    command: str,
) -> Report:
    """One report of all seeds of the recipe `name`, beside the paper's figures and with what differs from it.

    config, reading: what the runs were asked to do. events: how many train. command: what makes all of them.
    """
    from recblr.evaluation import combine

    chosen = recipe(name)
    report = combine(reports, dataset, command=command)
    report["paper"] = chosen.paper()
    report["recipe"] = {"name": name, "differs": differing_options(chosen, config, reading, events)}
    return report


def differing_options(
    chosen: Recipe, config: TrainingConfig, reading: DataConfig, events: int
) -> Mapping[str, dict[str, Any]]:
    """{key: {"recipe": …, "here": …}} of the options that could change the figures; seeds are told apart.

    events: how many train, by which the recipe settles what it leaves to the data.
    """
    here = config.as_options() | reading.as_options()
    of_recipe = (
        TrainingConfig.from_options(dict(chosen.options)).settled(events).as_options()
        | DataConfig.from_options(dict(chosen.options)).as_options()
    )
    for key in here.keys() - of_recipe.keys():  # another model's own
        of_recipe[key] = OPTIONS[key].default
    return {
        key: {"recipe": of_recipe[key], "here": value}
        for key, value in here.items()
        if OPTIONS[key].fixed and key != "seed" and value != of_recipe[key]
    }
