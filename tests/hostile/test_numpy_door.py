"""recblr._core with any array that NumPy can make: a right result or an error, never a crash.

Every array lies in a buffer that ends with the array, so that AddressSanitizer (`make sanitize`) finds a
read of even one byte beyond it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hostile.chance import SIZES, are_boundaries, boundaries, rarely
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from ops.cases import accumulation, assert_close
from ops.reference import recurrence

from recblr._core import scan, scan_with_final

Shape = tuple[int, ...]

# The dtypes that scan accepts, and the dtype of its states.
NATIVE = {"f2": "f4", "f4": "f4", "f8": "f8", "c8": "c8", "c16": "c16"}
FOREIGN = (">f4", ">f8", ">c8", "g", "G", "i4", "i8", "u8", "?", "O", "S4", "U2", "M8[s]", "V8")


class Subclass(np.ndarray):
    """An array of a subclass, like those of other libraries."""


@st.composite
def arrays(draw: st.DrawFn, shape: Shape, dtype: Any, values: NDArray[Any] | None = None) -> NDArray[Any]:
    """An array with any strides: negative, zero, overlapping, far, misaligned; perhaps read-only."""
    dtype = np.dtype(dtype)
    aligned = not rarely(draw, 20)
    elements = st.sampled_from((-9, -2, -1, 0, 1, 1, 2, 3, 64))
    strides = [draw(elements) * dtype.itemsize + (0 if aligned else draw(st.integers(0, 1))) for _ in shape]
    if draw(st.booleans()):  # like most arrays: contiguous, with the axes in any order
        size = dtype.itemsize
        for axis in draw(st.permutations(range(len(shape)))):
            strides[axis] = size
            size *= max(shape[axis], 1)
    spans = [(n - 1) * stride for n, stride in zip(shape, strides, strict=True)] if 0 not in shape else []
    first = -sum(span for span in spans if span < 0) + (0 if aligned else draw(st.integers(0, 3)))
    buffer = np.zeros(first + sum(span for span in spans if span > 0) + dtype.itemsize, np.uint8)
    for axis, n in enumerate(shape):  # a stride that is never used may have any value
        if (n == 1 or 0 in shape) and rarely(draw, 5):
            strides[axis] = draw(st.sampled_from((-(2**60), 2**60, 2**40))) * dtype.itemsize // 8
    array: NDArray[Any] = np.ndarray(shape, dtype, buffer, first, tuple(strides))
    if values is not None:
        array[...] = values
    elif dtype.kind in "fc":
        real, imaginary = np.random.default_rng(draw(st.integers(0, 99))).uniform(-0.7, 0.7, (2, *shape))
        array[...] = real + 1j * imaginary if dtype.kind == "c" else real
    if rarely(draw, 5):
        array = array.view(Subclass)
    if rarely(draw, 3):
        array.flags.writeable = False
    return array


@st.composite
def offset_arrays(draw: st.DrawFn, rows: int) -> NDArray[Any]:
    """Offsets that are right, or wrong in value, shape or dtype."""
    values = np.array(draw(boundaries(rows)), np.int64)
    dtype = draw(st.sampled_from((">i8", "u8", "f8", "?") if rarely(draw, 9) else ("i8", "i4")))
    shape = (1, len(values)) if rarely(draw, 15) else (len(values),)
    with np.errstate(all="ignore"):
        return draw(arrays(shape, dtype, values.reshape(shape).astype(dtype)))


@st.composite
def arguments(draw: st.DrawFn) -> dict[str, Any]:
    """The arguments of scan: most of them fit together, and a few do not."""
    rank = draw(st.sampled_from((0, 1, 4) if rarely(draw, 15) else (2, 3)))
    shape = tuple(draw(SIZES) for _ in range(rank))
    dtype = draw(st.sampled_from(FOREIGN if rarely(draw, 15) else tuple(NATIVE)))

    def mostly(right: Any, wrong: st.SearchStrategy[Any]) -> Any:
        return draw(wrong) if rarely(draw, 25) else right

    shapes = st.lists(SIZES, max_size=4).map(tuple)
    dtypes = st.sampled_from((*NATIVE, *FOREIGN))
    b = draw(arrays(shape, dtype))
    a = draw(arrays(mostly(shape, shapes), mostly(dtype, dtypes)))
    chosen: dict[str, Any] = {"a": a, "b": b, "reverse": draw(st.booleans())}
    sequences = shape[0] if rank == 3 else 1
    if rank == 2 and draw(st.booleans()):
        chosen["offsets"] = draw(offset_arrays(shape[0]))
        sequences = max(chosen["offsets"].size - 1, 0)
    if rank > 0 and draw(st.booleans()):
        state = mostly((sequences, shape[-1]), shapes), mostly(NATIVE.get(dtype, dtype), dtypes)
        chosen["initial"] = draw(arrays(*state))
    if rarely(draw, 15):
        name = draw(st.sampled_from([name for name in chosen if name != "reverse"]))
        chosen[name] = draw(st.sampled_from((3, "x", [[1.0]], object(), np.float32, {})))
    return chosen


def _fits(array: Any, dtype: Any) -> bool:
    """Whether the kernel may read this array: it has the dtype, and every element is aligned."""
    return (
        isinstance(array, np.ndarray)
        and array.dtype == dtype
        and array.ctypes.data % array.dtype.alignment == 0
        and all(stride % array.itemsize == 0 for stride in array.strides)
    )


def _legal(a: Any, b: Any, reverse: Any, initial: Any = None, offsets: Any = None) -> bool:
    """Whether the documentation of scan allows these arguments."""
    if not isinstance(b, np.ndarray) or b.dtype not in map(np.dtype, NATIVE) or b.ndim not in (2, 3):
        return False
    if not _fits(a, b.dtype) or not _fits(b, b.dtype) or a.shape != b.shape:
        return False
    sequences = b.shape[0] if b.ndim == 3 else 1
    if offsets is not None:
        if not isinstance(offsets, np.ndarray) or offsets.ndim != 1 or b.ndim != 2:
            return False
        if offsets.dtype not in (np.dtype("i8"), np.dtype("i4")):
            return False
        if not are_boundaries(offsets.tolist(), len(b)):
            return False
        sequences = len(offsets) - 1
    state = np.dtype(NATIVE[b.dtype.str[1:]])
    return initial is None or (_fits(initial, state) and initial.shape == (sequences, b.shape[-1]))


def _wide(x: NDArray[Any] | None, absolute: bool = False) -> NDArray[Any] | None:
    """The array in double precision; with `absolute`, the absolute values, which bound the rounding error."""
    if x is None:
        return None
    wide = np.asarray(x, np.complex128 if x.dtype.kind == "c" else np.float64)
    return abs(wide) if absolute else wide


@settings(max_examples=200)
@given(arguments())
def test_legal_arguments_give_the_recurrence_and_others_an_error(arguments: dict[str, Any]) -> None:
    before = {name: x.tobytes() for name, x in arguments.items() if isinstance(x, np.ndarray)}
    if not _legal(**arguments):
        for call in (scan, scan_with_final):
            with pytest.raises((ValueError, TypeError)) as caught:
                call(**arguments)
            assert isinstance(caught.value, TypeError) or "\n" not in str(caught.value)
    else:
        a, b, initial, offsets, reverse = (
            arguments.get(name) for name in ("a", "b", "initial", "offsets", "reverse")
        )
        h, final = scan_with_final(**arguments)
        np.testing.assert_array_equal(scan(**arguments), h, strict=True)
        assert (type(h), h.dtype, h.flags.c_contiguous) == (np.ndarray, b.dtype, True)
        assert final.dtype == NATIVE[b.dtype.str[1:]]
        assert not any(np.shares_memory(h, x) for x in (a, b))
        dtype = torch.from_numpy(h).dtype
        wanted = recurrence(_wide(a), _wide(b), _wide(initial), offsets, reverse)
        bounds = recurrence(_wide(a, True), _wide(b, True), _wide(initial, True), offsets, reverse)
        assert_close(_wide(h), wanted[0], bounds[0], dtype, b.shape[-2])
        assert_close(_wide(final), wanted[1], bounds[1], accumulation(dtype), b.shape[-2])
    assert before == {name: arguments[name].tobytes() for name in before}
