"""torch.ops.recblr.*: importing this package registers every operator.

Python defines each schema; kernels come from the native library where it loads and from the
PyTorch reference everywhere else.
"""

from recblr.ops import autograd, composed, fakes, native, reference, schemas, vmap
from recblr.ops.functional import bdlru, causal_conv1d, scan

# Order matters only in that schemas come before whatever is registered for them.
schemas.define()
reference.register()
composed.register()
fakes.register()
autograd.register()
vmap.register()
native.load()

__all__ = ["bdlru", "causal_conv1d", "scan"]
