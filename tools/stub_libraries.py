"""Write stub libraries, so that a library can be loaded on a machine that lacks some libraries that it needs.

    python tools/stub_libraries.py FOLDER OUT

With stubs, a CUDA build of torch can be loaded without CUDA.  For every library that the libraries in FOLDER
need and this machine lacks, the program writes a stub into OUT, with the same name and the same symbol
versions.  All functions of a stub return 100, the error code of CUDA for a missing device.  GPU code cannot
run; everything else can.
"""

import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

NO_DEVICE = 100  # cudaErrorNoDevice, CUDA_ERROR_NO_DEVICE


@dataclass
class Needs:
    """The libraries and symbols that a group of libraries needs, and the symbols that it defines."""

    libraries: set[str] = field(default_factory=set)
    # Needed symbols: library -> version -> names.  A symbol without a version may come from any library.
    versioned: dict[str, dict[str, set[str]]] = field(
        default_factory=lambda: defaultdict(lambda: defaultdict(set))
    )
    plain: set[str] = field(default_factory=set)
    defined: set[str] = field(default_factory=set)


def _output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def needs_of(libraries: Iterable[Path]) -> Needs:
    """Read the dynamic symbols of libraries."""
    needs = Needs()
    for library in libraries:
        headers = _output("objdump", "-p", library)
        needs.libraries |= set(re.findall(r"^  NEEDED +(\S+)", headers, re.MULTILINE))
        source = {}  # version -> the library that defines it
        for name, block in re.findall(r"^  required from (\S+):\n((?:    0x.*\n)*)", headers, re.MULTILINE):
            source |= dict.fromkeys(re.findall(r"(\S+)\n", block), name)
        for line in _output("nm", "-D", library).splitlines():
            kind, name = line.split()[-2:]
            symbol, _, version = name.partition("@")
            if kind == "U" and version:
                needs.versioned[source[version]][version].add(symbol)
            elif kind == "U":
                needs.plain.add(symbol)
            elif kind not in "wv":
                needs.defined.add(symbol)
    return needs


def _installed() -> dict[str, Path]:
    """The libraries that the loader finds on this machine, by name."""
    lines = re.findall(r"^\s+(\S+) \(.*=> (\S+)$", _output("/sbin/ldconfig", "-p"), re.MULTILINE)
    return {name: Path(path) for name, path in lines}


def _compile(name: str, versions: dict[str, set[str]], plain: set[str], out: Path) -> None:
    symbols = set.union(plain, *versions.values())
    code, versions_file = out / f"{name}.c", out / f"{name}.map"
    code.write_text("".join(f"long {symbol}(void) {{ return {NO_DEVICE}; }}\n" for symbol in sorted(symbols)))
    named = "".join(f"{v} {{ global: {'; '.join(sorted(s))}; }};\n" for v, s in sorted(versions.items()))
    versions_file.write_text(named or "{ global: *; };\n")
    # -w, -fno-builtin: some functions have the names of the compiler's built-in functions.
    options = ("-shared", "-fPIC", "-nostdlib", "-w", "-fno-builtin", f"-Wl,-soname,{name}")
    _output("cc", *options, f"-Wl,--version-script={versions_file}", "-o", out / name, code)


def write_stubs(folder: Path, out: Path) -> list[str]:
    """Write a stub for each library that is missing on this machine; return their names.

    Raises FileNotFoundError if the folder contains no library.
    """
    libraries = sorted(folder.glob("*.so*"))
    if not libraries:
        raise FileNotFoundError(f"there is no library (*.so*) in {folder}")
    needs, installed = needs_of(libraries), _installed()
    missing = sorted(needs.libraries - {library.name for library in libraries} - installed.keys())
    found = needs_of(installed[name] for name in sorted(needs.libraries & installed.keys()))
    # The interpreter defines Python's own symbols.
    undefined = {s for s in needs.plain - needs.defined - found.defined if not re.match(r"_?Py", s)}
    out.mkdir(parents=True, exist_ok=True)
    for name in missing:
        # The loader looks for a symbol without a version in every library, so the first stub can define them.
        _compile(name, needs.versioned[name], undefined if name == missing[0] else set(), out)
    return missing


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python tools/stub_libraries.py FOLDER OUT")
    try:
        print("\n".join(write_stubs(Path(sys.argv[1]), Path(sys.argv[2]))))
    except FileNotFoundError as error:
        sys.exit(f"stub_libraries: {error}")
