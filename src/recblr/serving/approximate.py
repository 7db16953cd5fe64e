"""An approximate search for very large catalogues, in place of the engine's exact one.  It needs usearch."""

from collections.abc import Iterable, Iterator, Sized

import numpy as np

from recblr.errors import InputError, needed
from recblr.serving.engine import Engine, Id, Recommendation

_LARGEST = {"connectivity": 1024, "expansion_add": 2**20, "expansion_search": 2**20}


class ApproximateIndex:
    """Recommends from an HNSW graph over the item vectors of an engine.

    Source: Malkov and Yashunin, arXiv 1603.09320.

    The graph proposes items, and the engine ranks them.  So each score is exact, and each filter holds.  What
    an answer may lack are items that the graph did not propose: one of the best k can be missing, and a worse
    one is then in the list.  How many are missing depends on the vectors and on the three numbers below.
    Compare with :meth:`Engine.recommend` on your own model: its search is exact.

    The graph has the items that the engine had when the graph was made, without the retired ones.
      - Items that were added since then are scored at every request, so none of them is missed.  Make a new
        index after many of them.
      - Items that were retired since then are never recommended.

    All methods may be called from many threads at once.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        connectivity: int = 16,
        expansion_add: int = 128,
        expansion_search: int = 64,
    ) -> None:
        """Make the graph, on the threads of the engine.

        Args:
            engine: with the items.  The index keeps it, and a copy of its V item vectors.
            connectivity: edges of an item, from 2 to 1,024.  More find more, and take more memory.
            expansion_add: how many items are looked at to find the edges of an item, at least.
            expansion_search: how many items are looked at to answer a request, at least.

        Raises:
            InputError: a number is not whole or out of its range.
            ModuleNotFoundError: usearch is not installed.
        """
        numbers = {
            "connectivity": connectivity,
            "expansion_add": expansion_add,
            "expansion_search": expansion_search,
        }
        for name, value in numbers.items():
            least = 2 if name == "connectivity" else 1
            if type(value) is not int or not least <= value <= _LARGEST[name]:
                raise InputError(
                    f"{name} is {value!r}", f"give a whole number from {least} to {_LARGEST[name]:,}"
                )
        try:
            from usearch.index import Index
        except ModuleNotFoundError as error:
            raise needed("recblr.serving.ApproximateIndex", error) from None
        self._engine = engine
        self._ids, vectors, retired = engine.items()
        self._added: list[str] = []
        self._index = Index(
            ndim=vectors.shape[1],
            metric="ip",
            dtype="f32",
            connectivity=connectivity,
            expansion_add=expansion_add,
            expansion_search=expansion_search,
        )
        kept = np.delete(np.arange(len(vectors)), retired)
        self._index.add(kept.astype(np.uint64), vectors[kept], threads=engine.threads)

    def recommend(
        self,
        user: Id,
        k: int = 10,
        *,
        time: float | None = None,
        exclude: Iterable[Id] = (),
        allow: Iterable[Id] | None = None,
        mask_seen: bool = True,
    ) -> list[Recommendation]:
        """About the k best items for a user, best first, each with its exact score.

        Arguments, order, result and errors are those of :meth:`Engine.recommend`, which answers itself if
        `allow` is given, and if k and the items to leave out are half of the catalogue.  Its exact search is
        then cheap, or the only one that finds enough items.  So a list is never shorter than the exact one.
        """
        engine = self._engine
        exclude = list(exclude) if isinstance(exclude, Iterator) else exclude
        if allow is None and isinstance(k, int | np.integer):  # else the engine says what is wrong
            seen = engine.seen(user)
            vector = engine.vector(user, time=time)
            count = int(k) + len(seen) + (len(exclude) if isinstance(exclude, Sized) else 0)
            # The bias of repeats lifts seen items over what the graph would propose.
            always = self._new_items() + ([] if mask_seen else seen)
            while 0 < 2 * count < len(self._index):
                keys = self._index.search(vector, count, threads=1).keys
                proposed = [self._ids[key] for key in keys.tolist()] + always
                best = engine.recommend(
                    user, k, time=time, exclude=exclude, allow=proposed, mask_seen=mask_seen
                )
                if len(best) == k:
                    return best
                count *= 2
        return engine.recommend(user, k, time=time, exclude=exclude, allow=allow, mask_seen=mask_seen)

    def _new_items(self) -> list[str]:
        """The ids of the items that the engine has and the graph does not."""
        if self._engine.num_items != len(self._ids) + len(self._added):
            self._added = self._engine.item_ids[len(self._ids) :]
        return self._added
