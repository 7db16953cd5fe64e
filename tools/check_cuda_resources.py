"""Compiles the CUDA kernels for one architecture and refuses hot ones that spill registers or keep a stack.

    python tools/check_cuda_resources.py [--arch 90] [--out FILE.json] [SOURCE.cu...]

Either goes through memory, which is what the kernels are bound by.  Prints registers, shared memory and
the occupancy that follows, a row a kernel.  Needs nvcc and no GPU; where there is no nvcc, says so and
passes, as machines without it must.
"""

import argparse
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Kernels that may spill: those of float64 and complex numbers, which are for accuracy and not for speed, and
# the small ones that bring offsets into order.  Matched against the demangled name.
COLD = re.compile(r"\bdouble\b|Complex<|offsets")
# Threads of a block where a kernel has no __launch_bounds__ to tell.
ASSUMED_THREADS = 128


@dataclass(frozen=True)
class Multiprocessor:
    """What a multiprocessor has for all blocks on it."""

    warps: int
    blocks: int
    shared: int
    registers: int = 65536
    reserved: int = 1024  # bytes of shared memory that the system takes of each block


MULTIPROCESSORS = {
    75: Multiprocessor(32, 16, 64 << 10, reserved=0),
    80: Multiprocessor(64, 32, 164 << 10),
    86: Multiprocessor(48, 16, 100 << 10),
    89: Multiprocessor(48, 24, 100 << 10),
    90: Multiprocessor(64, 32, 228 << 10),
    100: Multiprocessor(64, 32, 228 << 10),
    120: Multiprocessor(48, 24, 100 << 10),
}


