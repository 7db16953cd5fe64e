"""Registers torch.ops.recblr.* once torch is imported, without importing torch itself.

If torch has been imported already, the operators are registered at once.  Otherwise a one-shot finder
waits on sys.meta_path.  It lets the other finders find torch, and registers the operators right after
torch's own module has run.  A process that never imports torch pays nothing.
"""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
import threading
import warnings
from collections.abc import Sequence
from types import ModuleType


def _register() -> None:
    try:
        importlib.import_module("recblr.ops")
    except importlib._bootstrap._DeadlockError:  # type: ignore[attr-defined]
        pass  # another thread imports recblr.ops and waits for torch: it registers them once we return
    except Exception as error:
        # `import torch` must not fail because of recblr.  The first use of recblr's names raises the error.
        warnings.warn(f"torch.ops.recblr.* could not be registered: {error}", stacklevel=2)


class _Loader(importlib.abc.Loader):
    """Runs torch's own loader, then registers the operators."""

    def __init__(self, inner: importlib.abc.Loader) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> object:
        return getattr(self._inner, name)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:
            module.__spec__.loader = self._inner  # torch must see the same loader as without recblr
        module.__loader__ = self._inner
        self._inner.exec_module(module)  # if this raises, the finder stays for the next import
        _FINDER.remove()
        _register()


class _Finder(importlib.abc.MetaPathFinder):
    """Wraps the loader that the other finders return for the top-level module torch."""

    def __init__(self) -> None:
        self._searching = threading.local()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != "torch" or getattr(self._searching, "now", False):
            return None
        self._searching.now = True
        try:
            spec = importlib.util.find_spec("torch")
        finally:
            self._searching.now = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec

    def remove(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)


_FINDER = _Finder()


def register_operators_with_torch() -> None:
    """Register the operators now if torch has been imported, else as soon as it is imported."""
    if sys.modules.get("torch") is not None:  # None there forbids the import
        _register()
    elif _FINDER not in sys.meta_path:
        sys.meta_path.insert(0, _FINDER)
