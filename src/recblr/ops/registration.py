"""Registers everything that Python has for the operators, once a process, as this module is imported.

Apart from ``recblr.ops`` itself, whose import may fail for want of the native library and be tried
again: PyTorch accepts a schema once.
"""

from recblr.ops import autocast, autograd, fakes, fused, reference, schemas, training, vmap

# Order matters only in that schemas come before whatever is registered for them.
schemas.define()
reference.register()
fused.register()
training.register()
fakes.register()
autograd.register()
autocast.register()
vmap.register()
