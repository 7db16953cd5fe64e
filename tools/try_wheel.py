"""Installs a wheel into empty environments, away from the source tree and any compiler, and tries it there.

    python tools/try_wheel.py WHEEL [--torch auto|required|no]

Twice: with NumPy and what the command prints with, then with every dependency, torch among them, as
constraints.txt pins it.  The second is left out where there is no torch for this Python and machine, unless
it is required.  What is tried is in tests/installation/installed.py.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
TRIAL = ROOT / "tests" / "installation" / "installed.py"
PIP = ("-m", "pip", "--disable-pip-version-check", "-q")


class Environment:
    """An empty virtual environment, and commands in it that see no compiler and no other Python's modules."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"
        self.elsewhere = folder / "elsewhere"
        # PIP_NO_DEPS: cibuildwheel installs the wheel with it, since not everything may be to be had.
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "RECBLR_")) and name != "PIP_NO_DEPS"
        }
        self.variables = kept | {"PATH": str(self.python.parent), "COLUMNS": "100"}
        venv.create(folder, with_pip=True)
        self.elsewhere.mkdir()
        shutil.copy(TRIAL, self.elsewhere)

    def run(self, *arguments: str | Path, **options: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.python, *arguments],
            cwd=self.elsewhere,
            env=self.variables,
            text=True,
            check=False,
            **options,
        )

    def install(self, *packages: str | Path) -> None:
        if self.run(*PIP, "install", "--only-binary", ":all:", *packages).returncode:
            sys.exit(f"try_wheel: pip could not install {' '.join(map(str, packages))}")

    def offers(self, requirement: str) -> bool:
        """Whether there is a wheel for this Python and machine; pip itself says why not."""
        asked = ("download", "--only-binary", ":all:", "--no-deps", "-d", "offered", requirement)
        return self.run(*PIP, *asked).returncode == 0

    def try_it(self, variant: str) -> None:
        if self.run("-I", TRIAL.name, variant).returncode:
            sys.exit(f"try_wheel: the wheel failed {variant}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Install a wheel into empty environments and try it there.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--torch", choices=("auto", "required", "no"), default="auto")
    options = parser.parse_args()
    wheel = options.wheel.resolve()
    if not wheel.is_file():
        parser.error(f"{wheel} is not there: build it with `make wheel`")
    constraints = ROOT / "constraints.txt"
    (torch,) = (line for line in constraints.read_text().splitlines() if line.startswith("torch=="))
    print(f"{wheel.name} on Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory(prefix="try-wheel-") as folder:
        bare = Environment(Path(folder) / "without-torch")
        bare.install("numpy", "rich", "typer")
        bare.install("--no-deps", wheel)
        print("without torch:", flush=True)
        bare.try_it("without-torch")
        if options.torch == "no":
            return
        if options.torch == "auto" and not bare.offers(torch):
            print(f"with torch: not tried, as pip has no {torch} for this Python and machine")
            return
        whole = Environment(Path(folder) / "with-torch")
        whole.install("-c", constraints, wheel)
        print("with torch:", flush=True)
        whole.try_it("with-torch")


if __name__ == "__main__":
    main()
