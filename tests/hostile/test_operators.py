"""torch.ops.recblr.* with any tensors: a right result or an error, never a crash.

The tests attack every operator that has a schema, so new operators are included.  The storage of every
tensor ends with its last element, so that AddressSanitizer (`make sanitize`) finds a read of even one byte
beyond it.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from hostile.chance import SIZES, are_boundaries, boundaries, rarely
from hypothesis import given, settings
from hypothesis import strategies as st
from ops.cases import OPERATORS_REFUSE, SCANNED, accumulation, array, assert_close
from ops.reference import recurrence
from torch import Tensor

from recblr.ops.common import registration

Shape = tuple[int, ...]

FOREIGN = (torch.int64, torch.int32, torch.uint8, torch.bool, torch.float8_e4m3fn)
INTEGERS = (torch.int64, torch.int32)


class Subclass(Tensor):
    """A tensor of a subclass, like those of other libraries."""


class Call(dict[str, Any]):
    """The arguments of an operator by name; a failure shows dtypes and shapes in place of values."""

    def __repr__(self) -> str:
        def brief(x: Any) -> str:
            if not isinstance(x, Tensor):
                return repr(x)
            grad = " requires_grad" * x.requires_grad
            return (
                f"{x.dtype} {tuple(x.shape)} strides {x.stride()} at {x.storage_offset()} on {x.device}{grad}"
            )

        return f"({', '.join(f'{name}: {brief(x)}' for name, x in self.items())})"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))


def misaligned(x: Tensor) -> Tensor:
    """The values of x one byte after an aligned address, as a buffer may hold them."""
    if x.numel() == 0:
        return x
    content = x.clone(memory_format=torch.contiguous_format).view(torch.uint8).numpy().tobytes()
    return torch.frombuffer(bytearray(b"?" + content), dtype=x.dtype, offset=1)


@st.composite
def tensors(draw: st.DrawFn, shape: Shape, dtype: torch.dtype) -> Tensor:
    """A tensor with any strides: zero, overlapping, far; perhaps lazily negated or of another class."""
    strides = [draw(st.sampled_from((0, 1, 1, 2, 3, 9, 64))) for _ in shape]
    if draw(st.booleans()):  # like most tensors: dense, with the axes in any order
        size = 1
        for axis in draw(st.permutations(range(len(shape)))):
            strides[axis] = size
            size *= max(shape[axis], 1)
    empty = 0 in shape
    span = 0 if empty else sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) + 1
    for axis, n in enumerate(shape):  # a stride that is never used may have any value
        if (n == 1 or empty) and rarely(draw, 5):
            strides[axis] = draw(st.sampled_from((2**40, 2**55)))
    first = draw(st.integers(0, 3))
    random = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    real, imaginary = torch.rand(2, first + span, generator=random, dtype=torch.float64).sub_(0.5)
    memory = (torch.complex(real, imaginary) if dtype.is_complex else real).to(dtype)
    astray = rarely(draw, 25)
    x = (misaligned(memory) if astray else memory).as_strided(shape, strides, first)
    if dtype in SCANNED and not astray and rarely(draw, 9):  # torch's own conj crashes on misaligned tensors
        x = x.conj() if dtype.is_complex else torch._neg_view(x)
    if rarely(draw, 9):
        x = x.as_subclass(Subclass)
    return x.detach().requires_grad_() if dtype in SCANNED and rarely(draw, 5) else x


@st.composite
def offset_tensors(draw: st.DrawFn, rows: int) -> Tensor:
    """Offsets that are right, or wrong in value, shape or dtype."""
    values = torch.tensor(draw(boundaries(rows)), dtype=torch.int64)
    step = draw(st.integers(1, 3))
    spread = torch.full((1 + step * len(values),), -7)
    spread[1::step][: len(values)] = values
    dtype = draw(st.sampled_from(FOREIGN if rarely(draw, 15) else INTEGERS))
    offsets = spread.to(dtype)[1::step][: len(values)]
    offsets = misaligned(offsets) if rarely(draw, 9) else offsets
    return offsets[None] if rarely(draw, 15) else offsets


@st.composite
def target_tensors(draw: st.DrawFn, rows: int, catalogue: int) -> Tensor:
    """Targets that are right, outside the catalogue, or of another shape or dtype."""
    last = catalogue + 2 if rarely(draw, 9) else max(catalogue - 1, 0)
    rows = draw(SIZES) if rarely(draw, 15) else rows
    values = draw(st.lists(st.integers(-1 if rarely(draw, 9) else 0, last), min_size=rows, max_size=rows))
    return torch.tensor(values, dtype=draw(st.sampled_from(INTEGERS)) if rarely(draw, 9) else torch.int64)


@st.composite
def calls(draw: st.DrawFn, operator: str) -> Call:
    """The arguments of an operator: most of them fit together, and a few do not."""
    rank = draw(st.sampled_from((0, 1, 4) if rarely(draw, 15) else (2, 3)))
    shape = tuple(draw(SIZES) for _ in range(rank))
    dtype = draw(st.sampled_from(FOREIGN if rarely(draw, 15) else SCANNED))
    leading, channels = shape[:-1], shape[-1] if shape else 1
    taps = draw(st.integers(0, 5))
    packed = rank == 2 and draw(st.booleans())
    offsets = draw(offset_tensors(shape[0])) if packed else None
    sequences = max(offsets.numel() - 1, 0) if offsets is not None else shape[0] if rank == 3 else 1
    convolution = operator.strip("_").startswith("causal_conv1d")
    state = (sequences, max(taps - 1, 0), channels) if convolution else (sequences, channels)
    own = {"gates": (*leading, 2 * channels), "decay": (channels,), "scale": (*leading, 1), "initial": state,
           "weight": (channels, taps), "bias": (channels,), "grad_final": state,
           "states": (-(-math.prod(leading) // 32), channels)}  # fmt: skip
    wide = {"initial", "decay", "grad_final", "states"}
    if operator.startswith("_"):  # the public operators have widened these
        wide |= {"scale", "weight", "bias"}
    arguments = Call()
    for argument in getattr(torch.ops.recblr, operator).default._schema.arguments:
        name, kind = argument.name, str(argument.type)
        if kind == "bool":
            arguments[name] = draw(st.booleans())
        elif kind == "int":
            arguments[name] = draw(st.integers(-(2**63), 2**63 - 1))
        elif kind == "float":
            arguments[name] = draw(st.floats(0, 0.99) if draw(st.booleans()) else st.floats())
        elif name == "offsets":
            arguments[name] = offsets
        elif name == "targets":
            arguments[name] = draw(target_tensors(shape[0] if shape else 1, channels))
        elif kind == "Optional[Tensor]" and draw(st.booleans()):
            arguments[name] = None
        else:
            assert kind in ("Tensor", "Optional[Tensor]"), (
                f"{operator} takes a {kind}: the test must attack this type too"
            )
            right = accumulation(dtype) if name in wide else dtype
            other_shape, other_dtype = rarely(draw, 25), rarely(draw, 25)
            arguments[name] = draw(
                tensors(
                    draw(st.lists(SIZES, max_size=4).map(tuple)) if other_shape else own.get(name, shape),
                    draw(st.sampled_from(SCANNED + FOREIGN)) if other_dtype else right,
                )
            )
            if argument.alias_info is not None and argument.alias_info.is_write:
                # torch's own fallback for lazily negated tensors fails on operators that write to them.
                arguments[name] = arguments[name].resolve_conj().resolve_neg()
    if rarely(draw, 30):
        name = draw(st.sampled_from([name for name, x in arguments.items() if isinstance(x, Tensor)]))
        arguments[name] = arguments[name].to("meta")
    return arguments


def _aligned(x: Tensor) -> bool:
    component = x.element_size() // (2 if x.is_complex() else 1)
    return x.data_ptr() % component == 0


def _legal(a: Tensor, b: Tensor, initial: Tensor | None, offsets: Tensor | None, reverse: bool) -> bool:
    """Whether the documentation of scan allows these arguments."""
    if any(x is not None and x.is_meta for x in (a, b, initial, offsets)):
        return False
    if b.dtype not in SCANNED or a.dtype != b.dtype or a.shape != b.shape or b.dim() not in (2, 3):
        return False
    if not _aligned(a) or not _aligned(b):
        return False
    sequences = b.shape[0] if b.dim() == 3 else 1
    if offsets is not None:
        if b.dim() != 2 or offsets.dim() != 1 or offsets.dtype not in INTEGERS:
            return False
        if not are_boundaries(offsets.tolist(), len(b)):
            return False
        sequences = len(offsets) - 1
    if initial is None:
        return True
    right = initial.dtype == accumulation(b.dtype) and initial.shape == (sequences, b.shape[-1])
    return right and _aligned(initial)


@settings(max_examples=200)
@given(calls("scan"))
def test_legal_arguments_give_the_recurrence_and_others_an_error(arguments: Call) -> None:
    if not _legal(**arguments):
        with pytest.raises(OPERATORS_REFUSE, match=r"^scan: [^\n]+$"):
            torch.ops.recblr.scan(**arguments)
        return
    h = torch.ops.recblr.scan(**arguments)
    a, b, initial = (
        None if arguments[name] is None else array(arguments[name].resolve_neg())
        for name in ("a", "b", "initial")
    )
    offsets = None if arguments["offsets"] is None else arguments["offsets"].tolist()
    rest = (offsets, arguments["reverse"])
    expected, _ = recurrence(a, b, initial, *rest)
    magnitude, _ = recurrence(abs(a), abs(b), None if initial is None else abs(initial), *rest)
    assert (h.dtype, h.shape) == (arguments["b"].dtype, arguments["b"].shape)
    assert_close(h, expected, magnitude, h.dtype, b.shape[-2])


OPERATORS = [schema.partition("(")[0] for schema in registration.SCHEMAS]


@pytest.mark.parametrize("operator", OPERATORS)
@settings(max_examples=100)
@given(st.data())
def test_an_operator_gives_tensors_or_an_error_in_one_sentence(operator: str, data: st.DataObject) -> None:
    arguments = data.draw(calls(operator))
    said, results = "", ()
    try:
        results = getattr(torch.ops.recblr, operator)(**arguments)
    except OPERATORS_REFUSE as error:
        said = str(error)
    assert "\n" not in said
    results = results if isinstance(results, tuple) else (results,)
    reached = [x for x in results if x.requires_grad]
    inputs = [x for x in arguments.values() if isinstance(x, Tensor) and x.requires_grad]
    if reached:
        gradients = torch.autograd.grad(
            reached, inputs, list(map(torch.ones_like, reached)), allow_unused=True
        )
        assert all(g is None or g.shape == x.shape for g, x in zip(gradients, inputs, strict=True))
