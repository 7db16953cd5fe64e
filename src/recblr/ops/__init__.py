"""The operators torch.ops.recblr.*.  The import of this package registers them all.

Each operator has one file with its schemas, checks, PyTorch reference, derivatives and public function.  The
native library has the kernels.  If it cannot be loaded, or has no kernel for a device, the PyTorch reference
is used.
"""

from recblr.ops import cross_entropy, dropout  # noqa: F401
from recblr.ops.bdlru import bdlru
from recblr.ops.causal_conv1d import causal_conv1d
from recblr.ops.common import native
from recblr.ops.common.checks import check_offsets
from recblr.ops.scan import scan, scan_with_final

native.load()
native.use_one_thread_after_fork()

__all__ = ["bdlru", "causal_conv1d", "check_offsets", "scan", "scan_with_final"]
