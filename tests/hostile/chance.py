"""Random choices that the attacks share: sizes, boundaries, and how often something is wrong."""

from hypothesis import strategies as st

# Lengths of an axis: empty, small, and close to the kernels' blocks of 8 and 64 channels.
SIZES = st.one_of(st.integers(0, 5), st.sampled_from((8, 9, 64, 67)))


def rarely(draw: st.DrawFn, times: int) -> bool:
    """True once in `times` calls.

    Hypothesis prefers the ends of a range, so a number in the middle counts.
    """
    return draw(st.integers(0, times - 1)) == times // 2


@st.composite
def boundaries(draw: st.DrawFn, rows: int) -> list[int]:
    """Boundaries of packed sequences over `rows` rows; one in five is wrong."""
    if rarely(draw, 5):
        extremes = (-(2**63), -1, 0, rows, rows + 1, 2**31, 2**62, 2**63 - 1)
        return draw(st.lists(st.sampled_from(extremes), max_size=4))
    return [0, *sorted(draw(st.lists(st.integers(0, rows), max_size=4))), rows]


def are_boundaries(values: list[int], rows: int) -> bool:
    """Whether the values rise from 0 to the number of rows without decreasing."""
    return bool(values) and values[0] == 0 and values[-1] == rows and sorted(values) == values
