"""Draw the figures of the kernels; benchmarks/gpu_shapes.py measures them and runs this program."""

import sys
from pathlib import Path

from figure import Figure
from gpu_report import json_lines
from measuring import Result, Spread
from reporting import draw_bars, draw_picture

TITLE = "Share of the speed of a copy of the same size (dotted line: the target)"


def main(lines, picture):
    """Draw every figure that has a bar and a value, and that compares with a copy."""
    results, shown = [], []
    for record in json_lines(lines):
        if "figures" not in record:
            continue
        results.append(Result(record["case"], []))
        shown.append(
            [
                Figure(f["ours"], f["beside"], Spread(**f["value"]), f["bar"])
                for f in record["figures"]
                if f["value"] and f["bar"] and f["beside"] == "copy"
            ]
        )
    if any(shown):
        draw_picture(picture, TITLE, draw_bars, results, shown, "share of a copy's speed")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
