"""torch.ops.recblr.*: importing this package registers every operator.

Each operator has a file: its schemas, checks, kernels' stand-in in PyTorch, derivatives and public function.
Kernels come from the native library where it loads and from the PyTorch reference everywhere else.
"""

from recblr.ops import cross_entropy, dropout  # noqa: F401
from recblr.ops.bdlru import bdlru
from recblr.ops.causal_conv1d import causal_conv1d
from recblr.ops.common import native
from recblr.ops.common.checks import check_offsets
from recblr.ops.scan import scan, scan_with_final

native.load()

__all__ = ["bdlru", "causal_conv1d", "check_offsets", "scan", "scan_with_final"]
