"""A figure of a benchmark: it compares ours with another contender, and says whether ours reaches the target.

This module imports only the standard library.
"""

from dataclasses import asdict, dataclass

from measuring import Spread

MILLISECONDS = 1e3, "ms"


@dataclass(frozen=True)
class Figure:
    """A comparison of ours with another contender.

    value: the comparison; None if the contender did not run, and then `note` says why.
    bar: the target of the value; None if there is none.
    at_most: whether the value must be at most, and not at least, the bar.
    reached: whether the target is reached, if that does not depend on the bar alone.
    unit: of the contenders' samples: (factor, name).
    value_unit: of the value, if figures of one benchmark differ in it.
    """

    ours: str
    beside: str
    value: Spread | None
    bar: float | None = None
    at_most: bool = False
    reached: bool | None = None
    unit: tuple = MILLISECONDS
    note: str = ""
    value_unit: str = ""

    def verdict(self):
        """Whether the target is reached; None if there is no target or no value."""
        if self.bar is None or self.value is None:
            return None
        if self.reached is not None:
            return self.reached
        return self.value.median <= self.bar if self.at_most else self.value.median >= self.bar


def as_json(result, figures):
    """The result of a case and its figures, as plain values."""
    return {
        "case": result.case,
        "took": {name: asdict(result.of(name)) for name in result.processes[0]},
        "figures": [
            {
                "ours": figure.ours,
                "beside": figure.beside,
                "value": figure.value and asdict(figure.value),
                "bar": figure.bar,
                "bar_is": "at most" if figure.at_most else "at least",
                "reached": figure.verdict(),
                "note": figure.note,
                **({"unit": figure.value_unit.strip()} if figure.value_unit else {}),
            }
            for figure in figures
        ],
    }
