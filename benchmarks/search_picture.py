"""Draw a search: the best validation NDCG@10 of each trial, against each option that was searched."""

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

BLUE, GREY, RED = "#4477aa", "#bbbbbb", "#cc6677"


def draw(found, path):
    """Draw the contents of search.json as PNG: a panel for each option, a point for each trial.

    Each point shows the trial's best epoch.  Hollow points are trials that ended early.  The dashed line is
    the value of the first trial, which has the defaults.  A red circle marks the best trial.
    """
    trials = [trial for trial in found["trials"] if trial["valid"]]
    keys = list(dict.fromkeys(key for trial in trials for key in trial["options"]))
    figure = Figure(figsize=(2.6 * len(keys) + 0.6, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0]
    values = [trial["valid"]["unmasked"]["ndcg@10"] for trial in trials]
    best = max(range(len(values)), key=values.__getitem__)
    for key, axes in zip(keys, panels, strict=True):
        places = [trial["options"][key] for trial in trials]
        if len({*places}) < 5:  # few values: space them evenly
            choices = sorted({*places})
            axes.set_xticks(range(len(choices)), [f"{choice:g}" for choice in choices])
            axes.margins(x=0.3)
            places = [choices.index(place) for place in places]
        elif key == "learning-rate":
            axes.set_xscale("log")
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        for place, value, trial in zip(places, values, trials, strict=True):
            edge, inside = (BLUE, BLUE) if trial["state"] == "COMPLETE" else (GREY, "none")
            axes.scatter(place, value, s=22, edgecolor=edge, color=inside)
        axes.scatter(places[best], values[best], s=90, edgecolor=RED, color="none", linewidth=1.5)
        axes.axhline(values[0], color=GREY, linestyle="--", linewidth=1, zorder=0)
        axes.set_xlabel(key)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("validation NDCG@10")
    figure.suptitle(f"{found['dataset']}: {len(trials)} trials of up to {found['epochs']} epochs")
    figure.savefig(path, format="png", dpi=120)
