"""Ranks of held-out items from the engine's own lists, so that serving is measured as it serves."""

from collections.abc import Callable, Sequence

import numpy as np

from recblr.data.packed import Packed
from recblr.data.splits import Holdout
from recblr.evaluation.ranking import KS, Ranks
from recblr.serving.engine import Engine

_USERS = 256  # at a time


def rank_with_engine(
    engine: Engine, holdout: Holdout, *, progress: Callable[[int], object] | None = None
) -> Ranks:
    """The ranks of :func:`recblr.evaluation.rank_targets`, by the engine.

    Every history becomes a user of the engine, who is forgotten afterwards.  The rank is the place of the
    target in the list of the best 50, or of all items if there are fewer.  A target that is not in the list
    gets the rank after its end, which no metric counts.

    engine: with the items of the holdout, in their order.  Keep no other users in it.
    progress: called with the number of users that are done.
    """
    names, count = engine.item_ids, len(holdout.targets)
    most = min(max(KS), engine.num_items)
    unmasked, masked = (np.full(count, most + 1, np.int64) for _ in range(2))
    for start in range(0, count, _USERS):
        part = np.arange(start, min(start + _USERS, count))
        histories, users = holdout.histories.select(part), [str(user) for user in part]
        targets = [names[item] for item in holdout.targets[part]]
        engine.rebuild(dict(zip(users, _arguments(histories, names), strict=True)))
        times = histories.request_times
        for ranks, mask_seen in ((unmasked, False), (masked, True)):
            lists = engine.recommend_many(users, most, times=times, mask_seen=mask_seen)
            ranks[part] = [_place(*both, most) for both in zip(targets, lists, strict=True)]
        # The target is a candidate also where the user has it already.
        for number, name, target in zip(part, users, targets, strict=True):
            seen = engine.seen(name)
            if target in seen:
                others = [item for item in seen if item != target]
                time = None if times is None else float(times[number - start])
                best = engine.recommend(name, most, time=time, exclude=others, mask_seen=False)
                masked[number] = _place(target, best, most)
        for name in users:
            engine.forget(name)
        if progress is not None:
            progress(int(part[-1]) + 1)
    return Ranks(unmasked, masked)


def _arguments(histories: Packed, names: Sequence[str]) -> list[object]:
    """What `Engine.rebuild` takes for each history."""
    cuts = histories.offsets[1:-1]
    items = [[names[item] for item in part] for part in np.split(histories.items, cuts)]
    if histories.times is None:
        return list(items)
    return list(zip(items, np.split(histories.times, cuts), strict=True))


def _place(target: str, best: Sequence[tuple[str, float]], most: int) -> int:
    """The rank of the target in a list.  Items with the same score are ahead of it, as in `rank_targets`."""
    score = next((score for item, score in best if item == target), None)
    return most + 1 if score is None else sum(other >= score for _, other in best)
