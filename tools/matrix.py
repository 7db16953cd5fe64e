"""Runs the operators' and layers' tests on one wheel under several versions of torch, and prints a table.

    python tools/matrix.py WHEEL VERSION...

Fetches the torch wheels alone, not what they depend on (0.2 to 1 GB each), into RECBLR_TORCH_CACHE (by
default recblr/torch in the user's cache folder), and keeps them there, unpacked.  A CUDA build gets stubs
for the libraries that this machine lacks: no GPU is needed, and none is used.  pytest, Hypothesis and what
torch imports come from the environment that runs this.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
import zipfile
from dataclasses import dataclass
from pathlib import Path

from packaging.tags import sys_tags
from packaging.utils import parse_wheel_filename
from packaging.version import Version
from stub_libraries import write_stubs

ROOT = Path(__file__).parents[1]
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "recblr" / "torch"
TESTS = ("tests/ops", "tests/nn")
PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "-q")


@dataclass(frozen=True)
class Outcome:
    """What pytest said under one torch."""

    torch: str
    passed: int
    failed: int
    skipped: int
    seconds: float


def pip(*arguments: str | Path) -> None:
    """Run pip; end here where it fails, which it has told why."""
    if subprocess.run([*PIP, *arguments], check=False).returncode:
        sys.exit(f"matrix: pip {' '.join(map(str, arguments))} failed")


def torch_wheel(version: str, cache: Path) -> Path:
    """The wheel of a version of torch for this Python, fetched where the cache lacks it."""

    def cached() -> Path | None:
        mine = set(sys_tags())
        for path in sorted(cache.glob("torch-*.whl")):
            _, found, _, tags = parse_wheel_filename(path.name)
            if found.public == Version(version).public and tags & mine:
                return path
        return None

    if cached() is None:
        print(f"fetching torch {version} into {cache} …", flush=True)
        pip("download", "--no-deps", "-d", cache, f"torch=={version}")
    found = cached()
    if found is None:
        sys.exit(f"matrix: pip fetched no wheel of torch {version} for Python {platform.python_version()}")
    return found


def unpacked(wheel: Path) -> Path:
    """The folder of a torch wheel's files, with the stubs that it needs in `stubs`."""
    folder = wheel.with_suffix("")
    if not folder.exists():
        print(f"unpacking {wheel.name} …", flush=True)
        part = folder.with_name(f"{folder.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(part)
        write_stubs(part / "torch" / "lib", part / "stubs")
        part.rename(folder)
    return folder


def run_tests(torch: Path, site: Path, report: Path) -> Outcome:
    """The tests under the torch in a folder, on the package in another."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(site), str(torch)]),
        "LD_LIBRARY_PATH": str(torch / "stubs"),
        "RECBLR_REQUIRE_NATIVE": "1",
    }
    facts = "import torch, recblr; print(torch.__version__, torch.__file__, recblr.__file__)"
    said = subprocess.run(
        [sys.executable, "-c", facts], env=environment, cwd=site, capture_output=True, text=True, check=True
    )
    version, *files = said.stdout.split()
    for file, folder in zip(files, (torch, site), strict=True):
        if not Path(file).is_relative_to(folder):
            raise RuntimeError(f"{file} was imported, not the one in {folder}")
    print(f"== torch {version}", flush=True)
    pytest = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}")
    subprocess.run([*pytest, *TESTS], env=environment, cwd=ROOT, check=False)
    suite = ElementTree.parse(report).getroot().find("testsuite")
    if suite is None:
        raise RuntimeError(f"pytest left no report on torch {version}")
    total, skipped, *failed = (int(suite.attrib[key]) for key in ("tests", "skipped", "failures", "errors"))
    passed = total - skipped - sum(failed)
    return Outcome(version, passed, sum(failed), skipped, float(suite.attrib["time"]))


def main(wheel: Path, versions: list[str]) -> int:
    """Test under every version and print the table; the exit code."""
    cache = Path(os.environ.get("RECBLR_TORCH_CACHE") or CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="matrix-") as scratch:
        site = Path(scratch) / "site"
        pip("install", "--no-deps", "--target", site, wheel)
        outcomes = [
            run_tests(unpacked(torch_wheel(version, cache)), site, Path(scratch) / "report.xml")
            for version in versions
        ]
    print(f"\n{wheel.name}, {' and '.join(TESTS)}")
    print(f"{'torch':16}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for o in outcomes:
        print(f"{o.torch:16}{o.passed:8}{o.failed:8}{o.skipped:9}{o.seconds:9.0f}")
    return 1 if any(o.failed or not o.passed for o in outcomes) else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python tools/matrix.py WHEEL VERSION...")
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
