"""The operators' schemas, each defined here and nowhere else."""

import torch

LIBRARY = torch.library.Library("recblr", "DEF")

_SCAN = "(Tensor a, Tensor b, Tensor? initial=None, Tensor? offsets=None, bool reverse=False)"
# What the public operators call once their arguments are checked: parameters in the accumulation dtype.
_UNIT = "(Tensor x, Tensor gates, Tensor decay, Tensor? z, Tensor? initial, Tensor? offsets, Tensor? scale)"
_CONV = "(Tensor x, Tensor weight, Tensor? bias, Tensor? initial, Tensor? offsets, bool silu)"

SCHEMAS = (
    f"scan{_SCAN} -> Tensor",
    f"scan_with_final{_SCAN} -> (Tensor h, Tensor final)",
    "_scan_backward(Tensor? grad, Tensor? grad_final, Tensor a, Tensor h, Tensor? initial, Tensor? offsets,"
    " bool reverse) -> (Tensor da, Tensor db, Tensor dinitial)",
    "bdlru(Tensor x, Tensor gates, Tensor decay, Tensor? z=None, Tensor? initial=None,"
    " Tensor? offsets=None, Tensor? scale=None) -> (Tensor y, Tensor final)",
    "causal_conv1d(Tensor x, Tensor weight, Tensor? bias=None, Tensor? initial=None,"
    " Tensor? offsets=None, bool silu=True) -> (Tensor y, Tensor final)",
    f"_bdlru{_UNIT} -> (Tensor y, Tensor final, Tensor states)",
    f"_bdlru_backward(Tensor? grad, Tensor? grad_final, {_UNIT[1:-1]}, Tensor states)"
    " -> (Tensor dx, Tensor dgates, Tensor ddecay, Tensor dz, Tensor dinitial, Tensor dscale)",
    f"_causal_conv1d{_CONV} -> (Tensor y, Tensor final)",
    f"_causal_conv1d_backward(Tensor? grad, Tensor? grad_final, {_CONV[1:-1]})"
    " -> (Tensor dx, Tensor dweight, Tensor dbias, Tensor dinitial)",
    "_linear_cross_entropy(Tensor hidden, Tensor weight, Tensor targets, bool gradients,"
    " Tensor? repeat_bias=None, Tensor? items=None, Tensor? offsets=None, Tensor? rows=None)"
    " -> (Tensor loss, Tensor d_hidden, Tensor d_weight, Tensor d_bias)",
    "_dropout(Tensor x, int seed, float p) -> Tensor",
)


def define() -> None:
    """Define every schema in the namespace recblr."""
    for schema in SCHEMAS:
        LIBRARY.define(schema)
