"""Check the contents of repaired wheels: print one line for each finding, and exit with 1 if one is wrong.

    python tools/check_wheel.py WHEEL...

The check compares what a wheel promises with what it contains: its platform tag with the symbol versions that
its libraries need, and its metadata with pyproject.toml.  It needs auditwheel, for the platform policies, and
pyelftools.
"""

import base64
import csv
import hashlib
import importlib.resources
import io
import json
import re
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from email import message_from_bytes
from email.message import Message
from pathlib import Path, PurePosixPath

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, parse_wheel_filename
from shared_library import SharedLibrary

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]

SUFFIXES = {".py", ".pyi", ".so", ".typed"}
PAGE = tuple(f"recblr/serving/http/page/{name}" for name in ("index.html", "app.js", "style.css"))
LARGEST, LARGEST_WITH_CUDA = 8 << 20, 64 << 20  # bytes, compressed
SYSTEM = re.compile(r"(libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+|ld-linux[\w-]*)\.so\.\d+")


@dataclass(frozen=True)
class Native:
    """A native library that belongs in a wheel.

    exports: the symbols that it must export.  needs: the libraries that it must need, besides the system's.
    always: whether every wheel must contain it.
    """

    path: re.Pattern[str]
    exports: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    always: bool = True


NATIVE = (
    Native(re.compile(r"recblr/_core\.[\w-]+\.so"), exports=frozenset({"PyInit__core"})),
    # The wheel does not contain libtorch.so: the loader finds the one of the torch that is already imported.
    Native(re.compile(r"recblr/librecblr_ops\.so"), needs=frozenset({"libtorch.so"})),
    # Only wheels that were built with nvcc contain this one.
    Native(re.compile(r"recblr/librecblr_ops_cuda\.so"), needs=frozenset({"libtorch.so"}), always=False),
)


@dataclass(frozen=True)
class Finding:
    """One sentence about a wheel, and whether this part of the wheel is correct."""

    good: bool
    sentence: str


def _same(what: str, found: object, wanted: object) -> Finding:
    return Finding(found == wanted, f"{what}: {found}" + ("" if found == wanted else f", not {wanted}"))


def _files(names: list[str], folder: str) -> Iterator[Finding]:
    shared = [name for name in names if ".so" in PurePosixPath(name).suffixes]
    belong = [sum(bool(native.path.fullmatch(name)) for name in shared) for native in NATIVE]
    expected = sum(belong) == len(shared) and all(
        count == 1 or (count == 0 and not native.always) for native, count in zip(NATIVE, belong, strict=True)
    )
    yield Finding(expected, f"native libraries: {', '.join(shared) or 'none'}")
    missing = [name for name in ("recblr/py.typed", "recblr/_core.pyi", *PAGE) if name not in names]
    yield Finding(not missing, f"lacks {', '.join(missing)}" if missing else "is typed, and has the page")
    foreign = [
        name
        for name in names
        if not name.startswith(folder)
        and name not in PAGE
        and (not name.startswith("recblr/") or PurePosixPath(name).suffix not in SUFFIXES)
    ]
    what = f"files that do not belong there: {', '.join(foreign)}" if foreign else "only the package"
    yield Finding(not foreign, f"contains {what}")


def _record(archive: zipfile.ZipFile, names: list[str], folder: str) -> Finding:
    own = f"{folder}RECORD"
    rows = csv.reader(io.StringIO(archive.read(own).decode()))
    recorded = {name: digest for name, digest, _ in rows if name != own}

    def digest(name: str) -> str:
        raw = hashlib.sha256(archive.read(name)).digest()
        return "sha256=" + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    actual = {name: digest(name) for name in names if name != own}
    wrong = sorted({name for name, _ in actual.items() ^ recorded.items()})
    return Finding(not wrong, f"RECORD is wrong about {', '.join(wrong)}" if wrong else "RECORD is correct")


def _library(name: str, library: SharedLibrary, native: Native) -> Iterator[Finding]:
    found = ", ".join(sorted(library.exports)) or "nothing"
    yield Finding(library.exports == native.exports, f"{name} exports {found}")
    paths = ", ".join(library.run_paths)
    yield Finding(not paths, f"{name} has {f'the run path {paths}' if paths else 'no run path'}")
    others = {needed for needed in library.needed if not SYSTEM.fullmatch(needed)}
    yield Finding(others == native.needs, f"{name} needs {', '.join(sorted(library.needed))}")
    if library.executable_stack:
        yield Finding(False, f"{name} needs an executable stack, which newer systems refuse")


def _newest(versions: set[str], prefix: str) -> str:
    numbers = (re.fullmatch(rf"{prefix}_([\d.]+)", version) for version in versions)
    found = [[int(part) for part in number[1].split(".")] for number in numbers if number]
    return ".".join(map(str, max(found, default=["none"])))


