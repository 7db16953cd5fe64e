"""The folder of a training run: training writes it, and serving and evaluation read it.

Importing this package imports neither torch nor polars: the engine reads model files without them.
"""

from typing import TYPE_CHECKING

from recblr.lazy import lazy_names

if TYPE_CHECKING:
    from recblr.run.folder import Run, split_for
    from recblr.run.log import EpochRecord
    from recblr.run.model_content import (
        ModelContent,
        ServableModel,
        read_for_serving,
        read_model_file,
        write_model_file,
    )
    from recblr.run.model_file import SavedModel, load_model, save_model
    from recblr.run.model_items import with_items, without_items

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "EpochRecord": "recblr.run.log",
        "ModelContent": "recblr.run.model_content",
        "Run": "recblr.run.folder",
        "SavedModel": "recblr.run.model_file",
        "ServableModel": "recblr.run.model_content",
        "load_model": "recblr.run.model_file",
        "read_for_serving": "recblr.run.model_content",
        "read_model_file": "recblr.run.model_content",
        "save_model": "recblr.run.model_file",
        "split_for": "recblr.run.folder",
        "with_items": "recblr.run.model_items",
        "without_items": "recblr.run.model_items",
        "write_model_file": "recblr.run.model_content",
    },
)

__all__ = [
    "EpochRecord",
    "ModelContent",
    "Run",
    "SavedModel",
    "ServableModel",
    "load_model",
    "read_for_serving",
    "read_model_file",
    "save_model",
    "split_for",
    "with_items",
    "without_items",
    "write_model_file",
]
