"""Bytes as a failing disk returns them, and the error that they cause in a function of the library."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st

from recblr.errors import InputError


def damage(raw: bytes, position: float, bits: int) -> bytes:
    """The bytes cut off at a position (0 to 1), or with bits of the byte there flipped."""
    place = min(int(position * len(raw)), len(raw) - 1)
    return raw[:place] + (bytes([raw[place] ^ bits]) + raw[place + 1 :] if bits else b"")


# Two thirds of the damage is at an end of the file, where formats have their headers.
POSITIONS = st.floats(0, 1) | st.floats(0, 0.02) | st.floats(0.9, 1)


def sentence(call: Callable[[], object]) -> str | None:
    """The sentence of the InputError that the call raises; None if it raises none."""
    try:
        call()
    except InputError as error:
        return str(error)
    return None
