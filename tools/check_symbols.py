"""Refuse object files with weak symbols, because the linker could mix the instruction sets through them.

An inline function or template that is compiled outside the namespace of its instruction set becomes a weak
symbol.  The linker keeps only one copy of it: the one for AVX-512 or the one for the baseline.  If it keeps
the copy for AVX-512, the package may crash on processors without AVX-512.
Usage: python tools/check_symbols.py OBJECT...
"""

import subprocess
import sys

WEAK = "WVu"  # nm's letters: weak functions, weak data, unique data
HARMLESS = ("DW.ref.__gxx_personality_v0",)  # a pointer to a function of the C++ runtime, equal in all copies


def weak_symbols(nm_output: str) -> list[str]:
    """The defined weak symbols in the output of nm, without the harmless ones."""
    rows = [line.split(maxsplit=2) for line in nm_output.splitlines()]
    defined = [(row[1], row[2]) for row in rows if len(row) == 3]
    return [name for letter, name in defined if letter in WEAK and name not in HARMLESS]


def main() -> int:
    failures = 0
    for path in sys.argv[1:]:
        listing = subprocess.run(["nm", "-C", path], check=True, capture_output=True, text=True).stdout
        for name in weak_symbols(listing):
            print(f"{path}: {name} is a weak symbol; keep it in the instruction set's namespace")
            failures += 1
    print(f"{len(sys.argv) - 1} object files, {failures} weak symbols")
    return 1 if failures or len(sys.argv) == 1 else 0


if __name__ == "__main__":
    sys.exit(main())
