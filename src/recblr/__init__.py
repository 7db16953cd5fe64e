"""Sequential recommendation with behavior-dependent linear recurrent units (RecBLR, arXiv 2406.12580).

Importing this package does not import torch.  ``torch.ops.recblr.*`` exists once both packages have been
imported, in either order.  Names that need torch import it on first use.
"""

import importlib
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from recblr._torch_hook import register_operators_with_torch
from recblr.errors import InputError
from recblr.lazy import lazy_names

if TYPE_CHECKING:
    from recblr.data.dataset import Dataset
    from recblr.integrations.released import load_released
    from recblr.nn import BDLRU, CausalConv1d, GatedRecurrentLayer, RecBLR, RecBLRLayer
    from recblr.ops.bdlru import bdlru
    from recblr.ops.causal_conv1d import causal_conv1d
    from recblr.ops.common.checks import check_offsets
    from recblr.ops.scan import scan, scan_with_final
    from recblr.recommender import Recommender
    from recblr.serving.engine import Engine
    from recblr.system.build import build_info


def _version() -> str:
    """The version of the source tree, if there is one; else of the installed package; else of the build."""
    with suppress(OSError, ValueError, LookupError, TypeError):
        text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
        import tomllib  # imported only where there is a file to parse, since the import is slow

        project = tomllib.loads(text)["project"]
        if project["name"] == "recblr":
            return str(project["version"])
    with suppress(PackageNotFoundError):
        return version("recblr")
    with suppress(ImportError):
        return str(importlib.import_module("recblr._core").build_info()["version"])
    return "0+unknown"


__version__ = _version()

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "BDLRU": "recblr.nn",
        "CausalConv1d": "recblr.nn",
        "Dataset": "recblr.data.dataset",
        "Engine": "recblr.serving.engine",
        "GatedRecurrentLayer": "recblr.nn",
        "RecBLR": "recblr.nn",
        "RecBLRLayer": "recblr.nn",
        "Recommender": "recblr.recommender",
        "bdlru": "recblr.ops",
        "build_info": "recblr.system.build",
        "causal_conv1d": "recblr.ops",
        "check_offsets": "recblr.ops",
        "load_released": "recblr.integrations.released",
        "scan": "recblr.ops",
        "scan_with_final": "recblr.ops",
    },
)

__all__ = [
    "BDLRU",
    "CausalConv1d",
    "Dataset",
    "Engine",
    "GatedRecurrentLayer",
    "InputError",
    "RecBLR",
    "RecBLRLayer",
    "Recommender",
    "__version__",
    "bdlru",
    "build_info",
    "causal_conv1d",
    "check_offsets",
    "load_released",
    "scan",
    "scan_with_final",
]


register_operators_with_torch()
