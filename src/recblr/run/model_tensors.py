"""The tensors that a RecBLR consists of: their names, shapes and dtypes.  Imports no torch."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from recblr.config.model import NUM_KNOTS, RecBLRConfig

EMBEDDING = "item_embedding.weight"
REPEAT_BIAS = "repeat_bias"


class TensorSpec(NamedTuple):
    """The shape and the dtype (float32, int64) of a tensor."""

    shape: tuple[int, ...]
    dtype: str = "float32"


def expected_tensors(
    config: RecBLRConfig, num_items: int, *, repeat_bias: bool = False
) -> dict[str, TensorSpec]:
    """The tensors of a model, by the names that they have in its `state_dict` and in a model file.

    repeat_bias: whether the model has learned one; the configuration does not say so.
    """
    layer = config.layer()
    width, inner, knots = config.d_model, layer.d_inner, TensorSpec((NUM_KNOTS, config.d_model))
    found = {EMBEDDING: TensorSpec((num_items, width)), **_affine("layer_norm", width)}
    if repeat_bias:
        found[REPEAT_BIAS] = TensorSpec(())
    for number in range(config.num_layers):
        gated = {
            "input.weight": TensorSpec((2 * inner, width)),
            "conv1d.weight": TensorSpec((inner, config.d_conv)),
            "conv1d.bias": TensorSpec((inner,)),
            "bdlru.Lambda": TensorSpec((inner,)),
            **_affine("bdlru.gates", 2 * inner, inner),
            "output.weight": TensorSpec((width, inner)),
        }
        if config.history_average:
            gated |= {"average.decay": TensorSpec((width,)), "average.weight": TensorSpec((width,))}
        block = {
            **{f"recurrent.{name}": spec for name, spec in gated.items()},
            **_affine("layer_norm", width),
            **_affine("ffn.w_1", layer.d_ffn, width),
            **_affine("ffn.w_2", width, layer.d_ffn),
            **_affine("ffn_norm", width),
        }
        found |= {f"layers.{number}.{name}": spec for name, spec in block.items()}
    if config.time_use != "none":
        found |= {
            "time.past.knots.weight": knots,
            "fading.logarithm.knots.weight": TensorSpec((NUM_KNOTS, 1)),
        }
        found |= {f"time.{name}": TensorSpec((), "int64") for name in ("longest_gap", "step", "start")}
    if config.time_use == "request":
        found |= {"time.next.knots.weight": knots, "time.answer.gap.knots.weight": knots}
        found |= _affine("time.answer.w_1", 4 * width, 2 * width) | _affine(
            "time.answer.w_2", width, 4 * width
        )
    return found


def difference(found: Mapping[str, Any], expected: Mapping[str, Any]) -> str | None:
    """The first difference between `found` and `expected` in names, shapes or dtypes, as text.

    Both hold arrays, tensors or :class:`TensorSpec`.  None if they agree.  `load_state_dict` would report
    most differences too, but it broadcasts or converts some tensors silently.
    """
    for name, tensor in expected.items():
        if name not in found:
            return f"it has no tensor {name}"
        shape, dtype = tuple(found[name].shape), _dtype(found[name])
        if shape != tuple(tensor.shape):
            return f"{name} has the shape {shape}, not {tuple(tensor.shape)}"
        if dtype != _dtype(tensor):
            return f"{name} is {dtype}, not {_dtype(tensor)}"
    extra = next((name for name in found if name not in expected), None)
    return None if extra is None else f"it has a tensor {extra}, which is unexpected"


def _dtype(tensor: Any) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _affine(name: str, width: int, *inputs: int) -> dict[str, TensorSpec]:
    """The weight and the bias of a linear layer, or of a normalisation."""
    return {f"{name}.weight": TensorSpec((width, *inputs)), f"{name}.bias": TensorSpec((width,))}
