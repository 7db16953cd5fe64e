"""A figure: how ours compares with what is beside it, and whether that reaches the bar.

Imports only the standard library.
"""

from dataclasses import asdict, dataclass

from measuring import Spread

MILLISECONDS = 1e3, "ms"


@dataclass(frozen=True)
class Figure:
    """Ours beside another, and how they compare; a value of None is a contender that did not run, and why.

    bar: what the value is to reach, at least (or at most, as `at_most` says).  reached: where that is not
    for the bar alone to say.
    """

    ours: str
    beside: str
    value: Spread | None
    bar: float | None = None
    at_most: bool = False
    reached: bool | None = None
    unit: tuple = MILLISECONDS
    note: str = ""

    def verdict(self):
        """Whether the bar is reached; None where there is none."""
        if self.bar is None or self.value is None:
            return None
        if self.reached is not None:
            return self.reached
        return self.value.median <= self.bar if self.at_most else self.value.median >= self.bar


def as_json(result, figures):
    """A case's result and its figures as plain values."""
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
            }
            for figure in figures
        ],
    }
