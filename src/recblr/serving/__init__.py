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

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "ApproximateIndex": "recblr.serving.approximate",
        "Lists": "recblr.serving.bulk",
        "model_scorer": "recblr.serving.scorer",
        "recommend": "recblr.serving.recommendations",
        "recommend_in_bulk": "recblr.serving.bulk",
        "recommend_many": "recblr.serving.recommendations",
        "recommend_ids": "recblr.serving.recommendations",
    },
)

__all__ = [
    "ApproximateIndex",
    "Lists",
    "model_scorer",
    "recommend",
    "recommend_ids",
    "recommend_in_bulk",
    "recommend_many",
]
