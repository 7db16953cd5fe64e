"""torch.ops.recblr.*: importing this package registers every operator.

Python defines each schema; kernels come from the native library where it loads and from the
PyTorch reference everywhere else.
"""

from recblr.ops import native, registration  # noqa: F401
from recblr.ops.functional import bdlru, causal_conv1d, check_offsets, scan, scan_with_final

native.load()

__all__ = ["bdlru", "causal_conv1d", "check_offsets", "scan", "scan_with_final"]
