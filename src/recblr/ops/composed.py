"""bdlru and causal_conv1d composed of PyTorch operations around the scan.

Registered as composite operators: autograd, vmap, compile and every device follow from their parts.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from recblr.ops import checks
from recblr.ops.autograd import scan_with_final
from recblr.ops.schemas import LIBRARY
from recblr.ops.segments import sequence_of_row

# u below this is taken as this: beta = sqrt(-expm1(-2u)) then keeps a finite derivative at decay 0.
MIN_U = 1e-30


def bdlru(
    x: Tensor,
    gates: Tensor,
    decay: Tensor,
    z: Tensor | None = None,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """See :func:`recblr.bdlru`."""
    checks.one_of("bdlru", "x", x)
    sequences = checks.time_axis("bdlru", "x", x, offsets)
    channels = x.shape[-1]
    accumulate = checks.accumulation_dtype(x.dtype)
    checks.shape("bdlru", "gates", gates, (*x.shape[:-1], 2 * channels), "r's then i's pre-activations")
    checks.shape("bdlru", "decay", decay, (channels,))
    checks.same("bdlru", "z", z, "x", x)
    checks.shape("bdlru", "scale", scale, (*x.shape[:-1], 1), "a factor a step")
    checks.state("bdlru", initial, (sequences, channels), x)
    for name, tensor in (("gates", gates), ("decay", decay), ("scale", scale)):
        checks.device("bdlru", name, tensor, x.device)
    checks.dtype("bdlru", "gates", gates, x.dtype, "x's dtype")
    checks.dtype("bdlru", "decay", decay, accumulate, "the accumulation dtype")
    checks.one_of("bdlru", "scale", scale)

    r, i = gates.to(accumulate).chunk(2, dim=-1)
    u = decay * torch.sigmoid(r)
    if scale is not None:
        u = u * scale.to(accumulate)
    u = u.clamp(min=MIN_U)
    beta = torch.sqrt(-torch.expm1(-2 * u))  # from u: alpha has already been rounded
    h, final = scan_with_final(
        torch.exp(-u), beta * torch.sigmoid(i) * x.to(accumulate), initial, offsets, False
    )
    y = h if z is None else h * F.silu(z.to(accumulate))
    return y.to(x.dtype), final


def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    silu: bool = True,
) -> tuple[Tensor, Tensor]:
    """See :func:`recblr.causal_conv1d`."""
    checks.one_of("causal_conv1d", "x", x)
    sequences = checks.time_axis("causal_conv1d", "x", x, offsets)
    channels = x.shape[-1]
    if weight.dim() != 2 or weight.shape[0] != channels or weight.shape[1] < 1:
        raise ValueError(
            f"causal_conv1d: weight must have shape ({channels}, K) with K >= 1,"
            f" but has {tuple(weight.shape)}"
        )
    width = weight.shape[1]
    checks.shape("causal_conv1d", "bias", bias, (channels,))
    checks.state("causal_conv1d", initial, (sequences, width - 1, channels), x)
    for name, tensor in (("weight", weight), ("bias", bias)):
        checks.one_of("causal_conv1d", name, tensor)
        checks.device("causal_conv1d", name, tensor, x.device)
    if offsets is not None:
        checks.offsets_values_where_readable(offsets, x.shape[0])

    accumulate = checks.accumulation_dtype(x.dtype)
    wide, past = x.to(accumulate), initial
    if past is None:
        past = wide.new_zeros(sequences, width - 1, channels)
    taps = weight.to(accumulate).unbind(1)
    if offsets is None:
        batched = wide if x.dim() == 3 else wide.unsqueeze(0)
        padded = torch.cat([past, batched], 1)
        length = batched.shape[1]
        y = sum((padded[:, k : k + length] * taps[k] for k in range(1, width)), padded[:, :length] * taps[0])
        y = y.reshape(x.shape)
        final = padded[:, length:].clone()
    else:
        y, final = _packed_conv(wide, taps, past, offsets)
    if bias is not None:
        y = y + bias.to(accumulate)
    return (F.silu(y) if silu else y).to(x.dtype), final


def _packed_conv(x: Tensor, taps: tuple[Tensor, ...], past: Tensor, offsets: Tensor) -> tuple[Tensor, Tensor]:
    """The convolution over packed rows: each sequence is laid out behind its own past inputs."""
    rows, channels = x.shape
    sequences, before, _ = past.shape
    index = torch.arange(rows, device=x.device) + before * (sequence_of_row(offsets, rows) + 1)
    s = torch.arange(sequences, device=x.device).unsqueeze(1)
    lag = torch.arange(before, device=x.device)
    past_index = (offsets[:-1].long().unsqueeze(1) + before * s + lag).flatten()
    padded = x.new_empty(rows + before * sequences, channels)
    padded = padded.index_copy(0, past_index, past.flatten(0, 1)).index_copy(0, index, x)
    length = padded.shape[0] - before
    y = sum((padded[k : k + length] * taps[k] for k in range(1, before + 1)), padded[:length] * taps[0])
    final_index = (offsets[1:].long().unsqueeze(1) + before * s + lag).flatten()
    final = padded.index_select(0, final_index).reshape(past.shape)
    return y.index_select(0, index - before), final


def register() -> None:
    """Register both as composites, under vmap too: it would loop over calls otherwise."""
    for key in ("CompositeImplicitAutograd", "FuncTorchBatchedDecomposition"):
        LIBRARY.impl("bdlru", bdlru, key)
        LIBRARY.impl("causal_conv1d", causal_conv1d, key)
