"""Every public name has a docstring, and the docstring of a function names its tensors."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

MODULES = (
    "recblr",
    "recblr.config",
    "recblr.data",
    "recblr.evaluation",
    "recblr.integrations.released",
    "recblr.nn",
    "recblr.nn.losses",
    "recblr.training",
)


def names() -> Iterator[tuple[str, Any]]:
    """Every public function, class and method of a public class, with its dotted name."""
    for module in map(importlib.import_module, MODULES):
        public = getattr(module, "__all__", ["load_released"])
        for name in public:
            value = getattr(module, name)
            if inspect.isfunction(value) or inspect.isclass(value):
                yield f"{module.__name__}.{name}", value
            if inspect.isclass(value):
                for method, found in vars(value).items():
                    function = getattr(found, "__func__", found)
                    if inspect.isfunction(function) and not method.startswith("_") and method != "extra_repr":
                        yield f"{module.__name__}.{name}.{method}", function


@pytest.mark.parametrize(("name", "value"), [*names()], ids=lambda x: x if isinstance(x, str) else "")
def test_a_public_name_has_a_docstring(name: str, value: Any) -> None:
    text = value.__doc__ or ""
    own = not text.startswith(
        f"{name.rpartition('.')[2]}("
    )  # a dataclass without a docstring gets such a text
    assert text
    assert own, name


@pytest.mark.parametrize(("name", "value"), [*names()], ids=lambda x: x if isinstance(x, str) else "")
def test_a_public_function_names_its_tensors(name: str, value: Any) -> None:
    if inspect.isclass(value):
        return
    text = value.__doc__ or ""
    if re.search(r"^As |raises as :meth:|as of :func:", text):
        return
    for parameter, about in inspect.signature(value).parameters.items():
        if "Tensor" in str(about.annotation):
            assert re.search(rf"\b{parameter}\b", text), f"{name} does not say what {parameter} is"
