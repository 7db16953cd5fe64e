"""Names of a package that are imported on first use, so that importing the package imports nothing heavy."""

import importlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

from recblr.errors import needed


def lazy_names(
    package: str, modules: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The functions `__getattr__` and `__dir__` of a package.

    modules: the name of the module of each name.  A name must not be that of a module of the package: the
        import system would put the module in its place.
    """

    def get(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module '{package}' has no attribute '{name}'")
        try:
            if modules[name] == "recblr.ops":
                # torch comes first, as in the hook: two threads that import both never wait for each other.
                importlib.import_module("torch")
            value = getattr(importlib.import_module(modules[name]), name)
        except ModuleNotFoundError as error:
            raise needed(f"{package}.{name}", error) from None
        setattr(sys.modules[package], name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules})

    return get, names
