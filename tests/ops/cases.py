"""Hypothesis strategies for the operators' arguments: shapes, dtypes, memory layouts and extreme values."""

from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from hypothesis import strategies as st
from ops.reference import Array
from torch import Tensor
from torch.torch_version import TorchVersion

# The errors of torch.ops.recblr.*: from version 2.15 on, torch turns a kernel's refusal into a RuntimeError.
OPERATORS_REFUSE = (ValueError, RuntimeError) if TorchVersion(torch.__version__) >= "2.15" else (ValueError,)

HALF = (torch.bfloat16, torch.float16)
DTYPES = (torch.float32, torch.float64, *HALF)
COMPLEX = (torch.complex64, torch.complex128)
SCANNED = (*DTYPES, *COMPLEX)
LAYOUTS = ("contiguous", "channel first", "stepped", "expanded", "batch second", "unaligned", "wide rows")

# Numbers of channels around the sizes of the kernels' channel blocks, 8 and 64.
CHANNELS = (0, 1, 2, 3, 7, 8, 9, 63, 64, 65, 66, 130)


def accumulation(dtype: torch.dtype) -> torch.dtype:
    return torch.float32 if dtype in HALF else dtype


def in_layout(x: Tensor, layout: str) -> Tensor:
    """x's values in another memory layout.  Gaps hold NaN.  "expanded" repeats the first row or channel."""
    match layout:
        case "channel first":
            return x.mT.contiguous().mT
        case "batch second":
            return x.transpose(0, -2).contiguous().transpose(0, -2)
        case "stepped":
            gaps = torch.full([2 * n for n in x.shape], torch.nan, dtype=x.dtype)
            view = gaps[tuple(slice(None, None, 2) for _ in x.shape)]
        case "wide rows":
            view = torch.full((*x.shape[:-1], x.shape[-1] + 3), torch.nan, dtype=x.dtype)[..., 1:-2]
        case "unaligned":
            view = torch.empty(x.numel() + 1, dtype=x.dtype)[1:].view(x.shape)
        case "expanded":
            axis = x.numel() % x.dim()
            return x.narrow(axis, 0, min(1, x.shape[axis])).expand(x.shape) if x.shape[axis] else x
        case _:
            return x.contiguous()
    return view.copy_(x)


def array(x: Tensor | None) -> Any:
    """x from any device as a NumPy array of float64 or complex128.  None stays None."""
    if x is None:
        return None
    return x.detach().cpu().to(torch.complex128 if x.is_complex() else torch.float64).resolve_conj().numpy()


def on(device: str, x: Tensor) -> Tensor:
    """A copy of x on a device, with the same memory layout and the same gaps."""
    if device == "cpu":
        return x
    memory = torch.empty(0, dtype=x.dtype).set_(x.untyped_storage()).to(device)
    return memory.as_strided(x.shape, x.stride(), x.storage_offset())


def record_on(device: str, record: Any) -> Any:
    """A copy of a dataclass of arguments, with its tensors on a device."""
    values = {field.name: getattr(record, field.name) for field in fields(record)}
    moved = {name: on(device, value) for name, value in values.items() if isinstance(value, Tensor)}
    return replace(record, **moved)


@dataclass(frozen=True)
class Case:
    """scan's arguments."""

    a: Tensor
    b: Tensor
    initial: Tensor | None
    offsets: Tensor | None
    reverse: bool

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        printer.text(repr(self))  # Hypothesis prints this; shapes say more than values

    def __repr__(self) -> str:
        def brief(x: Tensor | None) -> str:
            return "None" if x is None else f"{x.dtype} {tuple(x.shape)} strides {x.stride()}"

        offsets = None if self.offsets is None else self.offsets.tolist()
        return (
            f"Case(a {brief(self.a)}, b {brief(self.b)}, initial {brief(self.initial)},"
            f" offsets {offsets}, reverse {self.reverse})"
        )

    @property
    def args(self) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None, bool]:
        return self.a, self.b, self.initial, self.offsets, self.reverse

    @property
    def boundaries(self) -> list[int] | None:
        return None if self.offsets is None else self.offsets.tolist()

    @property
    def arrays(self) -> tuple[Array, Array, Array | None, list[int] | None, bool]:
        return array(self.a), array(self.b), array(self.initial), self.boundaries, self.reverse

    @property
    def magnitudes(self) -> tuple[Array, Array, Array | None, list[int] | None, bool]:
        """The arguments with absolute values.  Their result is the scale for rounding errors."""
        a, b, initial, offsets, reverse = self.arrays
        return abs(a), abs(b), None if initial is None else abs(initial), offsets, reverse

    @property
    def steps(self) -> int:
        if self.offsets is not None:
            return int(self.offsets.diff().max()) if len(self.offsets) > 1 else 0
        return self.b.shape[-2]


