"""Evaluation over the whole catalogue: ranks, metrics, simple models, and the report of all figures."""

from recblr.evaluation.bootstrap import Difference, mean_interval, paired_bootstrap
from recblr.evaluation.picture import draw_report
from recblr.evaluation.ranking import KS, Ranks, Scorer, metrics_from_ranks, rank_targets, users_metric
from recblr.evaluation.report import build_report, combine, summarise
from recblr.evaluation.report_file import read_report, write_report
from recblr.evaluation.report_table import print_comparison, print_report, render_report
from recblr.evaluation.simple_models import popular, successor

__all__ = [
    "KS",
    "Difference",
    "Ranks",
    "Scorer",
    "build_report",
    "combine",
    "draw_report",
    "mean_interval",
    "metrics_from_ranks",
    "paired_bootstrap",
    "popular",
    "print_comparison",
    "print_report",
    "rank_targets",
    "read_report",
    "render_report",
    "successor",
    "summarise",
    "users_metric",
    "write_report",
]
