"""Sequential recommendation with behavior-dependent linear recurrent units (RecBLR, arXiv 2406.12580).

Importing this package does not import torch.  ``torch.ops.recblr.*`` is there as soon as both have
been imported, in either order; names that need torch import it on first use.
"""

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from recblr._torch_hook import register_operators_with_torch
from recblr.errors import InputError, needed

if TYPE_CHECKING:
    from recblr.data.dataset import Dataset
    from recblr.integrations.released import load_released
    from recblr.nn import BDLRU, CausalConv1d, GatedRecurrentLayer, RecBLR, RecBLRLayer
    from recblr.ops.bdlru import bdlru
    from recblr.ops.causal_conv1d import causal_conv1d
    from recblr.ops.common.checks import check_offsets
    from recblr.ops.scan import scan, scan_with_final
    from recblr.system.build import build_info

try:
    __version__ = version("recblr")
except PackageNotFoundError:  # used from a source tree that was never installed
    __version__ = "0+unknown"

_LAZY = {
    "BDLRU": "recblr.nn",
    "CausalConv1d": "recblr.nn",
    "Dataset": "recblr.data.dataset",
    "GatedRecurrentLayer": "recblr.nn",
    "RecBLR": "recblr.nn",
    "RecBLRLayer": "recblr.nn",
    "bdlru": "recblr.ops",
    "build_info": "recblr.system.build",
    "causal_conv1d": "recblr.ops",
    "check_offsets": "recblr.ops",
    "load_released": "recblr.integrations.released",
    "scan": "recblr.ops",
    "scan_with_final": "recblr.ops",
}

__all__ = [
    "BDLRU",
    "CausalConv1d",
    "Dataset",
    "GatedRecurrentLayer",
    "InputError",
    "RecBLR",
    "RecBLRLayer",
    "__version__",
    "bdlru",
    "build_info",
    "causal_conv1d",
    "check_offsets",
    "load_released",
    "scan",
    "scan_with_final",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'recblr' has no attribute '{name}'")
    try:
        if _LAZY[name] == "recblr.ops":
            # First, as the hook does: two threads that import both then never wait for each other.
            importlib.import_module("torch")
        value = getattr(importlib.import_module(_LAZY[name]), name)
    except ModuleNotFoundError as error:
        raise needed(f"recblr.{name}", error) from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


register_operators_with_torch()
