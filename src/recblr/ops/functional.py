"""The operators as documented Python functions, which torch.func can differentiate too."""

import torch
from torch import Tensor

from recblr.ops import autograd, checks, fused
from recblr.ops.refusals import value_errors


def _unseen_by_autograd(*tensors: Tensor | None) -> bool:
    """Whether nobody differentiates a call on these: autograd's part of it, in Python, may be left out."""
    if torch.compiler.is_compiling() or torch.is_inference_mode_enabled():
        return False  # traced whole, or left out already
    return not torch.is_grad_enabled() or not any(x is not None and x.requires_grad for x in tensors)


@value_errors
def scan(
    a: Tensor,
    b: Tensor,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    reverse: bool = False,
) -> Tensor:
    """First-order linear recurrence ``h[t] = a[t] * h[t-1] + b[t]`` (eqs. 9-15 of arXiv 2406.12580).

    Args:
        a: factors, ``(B, T, C)``; ``(T, C)`` is one sequence; with ``offsets``, packed ``(N, C)``.
            float32, float64, bfloat16, float16, complex64 or complex128.  Any strides.
        b: inputs, of a's shape, dtype and device.
        initial: state before the first step, ``(B, C)``, or ``(S, C)`` packed, in the accumulation
            dtype: float32 for bfloat16 and float16, else a's dtype; zeros where None.
        offsets: ``(S + 1,)`` int64 or int32, from 0 to N without decreasing; sequence s owns rows
            ``offsets[s]:offsets[s+1]``, may be empty and never reads its neighbour.
        reverse: time runs from the last row to the first; ``initial`` enters at the last.

    Returns:
        h, of b's shape and dtype, in b's memory layout where that is dense, else contiguous.
        Differentiable to a, b and initial, to any order.  Under autocast it runs in float32.

    Raises:
        ValueError: a shape, dtype, device or offset that does not fit, named in one sentence.
        TypeError: an argument is no tensor.
    """
    checks.tensors("scan", "a b initial offsets", a, b, initial, offsets, required=2)
    if autograd.transformed():
        return autograd.scan_with_final(a, b, initial, offsets, reverse)[0]
    operator = torch.ops.recblr.scan.default
    h: Tensor
    if _unseen_by_autograd(a, b, initial):
        with torch._C._AutoDispatchBelowAutograd():
            h = operator(a, b, initial, offsets, reverse)
    else:
        h = operator(a, b, initial, offsets, reverse)
    return h


@value_errors
def scan_with_final(
    a: Tensor,
    b: Tensor,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    reverse: bool = False,
) -> tuple[Tensor, Tensor]:
    """As :func:`scan`, and the state after every sequence's last step.

    Feeding ``final`` back as ``initial`` continues a sequence: streaming, long histories in chunks and
    sequences split over devices are all this.

    Args:
        a, b, initial, offsets, reverse: as in :func:`scan`.

    Returns:
        h, and final, ``(B, C)`` or ``(S, C)``, in the accumulation dtype: not rounded to h's dtype.  The
        final state of a sequence without steps is a copy of its initial state, or zeros.  Reverse: it leaves
        at the first row.  Both are differentiable to a, b and initial, to any order.

    Raises:
        ValueError: a shape, dtype, device or offset that does not fit, named in one sentence.
        TypeError: an argument is no tensor.
    """
    checks.tensors("scan_with_final", "a b initial offsets", a, b, initial, offsets, required=2)
    return autograd.scan_with_final(a, b, initial, offsets, reverse)


def check_offsets(offsets: Tensor, rows: int) -> None:
    """Refuse offsets that do not run from 0 to ``rows`` without decreasing.

    Operators do so themselves on a CPU, before any work.  On other devices they look at shape and dtype only,
    since reading values there waits for the device; this function reads them, on any device.

    Args:
        offsets: ``(S + 1,)`` int64 or int32.
        rows: N, of the packed tensor that they are meant for.

    Raises:
        ValueError: what is wrong and where, in one sentence.
    """
    checks.tensors("check_offsets", "offsets", offsets, required=1)
    if isinstance(rows, bool) or not isinstance(rows, int) or not 0 <= rows < 2**63:
        raise ValueError(f"check_offsets: rows must be a number of rows, 0 or more, but is {rows!r}")
    checks.time_axis("check_offsets", "rows", offsets.new_empty(rows, 0), offsets)
    checks.offsets_values("check_offsets", offsets, rows)


@value_errors
def bdlru(
    x: Tensor,
    gates: Tensor,
    decay: Tensor,
    z: Tensor | None = None,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    scale: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Behavior-dependent linear recurrent unit (eqs. 5-8 of arXiv 2406.12580).

    With r, i the two halves of ``gates``: ``u = decay * sigmoid(r) * scale``, ``alpha = exp(-u)``,
    ``beta = sqrt(1 - alpha^2)``, ``h[t] = alpha * h[t-1] + beta * sigmoid(i) * x[t]``; and
    ``y = h``, or ``h * silu(z)``.

    Args:
        x: ``(B, T, C)``, ``(T, C)``, or packed ``(N, C)`` with offsets.
        gates: ``(..., 2C)``, pre-activations: r's, then i's.  x's dtype.
        decay: ``(C,)``, ``softplus(Lambda) >= 0``, in the accumulation dtype.
        z: output gate's pre-activation, of x's shape and dtype, or None.
        initial: ``(B, C)``, or ``(S, C)`` packed, in the accumulation dtype; zeros where None.
        offsets: as in :func:`scan`.
        scale: ``(..., 1)``, >= 0, a factor on u for every step; ones where None.

    Returns:
        y of x's shape and dtype, and the final state h (never gated by z), ``(B, C)`` or ``(S, C)``,
        in the accumulation dtype; both differentiable to every floating input.

    Raises:
        ValueError: a shape, dtype, device or offset that does not fit, named in one sentence.
        TypeError: an argument is no tensor.
    """
    arguments = x, gates, decay, z, initial, offsets, scale
    checks.tensors("bdlru", "x gates decay z initial offsets scale", *arguments, required=3)
    if autograd.transformed():
        return fused.bdlru(*arguments, kernel=False)
    y, final = torch.ops.recblr.bdlru(*arguments)
    return y, final


@value_errors
def causal_conv1d(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    initial: Tensor | None = None,
    offsets: Tensor | None = None,
    silu: bool = True,
) -> tuple[Tensor, Tensor]:
    """Depthwise causal convolution over time, with SiLU (Alg. 1 of arXiv 2406.12580).

    Args:
        x: ``(B, T, C)``, ``(T, C)``, or packed ``(N, C)`` with offsets.
        weight: ``(C, K)``, K >= 1; ``weight[:, K-1]`` meets the current input.
        bias: ``(C,)`` or None.
        initial: ``(B, K-1, C)``, or ``(S, K-1, C)`` packed: the inputs before the first step, oldest
            first, in the accumulation dtype; zeros where None.
        offsets: as in :func:`scan`.
        silu: apply SiLU to the output.

    Returns:
        y of x's shape and dtype, and the last K-1 inputs of every sequence (of initial's shape),
        before bias and SiLU; a sequence shorter than K-1 keeps the tail of ``initial``.

    Raises:
        ValueError: a shape, dtype, device or offset that does not fit, named in one sentence.
        TypeError: an argument is no tensor.
    """
    arguments = x, weight, bias, initial, offsets
    checks.tensors("causal_conv1d", "x weight bias initial offsets", *arguments, required=2)
    if autograd.transformed():
        return fused.causal_conv1d(*arguments, silu, kernel=False)
    y, final = torch.ops.recblr.causal_conv1d(*arguments, silu)
    return y, final
