"""Whole-catalogue evaluation: ranks, metrics, baselines and the report that holds them."""

from recblr.evaluation.baselines import popular, successor
from recblr.evaluation.comparison_table import print_comparison
from recblr.evaluation.metrics import KS, metrics_from_ranks
from recblr.evaluation.ranking import Ranks, Scorer, rank_targets
from recblr.evaluation.report import (
    build_report,
    print_report,
    read_report,
    render_report,
    summarise,
    write_report,
)
from recblr.evaluation.report_picture import draw_report
from recblr.evaluation.seeds import combine

__all__ = [
    "KS",
    "Ranks",
    "Scorer",
    "build_report",
    "combine",
    "draw_report",
    "metrics_from_ranks",
    "popular",
    "print_comparison",
    "print_report",
    "rank_targets",
    "read_report",
    "render_report",
    "successor",
    "summarise",
    "write_report",
]
