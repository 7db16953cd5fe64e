"""HR, NDCG and MRR from ranks: the only place where a rank becomes a figure.

There is one relevant item per user, which makes each metric a function of its rank alone.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from recblr.errors import InputError

KS = (1, 5, 10, 20, 50)


def metrics_from_ranks(ranks: npt.NDArray[np.int64], ks: Sequence[int] = KS) -> dict[str, float]:
    """Mean HR@k, NDCG@k and MRR@k over users.

    `ranks` is (S,), integer, 1-based: the rank of each user's one relevant item. The result has the
    keys "hr@k", "ndcg@k", "mrr@k" for each k in turn. A rank beyond k counts 0; inside, HR counts 1,
    NDCG 1 / log2(rank + 1) and MRR 1 / rank.

    Raises InputError if there are no ranks, and ValueError for ranks that are not one axis of
    integers from 1, or a k below 1.
    """
    ranks = np.asarray(ranks)
    if ranks.ndim != 1:
        raise ValueError(f"ranks must have one axis, a rank per user, but has shape {ranks.shape}")
    if ranks.size == 0:
        raise InputError(
            "there are no ranks to average: the evaluated part has no users", "evaluate at least one"
        )
    if not np.issubdtype(ranks.dtype, np.integer):
        raise ValueError(f"ranks must be integers, but has dtype {ranks.dtype}")
    if ranks.min() < 1:
        raise ValueError(f"ranks must be 1-based, but the smallest is {int(ranks.min())}")
    if any(k < 1 for k in ks):
        raise ValueError(f"every k must be at least 1, but ks is {tuple(ks)}")

    gain = 1.0 / np.log2(ranks + 1.0)
    reciprocal = 1.0 / ranks
    metrics: dict[str, float] = {}
    for k in ks:
        hit = ranks <= k
        metrics[f"hr@{k}"] = float(hit.mean())
        metrics[f"ndcg@{k}"] = float(np.where(hit, gain, 0.0).mean())
        metrics[f"mrr@{k}"] = float(np.where(hit, reciprocal, 0.0).mean())
    return metrics
