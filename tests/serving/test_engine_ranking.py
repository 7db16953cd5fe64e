"""Ranks from the lists of the engine."""

from __future__ import annotations

import numpy as np
from serving.engines import IDS, fresh

from recblr.data import Holdout, Packed
from recblr.serving.engine_ranking import rank_with_engine

NEW = [f"new {number}" for number in range(60)]


def test_items_with_the_same_score_are_ahead_of_the_target_also_beyond_place_50() -> None:
    engine = fresh("plain")
    engine.rebuild({"somebody": IDS[:3]})
    best = 100 * engine.vector("somebody")
    history = Packed(np.arange(3), np.array([0, 3]))
    for tied, rank in ((50, 50), (51, 51), (60, 51)):
        new = NEW[engine.num_items - len(IDS) : tied]
        engine.add_items(new, vectors=[best] * len(new))
        ranks = rank_with_engine(engine, Holdout(history, np.array([len(IDS)])))
        assert (ranks.unmasked.tolist(), ranks.masked.tolist()) == ([rank], [rank])
        assert ranks.metrics()["unmasked"]["hr@50"] == (tied == 50)
