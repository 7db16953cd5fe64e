"""`Recommender`, the class for programs: it trains on a frame, and recommends in the caller's frames and ids.

- `recommender` is the class with its methods.  They have few lines, and call the files below.
- `options` reads the options of `fit`, and `reading` reads its data, also those of `fit_more`.
- `requests` reads the arguments of all other calls: users, items, filters, times.
- `answers` has what the model answers, by the engine or by PyTorch.
- `frames` turns ids and times of the caller into texts and seconds, and back into the caller's types.
- `saved` writes and reads a recommender as a folder.
- `notebook` shows the progress and the report.
"""

from recblr.recommender.recommender import Recommender

__all__ = ["Recommender"]
