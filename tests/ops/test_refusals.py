"""What a kernel refuses is a ValueError, also where torch hands it on as a RuntimeError; nothing else is."""

import pytest

from recblr.ops.common.library import value_errors


def _raising(text: str) -> None:
    raise RuntimeError(text)


def test_a_refusal_that_arrives_as_a_runtime_error_is_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"^scan: b must be float32$"):
        value_errors(_raising)("scan: b must be float32")


def test_other_runtime_errors_pass() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        value_errors(_raising)("CUDA error: out of memory")
