"""The paper's experiments as recipes, and the report that `recblr reproduce` makes from their runs.

A recipe holds a dataset, the settings of the paper that are not the defaults, and the paper's figures.  The
paper's figures are written nowhere else.
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

    title: the name of the dataset in words.
    users, items, interactions: the counts in the paper, without users and items of fewer than 5 interactions.
    files: names that the file of the dataset may have in a folder.  The first one that exists is read.
    figures: {metric: value} of RecBLR in the paper.  The last item of each user is ranked among all items.
    options: {key: value} of the training options that are not the defaults.
    """

    title: str
    users: int
    items: int
    interactions: int
    files: tuple[str, ...]
    figures: Mapping[str, float]
    options: Mapping[str, Any] = field(default_factory=dict)

    def check_counts(self, users: int, items: int, interactions: int, *, source: str, filters: str) -> None:
        """Raise InputError, with the counts of both, if the data are not those of the paper.

        filters: the options that dropped rare users and items, such as "--k-core 5".
        """
        if (users, items, interactions) != (self.users, self.items, self.interactions):
            raise InputError(
                f"{source} holds {users:,} users, {items:,} items and {interactions:,} interactions after "
                f"{filters}, but the paper's {self.title} has {self.users:,}, {self.items:,} and "
                f"{self.interactions:,} after --k-core 5",
                "give that dataset with --data",
            )

    def file_in(self, folder: Path) -> Path:
        """The file of the dataset in a folder.  Raises InputError if the folder does not have it."""
        for file in self.files:
            if (folder / file).exists():
                return folder / file
        raise InputError(
            f"the folder {folder} has none of {', '.join(self.files)}",
            f"give {self.title}'s file with --data",
        )

    def paper(self) -> dict[str, Any]:
        """The paper's figures in the form of a report, without seeds: the paper gives none."""
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
        options={"epochs": 24, "time": "none"},
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
        options={"epochs": 16, "time": "none"},
    ),
}


def recipe(name: str) -> Recipe:
    """The recipe with this name.  Raises InputError if there is none."""
    if name not in RECIPES:
        raise InputError(f"there is no recipe {name!r} to reproduce", f"choose one of {', '.join(RECIPES)}")
    return RECIPES[name]


def finished_report(run: Run, epochs: int) -> Report | None:
    """The report of a run.  None if it is missing, damaged or about another number of epochs."""
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
    """One report of all seeds, with the paper's figures and the options that differ from the recipe `name`.

    config, reading: the options of the runs.
    events: the number of training events.
    command: the command that makes all of the runs.
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
    """{key: {"recipe": …, "here": …}} of the options, except the seed, that differ and affect the figures.

    events: the number of training events, on which some defaults depend.
    """
    here = config.as_options() | reading.as_options()
    of_recipe = (
        TrainingConfig.from_options(dict(chosen.options)).settled(events).as_options()
        | DataConfig.from_options(dict(chosen.options)).as_options()
    )
    for key in here.keys() - of_recipe.keys():  # options of another model
        of_recipe[key] = OPTIONS[key].default
    return {
        key: {"recipe": of_recipe[key], "here": value}
        for key, value in here.items()
        if OPTIONS[key].fixed and key != "seed" and value != of_recipe[key]
    }
