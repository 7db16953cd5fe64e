"""Using a trained model: scores of histories, and recommendations."""

from recblr.serving.recommend import recommend, recommend_ids
from recblr.serving.scorer import model_scorer

__all__ = ["model_scorer", "recommend", "recommend_ids"]
