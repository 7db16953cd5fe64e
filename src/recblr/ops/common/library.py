"""The operators' schemas in torch's registry: each operator's own file defines its schemas, once a process.

The import of ``recblr.ops`` may fail where the native library is missing, and be tried again.  PyTorch
accepts a schema once, so schemas are defined in modules that stay imported.
"""

import torch

LIBRARY = torch.library.Library("recblr", "DEF")

SCHEMAS: list[str] = []
"""Every schema that has been defined."""


def define(*schemas: str) -> None:
    """Define schemas in the namespace recblr."""
    for schema in schemas:
        LIBRARY.define(schema)
        SCHEMAS.append(schema)
