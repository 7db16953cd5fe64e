"""Install a wheel into empty environments, without the source tree and without a compiler, and test it there.

    python tools/try_wheel.py WHEEL [--torch auto|required|no]

There are three environments.  The first has what docs/serving.md names for a server.  The second has NumPy,
rich and typer, and no torch.  The third has all dependencies, with the versions of constraints.txt.  With
--torch auto, the third is left out if torch has no wheel for this Python and machine.  The tests are in
tests/installation/installed.py.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTS = ROOT / "tests" / "installation" / "installed.py"
# docs/serving.md shows these lines, and the first environment is made with them.
SERVER = """
# [image]
pip install numpy safetensors
pip install --no-deps recblr
# [/image]
"""
# docs/server.md shows these.  They come on top of the first environment.
SERVE = """
# [serve]
pip install numpy safetensors rich typer
pip install httptools lmdb msgspec prometheus-client redis uvicorn uvloop
pip install --no-deps recblr
# [/serve]
"""
PIP = ("-m", "pip", "--disable-pip-version-check", "-q")


class Environment:
    """An empty virtual environment; its commands see no compiler and no modules of another Python."""

    def __init__(self, folder: Path) -> None:
        self.python = folder / "bin" / "python"
        self.elsewhere = folder / "elsewhere"
        # cibuildwheel sets PIP_NO_DEPS, because some dependencies may not be available for its Python.
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("PYTHON", "RECBLR_")) and name != "PIP_NO_DEPS"
        }
        self.variables = kept | {"PATH": str(self.python.parent), "COLUMNS": "100"}
        venv.create(folder, with_pip=True)
        self.elsewhere.mkdir()
        shutil.copy(TESTS, self.elsewhere)

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
        """Whether pip has a wheel for this Python and machine; if not, pip prints the reason."""
        download = ("download", "--only-binary", ":all:", "--no-deps", "-d", "offered", requirement)
        return self.run(*PIP, *download).returncode == 0

    def test(self, variant: str) -> None:
        if self.run("-I", TESTS.name, variant).returncode:
            sys.exit(f"try_wheel: the wheel failed its tests ({variant})")


def installs(shown: str) -> list[list[str]]:
    """What pip is told to install, line by line."""
    lines = [shlex.split(line, comments=True) for line in shown.splitlines()]
    return [words[2:] for words in lines if words[:2] == ["pip", "install"]]


def main() -> None:
    parser = argparse.ArgumentParser(description="Install a wheel into empty environments and test it there.")
    parser.add_argument("wheel", type=Path)
    parser.add_argument("--torch", choices=("auto", "required", "no"), default="auto")
    options = parser.parse_args()
    wheel = options.wheel.resolve()
    if not wheel.is_file():
        parser.error(f"{wheel} does not exist: build it with `make wheel`")
    constraints = ROOT / "constraints.txt"
    (torch,) = (line for line in constraints.read_text().splitlines() if line.startswith("torch=="))
    print(f"{wheel.name} on Python {sys.version.split()[0]}")
    with tempfile.TemporaryDirectory(prefix="try-wheel-") as folder:
        server = Environment(Path(folder) / "server")
        for words in installs(SERVER):
            server.install(*(wheel if word == "recblr" else word for word in words))
        print("on a server:", flush=True)
        server.test("server")
        for words in installs(SERVE):
            server.install(*(wheel if word == "recblr" else word for word in words))
        print("as a server:", flush=True)
        server.test("serve")
        bare = Environment(Path(folder) / "without-torch")
        bare.install("numpy", "rich", "typer")
        bare.install("--no-deps", wheel)
        print("without torch:", flush=True)
        bare.test("without-torch")
        if options.torch == "no":
            return
        if options.torch == "auto" and not bare.offers(torch):
            print(f"with torch: not tested, because pip has no {torch} for this Python and machine")
            return
        complete = Environment(Path(folder) / "with-torch")
        complete.install("-c", constraints, wheel)
        print("with torch:", flush=True)
        complete.test("with-torch")


if __name__ == "__main__":
    main()
