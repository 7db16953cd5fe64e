"""Using a trained model: scores of histories, and recommendations.

Importing this package imports neither torch nor polars: the engine works without them.
"""

from typing import TYPE_CHECKING

from recblr.lazy import lazy_names

if TYPE_CHECKING:
    from recblr.serving.approximate import ApproximateIndex
    from recblr.serving.bulk import Lists, recommend_in_bulk
    from recblr.serving.recommendations import recommend, recommend_ids, recommend_many
    from recblr.serving.scorer import model_scorer
    from recblr.serving.service import Service
    from recblr.serving.stores.address import open_store
    from recblr.serving.stores.lmdb import LMDBStore
    from recblr.serving.stores.memory import MemoryStore
    from recblr.serving.stores.redis import RedisStore
    from recblr.serving.stores.store import StoreError

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ApproximateIndex": "recblr.serving.approximate",
        "LMDBStore": "recblr.serving.stores.lmdb",
        "Lists": "recblr.serving.bulk",
        "MemoryStore": "recblr.serving.stores.memory",
        "RedisStore": "recblr.serving.stores.redis",
        "Service": "recblr.serving.service",
        "StoreError": "recblr.serving.stores.store",
        "model_scorer": "recblr.serving.scorer",
        "open_store": "recblr.serving.stores.address",
        "recommend": "recblr.serving.recommendations",
        "recommend_in_bulk": "recblr.serving.bulk",
        "recommend_many": "recblr.serving.recommendations",
        "recommend_ids": "recblr.serving.recommendations",
    },
)

__all__ = [
    "ApproximateIndex",
    "LMDBStore",
    "Lists",
    "MemoryStore",
    "RedisStore",
    "Service",
    "StoreError",
    "model_scorer",
    "open_store",
    "recommend",
    "recommend_ids",
    "recommend_in_bulk",
    "recommend_many",
]
