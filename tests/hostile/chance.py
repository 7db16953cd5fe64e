"""What the attacks share: how often something is wrong."""

from hypothesis import strategies as st

# Axes: empty, small, and around the kernels' blocks of 8 and 64 channels.
SIZES = st.one_of(st.integers(0, 5), st.sampled_from((8, 9, 64, 67)))


def rarely(draw: st.DrawFn, times: int) -> bool:
    """True once in so many times; Hypothesis is fond of the ends of a range, so not there."""
    return draw(st.integers(0, times - 1)) == times // 2


@st.composite
def boundaries(draw: st.DrawFn, rows: int) -> list[int]:
    """Packed sequences' boundaries over so many rows; once in five times wrong ones."""
    if rarely(draw, 5):
        extremes = (-(2**63), -1, 0, rows, rows + 1, 2**31, 2**62, 2**63 - 1)
        return draw(st.lists(st.sampled_from(extremes), max_size=4))
    return [0, *sorted(draw(st.lists(st.integers(0, rows), max_size=4))), rows]


def are_boundaries(values: list[int], rows: int) -> bool:
    """Whether they run from 0 to the number of rows without decreasing."""
    return bool(values) and values[0] == 0 and values[-1] == rows and sorted(values) == values
