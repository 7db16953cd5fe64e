"""Breaks copies of the CUDA kernels in small ways, one at a time, and checks that the tests on the host fail.

    mutants.py COMPILER [--only FILE] [--every N]

Tries every N-th mutant.  With RECBLR_THOROUGH in the environment it tries all of them, as `make mutants`
does.  Fails if a tried mutant passes its test or does not compile, if the text of any mutant is not found
exactly once, or if a test fails without a mutant.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = ("-std=c++17", "-O0", "-w", "-ffp-contract=fast", "-pthread", "-DRECBLR_REDUCED")
SECONDS = 60  # a mutant that runs longer counts as found
# Every test includes these, and no mutant changes them.  Compiling them once saves a third of the time.
HEADERS = "sys/mman.h algorithm cmath complex cstdint cstdio cstdlib cstring memory random type_traits vector"


class Mutant(NamedTuple):
    what: str
    file: str  # in cuda/
    old: str  # found exactly once in the file
    new: str
    test: str = "scan"


WARPS, SPLIT, SEGMENTS, ROWS = "scan_warps.cuh", "scan_split.cuh", "segments.cuh", "scan_rows.cuh"
CELLS, OFFSETS, MEMORY, LIMITS = "scan_cells.cuh", "offsets.cuh", "memory.cuh", "scan_limits"
LIMIT, APART = "shared_limit.h", "f(Number<2>(), Number<1>())"
CONV, OF_CONV, BDLRU = "causal_conv1d.cuh", "causal_conv1d", "bdlru"
OVER = "step_over(product[k], carry[k], from_zero[k])"
OVER_ALL = "multiply_add(product[k], carry[k], from_zero[k])"
INDEX = "static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x"
NEXT = "stage_ + 1 == kStages ? 0 : stage_ + 1,"
TILES = "(walk.length + kTileSteps - 1) / kTileSteps"
START = "start(stage_, fetch);\n    stage_ = "

MUTANTS = [
    Mutant("no barrier", WARPS, "    __syncthreads();\n", ""),
    Mutant("one buffer for all tiles", WARPS, "turn ^= 1", "turn ^= 0"),
    Mutant("product and result swapped", WARPS, OVER, "step_over(from_zero[k], carry[k], product[k])"),
    Mutant("zero times an overflowing product", WARPS, OVER, OVER_ALL, LIMITS),
    Mutant("state of the previous chunk", WARPS, "if (n == chunk)", "if (n + 1 == chunk)"),
    Mutant("tail a step short", WARPS, "first + n < length) cell.run", "first + n + 1 < length) cell.run"),
    Mutant("last tile not fetched", WARPS, TILES, "walk.length / kTileSteps"),
    Mutant("final from another chunk", WARPS, "kChunkSteps < length", "kChunkSteps <= length"),
    Mutant("idle packs do work", WARPS, "length = idle ? 0 : walk.length", "length = walk.length"),
    Mutant("state not carried", SPLIT, "step_over(in[0].at[k], state[k], in[1].at[k])", "in[1].at[k]"),
    Mutant("carried in the other direction", SPLIT, "w.against ? first", "!w.against ? first"),
    Mutant("initial state forgotten", SPLIT, "load_state(w.start, s,", "load_state(View<const A>{}, s,"),
    Mutant("segments from the wrong end", SEGMENTS, "cut.reverse ? first", "!cut.reverse ? first"),
    Mutant("last segment too long", SEGMENTS, "all - done < cut.steps ? all - done :", ""),
    Mutant("no segment for a remainder", SEGMENTS, "(of + steps - 1) / steps : 1", "of / steps : 1"),
    Mutant("no reset at a sequence's start", SEGMENTS, "offsets ? s + offsets[s] / steps", "offsets ? s"),
    Mutant("every segment begins", SEGMENTS, "part.begins = n == 0", "part.begins = true"),
    Mutant("offsets beyond the rows", OFFSETS, "value > rows ? rows : value", "value"),
    Mutant("offsets out of order", OFFSETS, "to[i] = largest", "to[i] = value"),
    Mutant("uncovered rows not zeroed", OFFSETS, "n < before ? n : n + covered", "n"),
    Mutant("no wait for copies", MEMORY, "copy_async_wait<kStages - 2>", "copy_async_wait<kStages - 1>"),
    Mutant("last step not fetched", MEMORY, "if (fetched_ < length_)", "if (fetched_ + 1 < length_)"),
    Mutant("fills the stage being read", MEMORY, START, START.replace("stage_,", NEXT)),
    Mutant("state of the same step, not the previous one", CELLS, "h_.step(t + 1)", "h_.step(t)"),
    Mutant("initial in every segment", CELLS, "walk.begins ? walk.length - 1 : -1", "walk.length - 1"),
    Mutant("initial state of one sequence for all", ROWS, "starts(w), index,", "starts(w), 0,"),
    Mutant("final from every segment", ROWS, "if (Cell::ends(walk)) store", "store"),
    Mutant("packs of misaligned rows", "packs.h", "v.time % n == 0", "true"),
    Mutant("asks for no memory", "launch.h", "count > 0 ? count : 1", "count", BDLRU),
    Mutant("addresses decide the rows", "bdlru.cu", APART, APART.replace("2", "1"), BDLRU),
    Mutant("a misaligned pair", "bdlru.cu", "(packs_fit(e, views, 2) && ...)", "true", BDLRU),
    Mutant("a limit that follows sizes", LIMIT, "driver.set(most)", "driver.set(int(bytes))", "shared_limit"),
    Mutant("one device's limit for all", LIMIT, "std::uint64_t{1} << device", "1", "shared_limit"),
    Mutant("32-bit index", "device.cuh", INDEX, "blockIdx.x * blockDim.x + threadIdx.x", LIMITS),
    Mutant("sums into a ring in use", CONV, "  if (kWidth) __syncthreads();\n", "", OF_CONV),
    Mutant("sums read too early", CONV, "sums(width));\n  __syncthreads();", "sums(width));", OF_CONV),
    Mutant("copies arrive among sums", CONV, "    copy_async_wait<0>();", "", OF_CONV),
    Mutant("sums include the next tile", CONV, "if (row < rows) {", "if (true) {", OF_CONV),
    Mutant("one row too few after a tile", CONV, "reach = rows + past,", "reach = rows + past / 2,", OF_CONV),
    Mutant("last inputs forgotten", CONV, "lag = 0; lag < past;", "lag = 0; lag + 1 < past;", OF_CONV),
    Mutant("final state a row early", CONV, "if (row + 1 == stop", "if (row + 2 == stop", OF_CONV),
    Mutant("initial state a row late", CONV, "if (back <= step)", "if (back < step)", OF_CONV),
    Mutant("no adjoint of final", CONV, "lag >= 0 && w.dfinal", "lag > 0 && w.dfinal", OF_CONV),
    Mutant("empty sequences skipped", "causal_conv1d.cu", "!e.offsets && e.length > 0", "true", OF_CONV),
    Mutant("no seam between sequences", "rows.cuh", "seam ? seam_ : time_", "time_", OF_CONV),
    Mutant("another sequence's row", "rows.cuh", "high - low > 1", "high - low > 2", OF_CONV),
    Mutant("tile of uncovered rows", "rows.cuh", "    if (end > last) end = last;\n", "", OF_CONV),
    Mutant("window not turned", "window.cuh", "row : row - width_", "row : 0", OF_CONV),
    Mutant("a part of a sum lost", "sums.cuh", "row < end; ++row", "row + 1 < end; ++row", OF_CONV),
    Mutant("a length for all rows: offsets", OFFSETS, "count, extent.rows}", "count, extent.length}"),
    Mutant("a length for all rows: uncovered", OFFSETS, "behind = e.rows", "behind = e.length"),
    Mutant("a length for all rows: segments", SEGMENTS, "sequences + rows", "sequences + length"),
    Mutant("a length for all rows: packs", "packs.h", "(e.offsets ? e.rows : e.length)", "e.length"),
    Mutant("a length for all rows: tiles", "causal_conv1d.cu", "out(e.rows", "out(e.length", OF_CONV),
    Mutant("a length for all rows: pieces", "bdlru.cu", "(e.rows + cuts", "(e.length + cuts", BDLRU),
    Mutant("all rows for a length", "rows.cuh", "row / e.length", "row / e.rows", OF_CONV),
    Mutant("all rows for a length: segments", SEGMENTS, "offsets[s] : length", "offsets[s] : rows"),
    Mutant("sums divided by packs", "tiles.h", "channels / widest, groups", "channels / pack, groups",
           OF_CONV),
]  # fmt: skip


def compiled_headers(compiler: str, folder: Path) -> Path:
    """A compiled header that includes HEADERS.  If this fails, the tests include it as text."""
    header = folder / "headers.h"
    header.write_text("".join(f"#include <{name}>\n" for name in HEADERS.split()))
    command = [compiler, *OPTIONS, "-x", "c++-header", str(header), "-o", f"{header}.gch"]
    subprocess.run(command, capture_output=True)
    return header


def outcome(compiler: str, headers: Path, folder: Path, test: str) -> str:
    """Return 'passes', 'fails' or 'does not compile' for a test in a copy of the tree."""
    source, program = folder / "tests/cuda_on_host" / f"test_{test}.cpp", folder / test
    roots = [f"-I{folder / root}" for root in ("cpp", "cuda", "tests/cpp", "tests/cuda_on_host")]
    command = [compiler, *OPTIONS, *roots, "-include", str(headers), str(source), "-o", str(program)]
    if subprocess.run(command, capture_output=True).returncode:
        return "does not compile"
    try:
        status = subprocess.run([str(program)], capture_output=True, timeout=SECONDS).returncode
    except subprocess.TimeoutExpired:
        return "fails"
    return "fails" if status else "passes"


def copied(folder: Path) -> Path:
    for part in ("cpp/core", "cuda", "tests/cpp", "tests/cuda_on_host"):
        shutil.copytree(ROOT / part, folder / part)
    return folder


def complaint(compiler: str, headers: Path, mutant: Mutant) -> str | None:
    with tempfile.TemporaryDirectory() as name:
        path = copied(Path(name)) / "cuda" / mutant.file
        path.write_text(path.read_text().replace(mutant.old, mutant.new))
        found = outcome(compiler, headers, Path(name), mutant.test)
        return None if found == "fails" else found


def times(mutant: Mutant) -> int:
    """Return how often the text of a mutant is found in its file."""
    return (ROOT / "cuda" / mutant.file).read_text().count(mutant.old)


def unbroken(compiler: str, headers: Path, test: str) -> str | None:
    with tempfile.TemporaryDirectory() as name:
        found = outcome(compiler, headers, copied(Path(name)), test)
        return None if found == "passes" else found


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("compiler")
    parser.add_argument("--only", metavar="FILE", help="mutants of one file in cuda/")
    parser.add_argument("--every", metavar="N", type=int, default=1)
    arguments = parser.parse_args()
    every = 1 if "RECBLR_THOROUGH" in os.environ else arguments.every
    chosen = [m for m in MUTANTS if arguments.only in (None, m.file)][::every]
    tests = sorted({m.test for m in chosen})
    with (
        tempfile.TemporaryDirectory() as name,
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
    ):
        with_these = (arguments.compiler, compiled_headers(arguments.compiler, Path(name)))
        whole = pool.map(lambda test: unbroken(*with_these, test), tests)
        broken = pool.map(lambda mutant: complaint(*with_these, mutant), chosen)
        bad = [f"{m.file}, {m.what}: the text is found {times(m)} times" for m in MUTANTS if times(m) != 1]
        bad += [f"{test}, without a mutant: {c}" for test, c in zip(tests, whole, strict=True) if c]
        bad += [f"{m.file}, {m.what}: {c}" for m, c in zip(chosen, broken, strict=True) if c]
    print("\n".join([*bad, f"{len(chosen)} mutants, {len(bad)} complaints"]))
    return bool(bad)


if __name__ == "__main__":
    sys.exit(main())
