"""Makes libraries loadable that need others, which this machine lacks: a CUDA build of torch without CUDA.

    python tools/stub_libraries.py FOLDER OUT

For every library that those in FOLDER need and this machine lacks, writes one into OUT under the same name,
with the same symbol versions, whose functions all return 100: what CUDA's say where there is no device.  No
GPU code can run; everything else can.
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
    """What libraries ask for and have, together."""

    libraries: set[str] = field(default_factory=set)
    # Symbols by the library that they are asked of and their version in it; plain ones are asked of all.
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
    # -w, -fno-builtin: some carry names that the compiler knows otherwise.
    options = ("-shared", "-fPIC", "-nostdlib", "-w", "-fno-builtin", f"-Wl,-soname,{name}")
    _output("cc", *options, f"-Wl,--version-script={versions_file}", "-o", out / name, code)


def write_stubs(folder: Path, out: Path) -> list[str]:
    """Write what the libraries in a folder lack here; returns the names.

    Raises FileNotFoundError where the folder holds no library.
    """
    libraries = sorted(folder.glob("*.so*"))
    if not libraries:
        raise FileNotFoundError(f"there is no library in {folder}")
    needs, installed = needs_of(libraries), _installed()
    missing = sorted(needs.libraries - {library.name for library in libraries} - installed.keys())
    here = needs_of(installed[name] for name in sorted(needs.libraries & installed.keys()))
    # Python's own come from the interpreter.
    nowhere = {s for s in needs.plain - needs.defined - here.defined if not re.match(r"_?Py", s)}
    out.mkdir(parents=True, exist_ok=True)
    for name in missing:
        # The loader looks for a symbol without a version in every library: any one of them will do.
        _compile(name, needs.versioned[name], nowhere if name == missing[0] else set(), out)
    return missing


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python tools/stub_libraries.py FOLDER OUT")
    try:
        print("\n".join(write_stubs(Path(sys.argv[1]), Path(sys.argv[2]))))
    except FileNotFoundError as error:
        sys.exit(f"stub_libraries: {error}")
