"""The folder of a training run: training writes it, and serving and evaluation read it.

Importing this package imports neither torch nor polars: the engine reads model files without them.
"""

from typing import TYPE_CHECKING

from recblr.lazy import lazy_names

if TYPE_CHECKING:
    from recblr.run.folder import Run, split_for
    from recblr.run.log import EpochRecord
    from recblr.run.model_file import SavedModel, load_model, save_model

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "EpochRecord": "recblr.run.log",
        "Run": "recblr.run.folder",
        "SavedModel": "recblr.run.model_file",
        "load_model": "recblr.run.model_file",
        "save_model": "recblr.run.model_file",
        "split_for": "recblr.run.folder",
    },
)

__all__ = ["EpochRecord", "Run", "SavedModel", "load_model", "save_model", "split_for"]