@dataclass(frozen=True)
class Kernel:
    """What ptxas says of a kernel; shared memory that is asked for at the launch is not in it."""

    name: str
    registers: int
    stack: int
    spill_stores: int
    spill_loads: int
    shared: int
    threads: int | None = None

    @property
    def hot(self) -> bool:
        return COLD.search(self.name) is None

    @property
    def problem(self) -> str:
        """Empty, or what a hot kernel must not have."""
        parts = {"stack": self.stack, "spill stores": self.spill_stores, "spill loads": self.spill_loads}
        return ", ".join(f"{size} bytes of {what}" for what, size in parts.items() if size)

    def occupancy(self, on: Multiprocessor) -> float:
        """Warps that are resident at once, as a share of the most that can be."""
        warps = -(-(self.threads or ASSUMED_THREADS) // 32)
        of_a_warp = -(-self.registers * 32 // 256) * 256
        by_registers = on.registers // of_a_warp // warps if of_a_warp else on.blocks
        a_block = self.shared + on.reserved
        by_shared = on.shared // a_block if a_block else on.blocks
        return min(on.blocks, on.warps // warps, by_registers, by_shared) * warps / on.warps


_ENTRY = re.compile(r"ptxas info\s*: Compiling entry function '(?P<name>[^']+)'")
_PROPERTIES = re.compile(r"ptxas info\s*: Function properties for '?(?P<name>[^']+?)'?\s*$")
_STACK = re.compile(
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads"
)
_USED = re.compile(r"ptxas info\s*: Used (?P<registers>\d+) registers(?P<rest>.*)")
_SHARED = re.compile(r"(\d+) bytes smem")


def parse(text: str) -> list[Kernel]:
    """The kernels in what `ptxas -v` prints, by mangled name; functions that kernels call are left out.

    Raises ValueError where a kernel is begun and not told of in full: the format has changed.
    """
    kernels, entry, of, memory = [], None, None, None
    for line in text.splitlines():
        if found := _ENTRY.search(line):
            if entry is not None:
                raise ValueError(f"ptxas did not say what {entry} uses")
            entry, memory = found["name"], None
        elif found := _PROPERTIES.search(line):
            of = found["name"]
        elif (found := _STACK.search(line)) and of == entry:
            memory = tuple(int(found[part]) for part in ("stack", "stores", "loads"))
        elif (found := _USED.search(line)) and entry is not None:
            if memory is None:
                raise ValueError(f"ptxas did not say whether {entry} spills")
            shared = _SHARED.search(found["rest"])
            kernels.append(Kernel(entry, int(found["registers"]), *memory, int(shared[1]) if shared else 0))
            entry = None
    if entry is not None:
        raise ValueError(f"ptxas did not say what {entry} uses")
    return kernels


def threads_of(ptx: str) -> dict[str, int]:
    """Threads of a block, for kernels whose PTX tells of __launch_bounds__."""
    found = {}
    for entry in re.split(r"^(?:\.visible |\.weak )?\.entry ", ptx, flags=re.MULTILINE)[1:]:
        head = entry.partition("{")[0]
        bounds = re.search(r"\.(?:max|req)ntid ([\d, ]+)", head)
        if bounds:
            found[re.match(r"[\w$]+", head)[0]] = math.prod(int(size) for size in bounds[1].split(","))
    return found


def demangled(names: list[str]) -> dict[str, str]:
    """Names as people write them, without the return type, parameters and our own namespaces."""
    tool = shutil.which("c++filt")
    if tool is None or not names:
        return {name: name for name in names}
    done = subprocess.run(
        [tool, "--no-params"], input="\n".join(names), capture_output=True, text=True, check=True
    )
    plain = re.compile(r"^void |recblr::(cuda::)?|\(anonymous namespace\)::")
    return {name: plain.sub("", line) for name, line in zip(names, done.stdout.splitlines(), strict=True)}


def compiled(nvcc: str, source: Path, architecture: int) -> list[Kernel]:
    """The kernels of a source."""
    with tempfile.TemporaryDirectory(prefix="cuda-check-") as folder:
        roots = [f"-I{ROOT / root}" for root in ("cpp", "cuda")]
        options = ["-std=c++17", "-O3", f"-arch=sm_{architecture}", *roots, "-Xptxas=-v"]
        options += ["--keep", f"--keep-dir={folder}"]
        done = subprocess.run(
            [nvcc, "-cubin", *options, "-o", f"{folder}/out.cubin", source],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{source} does not compile:\n{done.stdout}{done.stderr}")
        kernels = parse(done.stdout + done.stderr)
        threads: dict[str, int] = {}
        for ptx in Path(folder).glob("*.ptx"):
            threads |= threads_of(ptx.read_text(encoding="utf-8"))
    names = demangled([kernel.name for kernel in kernels])
    return [
        Kernel(**(asdict(kernel) | {"name": names[kernel.name], "threads": threads.get(kernel.name)}))
        for kernel in kernels
    ]


def report(kernels: list[Kernel], architecture: int) -> tuple[str, list[str]]:
    """The table, and a sentence for every hot kernel that is not as it must be."""
    on = MULTIPROCESSORS[architecture]
    header = ("registers", "threads", "shared", "occupancy", "", "kernel")
    rows = [header] + [
        (
            str(kernel.registers),
            str(kernel.threads) if kernel.threads else f"({ASSUMED_THREADS})",
            str(kernel.shared),
            f"{kernel.occupancy(on):.0%}",
            kernel.problem,
            kernel.name,
        )
        for kernel in sorted(kernels, key=lambda kernel: kernel.name)
    ]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    lines = [
        "  ".join([*(row[i].rjust(widths[i]) for i in range(4)), row[4].ljust(widths[4]), row[5]])
        for row in rows
    ]
    wrong = [f"{kernel.name} has {kernel.problem}" for kernel in kernels if kernel.hot and kernel.problem]
    return "\n".join(lines), wrong


def find_nvcc() -> str | None:
    """nvcc, where CMake would find it."""
    places = [
        str(Path(os.environ[name]) / "bin") for name in ("CUDA_PATH", "CUDA_HOME") if name in os.environ
    ]
    path = os.pathsep.join([os.environ.get("PATH", ""), *places, "/usr/local/cuda/bin"])
    return os.environ.get("CUDACXX") or shutil.which("nvcc", path=path)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="*", type=Path, metavar="SOURCE.cu")
    parser.add_argument("--arch", type=int, default=90, choices=MULTIPROCESSORS)
    parser.add_argument("--out", type=Path, metavar="FILE.json")
    options = parser.parse_args()
    nvcc = find_nvcc()
    if nvcc is None:
        print("cuda-check: there is no nvcc here, so that the CUDA kernels were neither compiled nor checked")
        return 0
    sources = options.sources or sorted((ROOT / "cuda").glob("*.cu"))
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found = list(pool.map(lambda source: compiled(nvcc, source, options.arch), sources))
    kernels = [kernel for each in found for kernel in each]
    table, wrong = report(kernels, options.arch)
    print(table)
    if options.out:
        on = MULTIPROCESSORS[options.arch]
        rows = [asdict(kernel) | {"hot": kernel.hot, "occupancy": kernel.occupancy(on)} for kernel in kernels]
        options.out.write_text(json.dumps({"architecture": options.arch, "kernels": rows}, indent=1) + "\n")
    print(
        f"cuda-check: {len(kernels)} kernels for sm_{options.arch}, {len(wrong)} hot ones go through memory"
    )
    for sentence in wrong:
        print(f"cuda-check: {sentence}", file=sys.stderr)
    if sources and not any(kernel.hot for kernel in kernels):
        print("cuda-check: no kernel is hot: COLD matches too much", file=sys.stderr)
        return 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