def _platform(tag: str, libraries: list[SharedLibrary]) -> Finding:
    """Whether every system with this platform tag has the symbol versions that the libraries need."""
    policy_file = importlib.resources.files("auditwheel.policy") / "manylinux-policy.json"
    named = re.fullmatch(r"(manylinux\w+?)_(x86_64|aarch64)", tag)
    policies = [
        p for p in json.loads(policy_file.read_text()) if named and named[1] in (p["name"], *p["aliases"])
    ]
    if named is None or not policies:
        return Finding(False, f"the platform tag {tag} promises nothing: run auditwheel repair")
    asked = {version for library in libraries for version in library.versions}
    offered = policies[0]["symbol_versions"][named[2]]
    beyond = asked - {f"{prefix}_{number}" for prefix, numbers in offered.items() for number in numbers}
    if beyond:
        return Finding(False, f"needs {', '.join(sorted(beyond))}, which {tag} does not promise")
    oldest = f"glibc {_newest(asked, 'GLIBC')} and GLIBCXX_{_newest(asked, 'GLIBCXX')}"
    return Finding(True, f"needs {oldest} or later, as {tag} promises")


def _metadata(metadata: Message, names: list[str], folder: str) -> Iterator[Finding]:
    yield _same("name", metadata["Name"], PROJECT["name"])
    yield _same("version", metadata["Version"], PROJECT["version"])
    yield _same("Python", SpecifierSet(metadata["Requires-Python"]), SpecifierSet(PROJECT["requires-python"]))
    required = [Requirement(line) for line in metadata.get_all("Requires-Dist", [])]
    always = sorted(str(requirement) for requirement in required if "extra" not in str(requirement.marker))
    yield _same("depends on", always, sorted(str(Requirement(line)) for line in PROJECT["dependencies"]))
    yield _same("licence", metadata["License-Expression"], PROJECT["license"])
    for file in PROJECT["license-files"]:
        there = file in metadata.get_all("License-File", []) and f"{folder}licenses/{file}" in names
        yield Finding(there, f"{'contains' if there else 'lacks'} the text of the licence, {file}")


def findings(path: Path) -> Iterator[Finding]:
    """All findings about a wheel, good and bad.

    Raises InvalidWheelFilename, BadZipFile, OSError, or KeyError if a part of the metadata is missing.
    """
    tags = parse_wheel_filename(path.name)[3]
    with zipfile.ZipFile(path) as archive:
        names = [name for name in archive.namelist() if not name.endswith("/")]
        folder = "-".join(path.name.split("-")[:2]) + ".dist-info/"
        yield from _files(names, folder)
        size = path.stat().st_size
        largest = LARGEST_WITH_CUDA if any(NATIVE[-1].path.fullmatch(name) for name in names) else LARGEST
        yield Finding(size <= largest, f"has {size / 1e6:.2f} MB; at most {largest / 1e6:.2f} MB are allowed")
        libraries = []
        for name in names:
            for native in NATIVE:
                if native.path.fullmatch(name):
                    libraries.append(SharedLibrary(archive.read(name)))
                    yield from _library(name, libraries[-1], native)
        for platform in sorted({tag.platform for tag in tags}):
            yield _platform(platform, libraries)
        stated = message_from_bytes(archive.read(f"{folder}WHEEL")).get_all("Tag", [])
        yield _same("tags", sorted(stated), sorted(str(tag) for tag in tags))
        yield from _metadata(message_from_bytes(archive.read(f"{folder}METADATA")), names, folder)
        scripts = archive.read(f"{folder}entry_points.txt").decode().splitlines()
        for name, target in PROJECT["scripts"].items():
            there = f"{name} = {target}" in scripts
            yield Finding(
                there, f"{'installs' if there else 'does not install'} the command {name} = {target}"
            )
        yield _record(archive, names, folder)


def main(paths: list[Path]) -> int:
    """Print every finding; return the exit status."""
    if not paths:
        print("usage: python tools/check_wheel.py WHEEL...", file=sys.stderr)
        return 2
    wrong = 0
    for path in paths:
        print(path.name)
        try:
            for finding in findings(path):
                print(f"  {'ok   ' if finding.good else 'WRONG'} {finding.sentence}")
                wrong += not finding.good
        except (InvalidWheelFilename, zipfile.BadZipFile, OSError, KeyError) as error:
            print(f"  WRONG this file cannot be read as a wheel: {error}")
            wrong += 1
    print(f"wheels checked: {len(paths)}, wrong findings: {wrong}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main([Path(argument) for argument in sys.argv[1:]]))
