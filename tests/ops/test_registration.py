"""Registration of the operators: their public schemas, and their errors under every version of torch."""

import pytest
import torch

import recblr.ops  # noqa: F401  (registers the operators)
from recblr.ops.common.registration import raise_value_errors

# Exported programs contain these schemas, so they must not change.
PUBLIC = {
    "scan": "(Tensor a, Tensor b, Tensor? initial=None, Tensor? offsets=None, bool reverse=False) -> Tensor",
    "scan_with_final": "(Tensor a, Tensor b, Tensor? initial=None, Tensor? offsets=None, bool reverse=False)"
    " -> (Tensor h, Tensor final)",
    "bdlru": "(Tensor x, Tensor gates, Tensor decay, Tensor? z=None, Tensor? initial=None,"
    " Tensor? offsets=None, Tensor? scale=None) -> (Tensor y, Tensor final)",
    "causal_conv1d": "(Tensor x, Tensor weight, Tensor? bias=None, Tensor? initial=None,"
    " Tensor? offsets=None, bool silu=True) -> (Tensor y, Tensor final)",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_schemas_do_not_change(name: str) -> None:
    assert str(getattr(torch.ops.recblr, name).default._schema) == f"recblr::{name}{PUBLIC[name]}"


def _raising(text: str) -> None:
    raise RuntimeError(text)


def test_a_refusal_as_runtime_error_becomes_a_value_error() -> None:
    with pytest.raises(ValueError, match=r"^scan: b must be float32$"):
        raise_value_errors(_raising)("scan: b must be float32")


def test_other_runtime_errors_do_not_change() -> None:
    with pytest.raises(RuntimeError, match="out of memory"):
        raise_value_errors(_raising)("CUDA error: out of memory")
