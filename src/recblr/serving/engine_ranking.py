"""Ranks of held-out items from the engine's own lists, so that serving is measured as it serves."""

from collections.abc import Callable, Sequence

import numpy as np

from recblr.data.splits import Holdout
from recblr.evaluation.ranking import KS, Ranks
from recblr.serving.bulk import guests
from recblr.serving.engine import Engine

_USERS = 256  # at a time


def rank_with_engine(
    engine: Engine, holdout: Holdout, *, progress: Callable[[int], object] | None = None
) -> Ranks:
    """The ranks of :func:`recblr.evaluation.rank_targets`, by the engine.

    Every history becomes a user of the engine, who is forgotten afterwards.  The rank is the place of the
    target in the list of the best 51, or of all items if there are fewer.  A target that is not in the list
    gets the rank after its end.  So ranks up to 50 are right, and no metric counts a later one.

    engine: with the items of the holdout, in their order.
    progress: called with the number of users that are done.
    """
    names, count, times = engine.item_ids, len(holdout.targets), holdout.histories.request_times
    most = min(max(KS) + 1, engine.num_items)  # one more, to see whether the last that counts is tied with it
    unmasked, masked = (np.full(count, most + 1, np.int64) for _ in range(2))
    for start in range(0, count, _USERS):
        part = slice(start, min(start + _USERS, count))
        targets = [names[item] for item in holdout.targets[part]]
        asked = None if times is None else times[part]
        with guests(engine, holdout.histories, part, names) as users:
            for ranks, mask_seen in ((unmasked, False), (masked, True)):
                lists = engine.recommend_many(users, most, times=asked, mask_seen=mask_seen)
                ranks[part] = [_place(*both, most) for both in zip(targets, lists, strict=True)]
            # The target is a candidate also where the user has it already.
            for number, (name, target) in enumerate(zip(users, targets, strict=True), start):
                seen = engine.seen(name)
                if target in seen:
                    others = [item for item in seen if item != target]
                    time = None if times is None else float(times[number])
                    best = engine.recommend(name, most, time=time, exclude=others, mask_seen=False)
                    masked[number] = _place(target, best, most)
        if progress is not None:
            progress(part.stop)
    return Ranks(unmasked, masked)


def _place(target: str, best: Sequence[tuple[str, float]], most: int) -> int:
    """The rank of the target in a list.  Items with the same score are ahead of it, as in `rank_targets`."""
    score = next((score for item, score in best if item == target), None)
    return most + 1 if score is None else sum(other >= score for _, other in best)
