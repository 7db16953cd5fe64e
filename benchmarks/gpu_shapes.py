"""Measure the kernels shape by shape, a process each: first ours beside a copy for all shapes, then peers.

Imports only the standard library.  A shape's process writes its figures as it goes, so that one that fails or
hangs costs only what it had still to do.  The next shape's process starts while this one measures, and waits.
Run by benchmarks/gpu.py.
"""

import argparse
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

HERE = Path(__file__).parent
# Batch × time × channels, or packed rows × channels.  The largest last, where time may run out.
SHAPES = (
    "2048×50×128",
    "2048×200×128",
    "512×1000×128",
    "packed 400000×128",
    "8×2048×1536",
    "8×16384×1536",
    "1×262144×512",
    "8×65536×1536",
)
QUICK = "4×64×16", "packed 300×16"
OURS, PEERS, LOST = "ours", "peers", "lost"
LOST_STATUS = 70  # of a process whose GPU a contender has left unusable
MOST = 45  # seconds that one shape may take of a pass
DRAWING = 10  # seconds
COMPILED = "accelerated_scan"  # a peer that compiles for most of a minute when it is first imported


def main(lines, picture, seconds, quick):
    """Fill `lines` (JSON, a line a case) and draw `picture` within so many seconds."""
    end = perf_counter() + seconds - DRAWING
    compiling = _start("-c", f"import {COMPILED}.warp, {COMPILED}.scalar") if find_spec(COMPILED) else None
    shapes = QUICK if quick else SHAPES
    words = ["--quick"] * quick
    _pass(OURS, shapes, lines, end, words)
    # Wait for the compiler for half of the time that is left; the other peers need the rest.
    if compiling and not _ends(compiling, (end - perf_counter()) / 2):
        words = [*words, "--without", COMPILED]
    _pass(PEERS, shapes, lines, end, words)
    drawing = _start(HERE / "gpu_picture.py", lines, picture)
    if not _ends(drawing, DRAWING) or drawing.returncode:
        print("the picture could not be drawn, see above")


def _pass(which, shapes, lines, end, words):
    """Measure every shape; the next process is ready, and waits for its turn, when one ends."""
    waiting = None
    for place, shape in enumerate(shapes):
        if perf_counter() >= end:
            print(f"{which}: no time was left for {', '.join(shapes[place:])}")
            break
        process = waiting or _measuring(which, shape, lines, words)
        waiting = _measuring(which, shapes[place + 1], lines, words) if place + 1 < len(shapes) else None
        started = perf_counter()
        while not (late := not _takes_its_turn(process, started, end)) and process.returncode == LOST_STATUS:
            process = _measuring(
                which, shape, lines, words
            )  # goes on without the contender that lost the GPU
        if late:
            print(f"{which}, {shape}: ended after {perf_counter() - started:.0f} s, before it was done")
        elif process.returncode:
            print(f"{which}, {shape}: failed with {process.returncode}, see above")
    if waiting:
        _ends(waiting, 0)


def _takes_its_turn(process, started, end):
    process.stdin.close()
    return _ends(process, min(started + MOST, end) - perf_counter())


def _measuring(which, shape, lines, words):
    return _start(HERE / "gpu_kernels.py", which, shape, lines, *words, stdin=subprocess.PIPE)


def _start(*words, stdin=subprocess.DEVNULL):
    sys.stdout.flush()
    return subprocess.Popen([sys.executable, *map(str, words)], stdin=stdin)


def _ends(process, seconds):
    """Whether it ends by itself within so many seconds; where not, it is killed."""
    try:
        process.wait(max(0, seconds))
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return False
    return True


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lines", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--quick", action="store_true")
    main(**vars(parser.parse_args()))