@st.composite
def shapes(draw: st.DrawFn) -> tuple[tuple[int, ...], Tensor | None]:
    """A shape (B, T, C), (T, C) or packed (N, C), and offsets if it is packed."""
    small = st.integers(0, 9)
    channels = draw(st.one_of(small, st.sampled_from(CHANNELS)))
    kind = draw(st.sampled_from(("batched", "packed", "single")))
    if kind == "single":
        return (draw(small), channels), None
    if kind == "batched":
        return (draw(small), draw(small), channels), None
    lengths = draw(st.lists(small, max_size=6))
    offsets = torch.tensor([0, *lengths]).cumsum(0).to(draw(st.sampled_from((torch.int32, torch.int64))))
    if draw(st.booleans()):
        offsets = offsets.repeat_interleave(2)[::2]
    return (sum(lengths), channels), offsets


def sequences(shape: tuple[int, ...], offsets: Tensor | None) -> int:
    if offsets is not None:
        return len(offsets) - 1
    return shape[0] if len(shape) == 3 else 1


@st.composite
def cases(
    draw: st.DrawFn,
    dtypes: tuple[torch.dtype, ...] = SCANNED,
    kinds: tuple[str, ...] = ("ordinary", "edges", "decaying", "large"),
) -> Case:
    """The arguments of scan, with |a| <= 1."""
    shape, offsets = draw(shapes())
    dtype = draw(st.sampled_from(dtypes))
    kind = draw(st.sampled_from(kinds if dtype != torch.float16 else kinds[:2]))
    random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))

    def real(shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=random, dtype=torch.float64) * 2 - 1

    def uniform(shape: tuple[int, ...]) -> Tensor:
        if not dtype.is_complex:
            return real(shape)
        return torch.complex(real(shape), real(shape)) / 2**0.5

    a, b = uniform(shape), uniform(shape)
    state = uniform((sequences(shape, offsets), shape[-1]))
    if kind == "edges":
        a = torch.where(real(shape) > 0, a, torch.randint(-1, 2, shape, generator=random).to(a.dtype))
    elif kind == "decaying":
        a = a * 1e-20
    elif kind == "large":
        b, state = b * 1e30, state * 1e30
    initial = None
    if draw(st.booleans()):
        initial = in_layout(state.to(accumulation(dtype)), draw(st.sampled_from(LAYOUTS)))
    return Case(
        in_layout(a.to(dtype), draw(st.sampled_from(LAYOUTS))),
        in_layout(b.to(dtype), draw(st.sampled_from(LAYOUTS))),
        initial,
        offsets,
        draw(st.booleans()),
    )


# Absolute errors that are allowed beside rounding.  In float32 denormals are flushed, and float16 has a
# smallest step.
FLUSHED = {
    torch.float64: 1e-300,
    torch.float32: 1e-36,
    torch.bfloat16: 1e-36,
    torch.float16: 1e-6,
    torch.complex64: 1e-36,
    torch.complex128: 1e-300,
}


def assert_close(got: Any, expected: Array, magnitude: Array, dtype: torch.dtype, steps: int) -> None:
    """Assert that got equals expected, up to rounding in `steps` steps on terms of the sum `magnitude`."""
    got = array(got) if isinstance(got, Tensor) else got
    assert got.shape == expected.shape
    relative = 4 * (steps + 2) * torch.finfo(accumulation(dtype)).eps
    if dtype in HALF:
        relative += 2 * torch.finfo(dtype).eps
    excess = abs(got - expected) - (relative * magnitude + FLUSHED[dtype])
    assert got.size == 0 or excess.max() <= 0, f"off by {excess.max()} beyond rounding"
