"""What a native kernel refuses arrives as the ValueError that it is, whatever the version of torch.

Kernels throw std::invalid_argument.  torch makes a ValueError of it up to 2.14, and from 2.15 on a
RuntimeError with the same text.
"""

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from recblr.ops.common.library import SCHEMAS

P = ParamSpec("P")
R = TypeVar("R")


def value_errors(function: Callable[P, R]) -> Callable[P, R]:
    """The same function, whose refusals are ValueErrors; other RuntimeErrors pass."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except RuntimeError as error:
            operators = (schema.partition("(")[0] for schema in SCHEMAS)
            if not str(error).startswith(tuple(f"{name}: " for name in (*operators, function.__name__))):
                raise
            raise ValueError(str(error)) from None

    return call
