"""The door for programs: `Recommender` trains on a frame, and recommends in the caller's frames and ids."""

from recblr.recommender.recommender import Recommender

__all__ = ["Recommender"]
