"""Run the tests of operators and layers on one wheel with several versions of torch, and print a table.

    python tools/matrix.py WHEEL VERSION...

The program downloads only the torch wheels (0.2 to 1 GB each), without their dependencies.  It unpacks and
keeps them in RECBLR_TORCH_CACHE, by default recblr/torch in the user's cache folder.  A CUDA build of torch
gets stubs for the libraries that this machine lacks, so no GPU is needed, and none is used.  pytest,
Hypothesis and the dependencies of torch come from the environment that runs this program.
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
    """The results of pytest with one version of torch."""

    torch: str
    passed: int
    failed: int
    skipped: int
    seconds: float


def pip(*arguments: str | Path) -> None:
    """Run pip; exit if it fails, after pip has printed the reason."""
    if subprocess.run([*PIP, *arguments], check=False).returncode:
        sys.exit(f"matrix: pip {' '.join(map(str, arguments))} failed")


def torch_wheel(version: str, cache: Path) -> Path:
    """The wheel of a version of torch for this Python, downloaded if the cache lacks it."""

    def cached() -> Path | None:
        mine = set(sys_tags())
        for path in sorted(cache.glob("torch-*.whl")):
            _, found, _, tags = parse_wheel_filename(path.name)
            if found.public == Version(version).public and tags & mine:
                return path
        return None

    if cached() is None:
        print(f"downloading torch {version} into {cache} …", flush=True)
        pip("download", "--no-deps", "-d", cache, f"torch=={version}")
    found = cached()
    if found is None:
        sys.exit(f"matrix: pip has no wheel of torch {version} for Python {platform.python_version()}")
    return found


def unpacked(wheel: Path) -> Path:
    """The folder with the files of a torch wheel; its subfolder `stubs` has the stubs that it needs."""
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
    """Run the tests with the torch in the folder `torch` and the package in the folder `site`."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(site), str(torch)]),
        "LD_LIBRARY_PATH": str(torch / "stubs"),
        "RECBLR_REQUIRE_NATIVE": "1",
    }
    facts = "import torch, recblr; print(torch.__version__, torch.__file__, recblr.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", facts], env=environment, cwd=site, capture_output=True, text=True, check=True
    )
    version, *files = done.stdout.split()
    for file, folder in zip(files, (torch, site), strict=True):
        if not Path(file).is_relative_to(folder):
            raise RuntimeError(f"Python imported {file} instead of the one in {folder}")
    print(f"== torch {version}", flush=True)
    pytest = (sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--junitxml={report}")
    subprocess.run([*pytest, *TESTS], env=environment, cwd=ROOT, check=False)
    suite = ElementTree.parse(report).getroot().find("testsuite")
    if suite is None:
        raise RuntimeError(f"pytest wrote no report for torch {version}")
    total, skipped, *failed = (int(suite.attrib[key]) for key in ("tests", "skipped", "failures", "errors"))
    passed = total - skipped - sum(failed)
    return Outcome(version, passed, sum(failed), skipped, float(suite.attrib["time"]))


def main(wheel: Path, versions: list[str]) -> int:
    """Test with every version and print the table; return the exit status."""
    cache = Path(os.environ.get("RECBLR_TORCH_CACHE") or CACHE)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="matrix-") as scratch:
        site = Path(scratch) / "site"
        pip("install", "--no-deps", "--target", site, wheel)
        # Before the first test, so that a missing version ends the program at once and not after minutes.
        folders = [unpacked(torch_wheel(version, cache)) for version in versions]
        outcomes = [run_tests(folder, site, Path(scratch) / "report.xml") for folder in folders]
    print(f"\n{wheel.name}, {' and '.join(TESTS)}")
    print(f"{'torch':16}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for o in outcomes:
        print(f"{o.torch:16}{o.passed:8}{o.failed:8}{o.skipped:9}{o.seconds:9.0f}")
    return 1 if any(o.failed or not o.passed for o in outcomes) else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: python tools/matrix.py WHEEL VERSION...")
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
