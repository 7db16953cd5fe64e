"""Measure the kernels, with one process for each shape: first ours and a copy for all shapes, then the peers.

This program imports only the standard library.  A process writes each figure at once, so that a process that
fails or hangs loses only the figures that it has not measured yet.  The process of the next shape starts
early, while the current one measures, and waits for its turn.  benchmarks/gpu.py runs this program.
"""

import argparse
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

HERE = Path(__file__).parent
# Batch × time × channels, or packed rows × channels.  The largest comes last, because time may run out.
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
LOST_STATUS = 70  # the exit status of a process when a contender has made its GPU unusable
MOST = 45  # seconds for one shape in one pass, at most
DRAWING = 10  # seconds for the picture, at most
COMPILED = "accelerated_scan"  # a peer that compiles for almost a minute when it is first imported


def main(lines, picture, seconds, quick):
    """Write `lines` (JSON, one line for each case) and draw `picture`, within `seconds`."""
    end = perf_counter() + seconds - DRAWING
    compiling = _start("-c", f"import {COMPILED}.warp, {COMPILED}.scalar") if find_spec(COMPILED) else None
    shapes = QUICK if quick else SHAPES
    words = ["--quick"] * quick
    _pass(OURS, shapes, lines, end, words)
    # Wait for the compiler for at most half of the remaining time; the other peers need the rest.
    if compiling and not _ends_in_time(compiling, (end - perf_counter()) / 2):
        words = [*words, "--without", COMPILED]
    _pass(PEERS, shapes, lines, end, words)
    drawing = _start(HERE / "gpu_picture.py", lines, picture)
    if not _ends_in_time(drawing, DRAWING) or drawing.returncode:
        print("the picture could not be drawn, see above")


def _pass(which, shapes, lines, end, words):
    """Measure every shape.  When a process ends, the next one has already started and waits for its turn."""
    waiting = None
    for index, shape in enumerate(shapes):
        if perf_counter() >= end:
            print(f"{which}: no time was left for {', '.join(shapes[index:])}")
            break
        process = waiting or _measuring(which, shape, lines, words)
        waiting = _measuring(which, shapes[index + 1], lines, words) if index + 1 < len(shapes) else None
        started = perf_counter()
        while (done := _takes_its_turn(process, started, end)) and process.returncode == LOST_STATUS:
            # The new process leaves out the contender that made the GPU unusable.
            process = _measuring(which, shape, lines, words)
        if not done:
            print(f"{which}, {shape}: stopped after {perf_counter() - started:.0f} s, before it was done")
        elif process.returncode:
            print(f"{which}, {shape}: failed with status {process.returncode}, see above")
    if waiting:
        _ends_in_time(waiting, 0)


def _takes_its_turn(process, started, end):
    """Let a waiting process measure; return whether it ended in time."""
    process.stdin.close()
    return _ends_in_time(process, min(started + MOST, end) - perf_counter())


def _measuring(which, shape, lines, words):
    return _start(HERE / "gpu_kernels.py", which, shape, lines, *words, stdin=subprocess.PIPE)


def _start(*words, stdin=subprocess.DEVNULL):
    sys.stdout.flush()
    return subprocess.Popen([sys.executable, *map(str, words)], stdin=stdin)


def _ends_in_time(process, seconds):
    """Wait for a process for some seconds, then kill it; return whether it ended by itself."""
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
