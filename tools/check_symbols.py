"""Refuse object files of an instruction set that hold a function which the linker may take for another's.

An inline function or template that is compiled outside of the instruction set's namespace becomes a weak
symbol: of the copies for AVX-512 and for the baseline, the linker keeps either, and the package may crash.
Usage: python tools/check_symbols.py OBJECT...
"""

import subprocess
import sys

WEAK = "WVu"  # nm's letters: weak functions, weak data, unique data
HARMLESS = ("DW.ref.__gxx_personality_v0",)  # a pointer to the runtime's own function, the same in every copy


def weak_symbols(nm_output: str) -> list[str]:
    """The defined weak symbols in what nm prints, less those that are harmless."""
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
